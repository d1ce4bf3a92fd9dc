"""A reverse proxy that terminates TLS, as an operator puts one before a service; it says who asked and how."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from entra_sandbox.certificates import prepare
from support.eventually import eventually

# Of the connection, not of the message (RFC 9110, 7.6.1); the lengths are written anew.
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"te", b"upgrade", b"content-length"})


@dataclass(frozen=True)
class Front:
    """Where people reach the service, and the CA that they trust."""

    url: str
    ca: Path


class _Forward:
    """ASGI application: hands every request on, with the address of who sent it after what that one claimed."""

    def __init__(self, upstream: httpx.AsyncClient) -> None:
        self._upstream = upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        kept = [(name, value) for name, value in request.headers.raw if name not in _HOP_BY_HOP]
        claimed = [value.decode() for name, value in kept if name == b"x-forwarded-for"]
        address = request.client.host if request.client is not None else ""
        headers = [one for one in kept if not one[0].startswith(b"x-forwarded-")]
        headers += [
            (b"x-forwarded-for", ", ".join([*claimed, address]).encode()),
            (b"x-forwarded-proto", request.url.scheme.encode()),
        ]
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        sent = self._upstream.build_request(request.method, path, headers=headers, content=await request.body())
        answer = await self._upstream.send(sent)
        response = Response(answer.content, answer.status_code)
        response.raw_headers = [
            (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP
        ] + [(b"content-length", str(len(answer.content)).encode())]
        await response(scope, receive, send)


@asynccontextmanager
async def reverse_proxy(upstream: str, *, port: int, folder: Path) -> AsyncIterator[Front]:
    """A proxy on that port of this machine, by https, for as long as the context lasts."""
    tls = prepare(folder)
    async with httpx.AsyncClient(base_url=upstream, trust_env=False) as client:
        config = uvicorn.Config(
            _Forward(client),
            host="127.0.0.1",
            port=port,
            ssl_certfile=tls.certificate,
            ssl_keyfile=str(tls.key),
            log_config=None,
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())

        async def started() -> bool:
            return server.started

        await eventually(started, what="a reverse proxy")
        try:
            yield Front(f"https://localhost:{port}", tls.ca)
        finally:
            server.should_exit = True
            await serving
