"""What was asked of the sandbox: by route template, tenant and client; no secret, no token, no query string."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any

from entra_sandbox.model import Frozen

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("entra_sandbox.requests")

CUT = "cut"
"""In the state of a request whose connection is to be cut instead of being answered."""
_CAPACITY = 100_000
_QUIET = ("/livez", "/readyz", "/sandbox", "/static")


class LoggedRequest(Frozen):
    """One request that was answered, or whose connection was cut (`status` 0)."""

    sequence: int
    at: datetime
    listener: str
    method: str
    path: str
    operation: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    status: int
    aadsts: int | None = None
    duration_ms: float


class RequestQuery(Frozen):
    """Requests after a sequence number whose fields have these values."""

    after: int = 0
    listener: str | None = None
    method: str | None = None
    path: str | None = None
    operation: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    status: int | None = None


class RequestLog:
    """The latest requests, in memory: the oldest are forgotten beyond a hundred thousand."""

    def __init__(self) -> None:
        self._entries: deque[LoggedRequest] = deque(maxlen=_CAPACITY)
        self._sequence = 0

    def add(self, **values: object) -> LoggedRequest:
        """Notes a request."""
        self._sequence += 1
        entry = LoggedRequest.model_validate({"sequence": self._sequence, **values})
        self._entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forgets all; the sequence goes on."""
        self._entries.clear()

    def find(self, query: RequestQuery) -> Iterator[LoggedRequest]:
        """Requests that a query asks for, oldest first."""
        criteria = query.model_dump(exclude={"after"}, exclude_none=True)
        for entry in self._entries:
            if entry.sequence > query.after and all(getattr(entry, name) == value for name, value in criteria.items()):
                yield entry


class Recorder:
    """ASGI middleware that notes every request but those to the admin API, its pages and the probes, and cuts some."""

    def __init__(self, app: Asgi, *, log: RequestLog, listener: str) -> None:
        self._app, self._log, self._listener = app, log, listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and notes how it ended."""
        if scope["type"] != "http" or scope["path"].startswith(_QUIET):
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        state = scope.setdefault("state", {})

        async def observe(message: Message) -> None:
            nonlocal status
            if CUT in state:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            entry = self._log.add(
                at=datetime.now(UTC),
                listener=self._listener,
                method=scope["method"],
                path=getattr(scope.get("route"), "path", None) or "unknown",
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 2),
                **state.get("noted", {}),
            )
            logger.info("request", extra={"fields": entry.model_dump(exclude_none=True, exclude={"sequence", "at"})})
        if CUT in state:
            await _cut(state)


async def _cut(state: MutableMapping[str, Any]) -> None:
    """Breaks the connection of a request, which is in the log by now."""
    transport = state.get("transport")
    if transport is not None:
        transport.abort()
        # The server has to notice before this request ends, or it would complain of a missing answer.
        await asyncio.sleep(0.01)
