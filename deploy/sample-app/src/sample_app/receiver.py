"""The webhook endpoint: verify, remember, answer. In this order, and nothing else before the answer."""

import asyncio
import logging
import sqlite3
import time

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from sample_app.changes import Changes
from sample_app.faults import FaultMode, Faults
from sample_app.pushes import Push, Verdict, read
from sample_app.signatures import signer
from sample_app.store import StoreThread

_logger = logging.getLogger(__name__)
_LARGEST_BODY = 256 * 1024


class Receiver:
    """Takes in pushes.

    Answers 204 once a push is on disk, whatever its verdict: the sender has nothing to do about a duplicate, a stale
    push or one in a form this app cannot read, and would only repeat it. Answers 401 for a bad signature, 413 for a
    body that is too large and 503 when it cannot remember.
    """

    def __init__(self, store: StoreThread, faults: Faults, changes: Changes) -> None:
        self._store = store
        self._faults = faults
        self._changes = changes

    async def receive(self, request: Request) -> Response:
        """The answer to one push."""
        started = time.perf_counter()
        webhook_id = request.headers.get("webhook-id", "")
        try:
            verdict, app_id, response = await self._take_in(request, webhook_id)
        except (sqlite3.Error, ClientDisconnect) as error:
            _logger.warning("push not remembered", extra={"fields": {"error": type(error).__name__}})
            return _problem(503, "The push could not be stored. Send it again.", {"Retry-After": "5"})
        fields = {
            "webhook_id": webhook_id[:200],
            "app_id": app_id,
            "verdict": str(verdict),
            "status": response.status_code,
            "duration_ms": round((time.perf_counter() - started) * 1000, 1),
        }
        _logger.info("push", extra={"fields": fields})
        self._changes.announce()
        return response

    async def _take_in(self, request: Request, webhook_id: str) -> tuple[Verdict, str | None, Response]:
        fault = self._faults.take()
        if fault.mode in {FaultMode.ERROR, FaultMode.GONE}:
            await self._turn_away(webhook_id, Verdict.FAULT)
            status = 500 if fault.mode is FaultMode.ERROR else 410
            return Verdict.FAULT, None, _problem(status, "This app was told to fail.")
        body = await _body(request)
        if body is None:
            await self._turn_away(webhook_id, Verdict.REJECTED)
            return Verdict.REJECTED, None, _problem(413, f"A push has at most {_LARGEST_BODY} bytes.")
        secrets = await self._store.run(lambda store: store.secrets())
        if not secrets:
            return Verdict.REJECTED, None, _problem(503, "Not subscribed yet. Send it again.", {"Retry-After": "1"})
        app_id = None if fault.mode is FaultMode.REJECT else signer(body, request.headers, secrets)
        if app_id is None:
            await self._turn_away(webhook_id, Verdict.REJECTED)
            return Verdict.REJECTED, None, _problem(401, "The signature does not verify.")
        verdict = await self._accept(app_id, webhook_id, body)
        if fault.mode is FaultMode.HANG:
            await asyncio.sleep(fault.seconds)
        return verdict, app_id, Response(status_code=204)

    async def _accept(self, app_id: str, webhook_id: str, body: bytes) -> Verdict:
        push: Push | None
        try:
            push = read(body)
        except ValueError as error:
            _logger.warning("unreadable push", extra={"fields": {"webhook_id": webhook_id, "reason": str(error)}})
            push = None
        text = body.decode()
        return await self._store.run(
            lambda store: store.accept(app_id=app_id, webhook_id=webhook_id, push=push, body=text)
        )

    async def _turn_away(self, webhook_id: str, verdict: Verdict) -> None:
        await self._store.run(lambda store: store.turn_away(webhook_id=webhook_id, verdict=verdict))


async def _body(request: Request) -> bytes | None:
    """The raw body, or None when it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BODY:
            return None
    return bytes(body)


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Problem details (RFC 9457)."""
    body = {"type": "about:blank", "status": status, "detail": detail}
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")
