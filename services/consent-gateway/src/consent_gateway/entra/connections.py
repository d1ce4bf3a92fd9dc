"""Connections for many small requests at once: httpx with a pool of its own for each request in flight.

One shared pool is looked through, connection by connection, whenever a request starts or ends (httpcore 1.0):
with dozens of connections that costs more than the request. Here each request takes a whole transport, with at most one
connection for each host, and gives it back when its answer has arrived.
"""

import ssl

import httpx
from typing_extensions import override

# Login and Graph.
HOSTS = 2


class Connections(httpx.AsyncBaseTransport):
    """A transport for an ``httpx.AsyncClient``. ``most`` is how many idle ones are kept, not how many may be in use."""

    def __init__(self, verify: ssl.SSLContext, *, most: int) -> None:
        self._verify = verify
        self._most = most
        self._idle: list[httpx.AsyncHTTPTransport] = []

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, read to its end: so the connection is free again when it is handed out."""
        transport = self._idle.pop() if self._idle else self._new()
        try:
            answer = await transport.handle_async_request(request)
            try:
                parts = [part async for part in _stream(answer)]
            finally:
                await answer.aclose()
        finally:
            # After a failure or a cancellation httpcore has dropped the connection by itself.
            if len(self._idle) < self._most:
                self._idle.append(transport)
            else:
                await transport.aclose()
        # As it came over the wire: the client decodes it by its headers.
        return httpx.Response(
            answer.status_code,
            headers=answer.headers,
            stream=httpx.ByteStream(b"".join(parts)),
            extensions=answer.extensions,
        )

    @override
    async def aclose(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._idle.pop().aclose()

    def _new(self) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=HOSTS, max_keepalive_connections=HOSTS)
        return httpx.AsyncHTTPTransport(verify=self._verify, trust_env=False, limits=limits)


def _stream(answer: httpx.Response) -> httpx.AsyncByteStream:
    if not isinstance(answer.stream, httpx.AsyncByteStream):
        raise TypeError("an asynchronous transport answers with an asynchronous stream")
    return answer.stream
