"""The HTTP side that all services have: probes, metrics, one log line per request, and the server itself."""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Mapping
from socket import socket
from time import perf_counter
from types import FrameType
from typing import Annotated

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, Histogram, generate_latest
from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from shared import problems
from shared.settings import HttpSettings

log = structlog.get_logger(__name__)

REQUESTS = Histogram("http_request_seconds", "Time to the end of an answer.", ["method", "route", "status"])
CHECK_TIMEOUT_SECONDS = 3.0
MAX_BODY_BYTES = 64 * 1024
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})

Check = Callable[[], Awaitable[None]]


def probes(checks: Mapping[str, Check]) -> APIRouter:
    """``/livez`` (the process answers), ``/readyz`` (each named check passes) and ``/metrics`` (Prometheus).

    ``/readyz?exclude=NAME``, repeatable, leaves checks out: a load balancer must not take a service away for trouble
    that its requests do not meet.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz(exclude: Annotated[frozenset[str], Query()] = frozenset()) -> JSONResponse:
        asked = {name: check for name, check in checks.items() if name not in exclude}
        results = dict(zip(asked, await asyncio.gather(*map(_outcome, asked.values())), strict=True))
        failing = {name: reason for name, reason in results.items() if reason != "ok"}
        return JSONResponse({"status": "not ready" if failing else "ready", "checks": results}, 503 if failing else 200)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await check()
    except Exception as error:  # noqa: BLE001 - any failure of a check means "not ready", with its reason
        return str(error)[:200] or type(error).__name__
    return "ok"


class AccessLog:
    """ASGI middleware: one line per request with the route's template; its values may be codes and states."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, then log it."""
        if scope["type"] != "http" or scope["path"] in _PROBES:
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 0

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            route = getattr(scope.get("route"), "path", "(no route)")
            seconds = perf_counter() - started
            REQUESTS.labels(scope["method"], route, str(status)).observe(seconds)
            log.info(
                "http.request",
                method=scope["method"],
                route=route,
                status=status,
                milliseconds=round(seconds * 1000, 1),
            )


class BodyLimit:
    """ASGI middleware: refuses a body that is too large; FastAPI reads it all before anybody is asked for a token."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = RequestBodyLimitMiddleware(app, max_bytes)  # counts what comes without a length
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or answer 400 or 413 without having read its body."""
        length = Headers(scope=scope).get("content-length") if scope["type"] == "http" else None
        problem: problems.Problem | None = None
        if length is not None and not (length.isascii() and length.isdigit()):
            problem = problems.Problem(400, "invalid_content_length", "Content-Length is not a number.")
        elif length is not None and (len(length) > 15 or int(length) > self._max_bytes):
            problem = problems.too_large(f"Send at most {self._max_bytes} bytes.")
        if problem is None:
            await self._app(scope, receive, send)
            return
        problem.headers["Connection"] = "close"
        await problems.response(problem)(scope, receive, send)


def install(app: FastAPI, *, checks: Mapping[str, Check], max_body_bytes: int = MAX_BODY_BYTES) -> None:
    """Give an application its probes, its access log, its problem details and a limit to what it reads."""
    problems.install(app)
    app.include_router(probes(checks))
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    app.add_middleware(AccessLog)


class _Server(uvicorn.Server):
    """Tells the application when it is asked to stop, before waiting for the requests in flight."""

    _loop: asyncio.AbstractEventLoop | None = None

    @override
    async def startup(self, sockets: list[socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        state = getattr(self.config.app, "state", None)
        on_exit: Callable[[], None] | None = getattr(state, "on_exit", None)
        if on_exit is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(on_exit)


def serve(app: FastAPI, settings: HttpSettings) -> None:
    """Run until SIGTERM or SIGINT; in-flight requests get ten seconds. Exits with status 3 if the start fails.

    ``app.state.on_exit``, where there is one, is called on the event loop as soon as the signal has come: answers that
    would go on for ever have to end by themselves.
    """
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=10,
        # Header values of a proxy are trusted only where the operator says so.
        proxy_headers=bool(os.environ.get("FORWARDED_ALLOW_IPS")),
    )
    # What was made until here lives as long as the process: the collector need not look at it again, nor look as often
    # as its default of 700 new objects, which costs a busy service a fifth of its time.
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    server = _Server(config)
    server.run()
    if not server.started:
        raise SystemExit(3)
