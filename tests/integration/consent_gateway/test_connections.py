"""Many requests at once over real connections: each has one to itself, and gives it back."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from consent_gateway.entra.connections import Connections
from support.eventually import eventually


class Server:
    """An HTTP server that answers when it is told to; ``connections`` counts who came."""

    def __init__(self) -> None:
        self.connections = 0
        self.waiting = 0
        self.go = asyncio.Event()
        self.body, self.more = b'{"fine": true}', b""

    async def busy(self) -> int:
        return self.waiting

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.waiting += 1
                await self.go.wait()
                self.waiting -= 1
                head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n" % (len(self.body), self.more)
                writer.write(head + self.body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def client_of(server: Server, *, most: int) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    connections = Connections(ssl.create_default_context(), most=most)
    async with httpx.AsyncClient(transport=connections, trust_env=False) as client:
        yield client, f"http://127.0.0.1:{port}/"
    listening.close()


async def test_requests_one_after_another_use_one_connection() -> None:
    server = Server()
    server.go.set()
    async with client_of(server, most=4) as (client, url):
        for _ in range(10):
            assert (await client.get(url)).json() == {"fine": True}
    assert server.connections == 1


async def test_requests_at_once_wait_for_none_and_some_connections_are_kept() -> None:
    server = Server()
    async with client_of(server, most=4) as (client, url):
        together = [asyncio.create_task(client.get(url)) for _ in range(12)]
        await eventually(server.busy, lambda count: count == len(together), what="all of them")
        server.go.set()
        assert {answer.status_code for answer in await asyncio.gather(*together)} == {200}
        assert server.connections == 12
        await asyncio.gather(*(client.get(url) for _ in range(4)))
        assert server.connections == 12


async def test_an_answer_that_nobody_waits_for_any_more_spoils_no_other() -> None:
    server = Server()
    async with client_of(server, most=4) as (client, url):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(url)
        server.body = b'{"fine": "again"}'
        server.go.set()
        assert (await client.get(url)).json() == {"fine": "again"}


async def test_what_is_encoded_on_the_wire_is_decoded_once() -> None:
    server = Server()
    server.go.set()
    server.body, server.more = gzip.compress(b'{"fine": true}'), b"content-encoding: gzip\r\n"
    async with client_of(server, most=1) as (client, url):
        assert (await client.get(url)).json() == {"fine": True}
