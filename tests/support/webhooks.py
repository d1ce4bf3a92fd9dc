"""An endpoint for webhooks that records what arrives and can misbehave in every way an endpoint does."""

import asyncio
import contextlib
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

_order = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Received:
    """One POST. ``order`` grows over all receivers of the process."""

    path: str
    headers: dict[str, str]
    body: bytes
    order: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def answering(status: int, *, body: bytes = b"", **headers: str) -> Answer:
    """An answer with this status; ``retry_after="5"`` becomes a header."""

    async def answer(_: Received, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Answer", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return answer


async def hang(_: Received, writer: asyncio.StreamWriter) -> None:
    """Never answer; the connection stays open until the other side gives up."""
    await writer.wait_closed()


async def reset(_: Received, writer: asyncio.StreamWriter) -> None:
    """Cut the connection instead of answering."""
    writer.transport.abort()


async def drip(_: Received, writer: asyncio.StreamWriter) -> None:
    """Answer 200 with a body that never ends, a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


async def huge(_: Received, writer: asyncio.StreamWriter) -> None:
    """Answer 200 with a hundred megabytes."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n")
    for _megabyte in range(100):
        writer.write(b"x" * 1048576)
        await writer.drain()


async def endless(_: Received, writer: asyncio.StreamWriter) -> None:
    """Answer 200 with a body as fast as it is taken, which never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 65536)
        await writer.drain()


def raw(answer: bytes) -> Answer:
    """These bytes instead of an answer, and the end of the connection."""

    async def send(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    return send


def in_turn(*answers: Answer) -> Answer:
    """Each answer once, then the last one for ever."""
    left = list(answers)

    async def answer(received: Received, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(received, writer)

    return answer


@dataclass
class Receiver:
    """An HTTP server on the loopback address."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Answer = field(default_factory=lambda: answering(204))
    connections: int = 0

    def ids(self) -> list[str]:
        """Ids in the order of arrival, repeats included."""
        return [item.id for item in self.received]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                received = Received(path=head[0].split(" ")[1], headers=headers, body=body, order=next(_order))
                self.received.append(received)
                await self.answer(received, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver(answer: Answer | None = None, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that listens for as long as the context lasts."""
    made = Receiver()
    if answer is not None:
        made.answer = answer
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    made.url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
