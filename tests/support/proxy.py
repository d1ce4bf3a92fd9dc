"""An HTTP proxy that tunnels (``CONNECT``), tells what it was asked for, and can refuse or hang."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """It leads every tunnel to ``port`` of this machine, whatever was asked for: names need not exist."""

    port: int
    url: str = ""
    status: int = 200
    # Of what is asked for: those starting so are never answered.
    hangs_at: str | None = None
    asked: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            self.asked.append(target := head.split(" ", 2)[1])
            if self.hangs_at is not None and target.startswith(self.hangs_at):
                await reader.read()
                return
            writer.write(f"HTTP/1.1 {self.status} Answer\r\n\r\n".encode())
            if self.status != 200:
                return
            inner, outer = await asyncio.open_connection("127.0.0.1", self.port)
            with contextlib.closing(outer):
                await asyncio.wait(
                    [asyncio.create_task(_copy(reader, outer)), asyncio.create_task(_copy(inner, writer))],
                    return_when=asyncio.FIRST_COMPLETED,
                )


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    """A proxy for as long as the context lasts."""
    made, tasks = Proxy(port=port), set[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.url = f"http://us:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
