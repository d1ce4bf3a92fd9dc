"""A client of very many streams that costs next to nothing: ``python -m bench.listening PORT STREAMS TOKEN``.

It opens the streams, prints ``ready``, and then, for each line ``COUNT`` on its standard input, waits until so many
events have come on every stream. It then prints, as JSON, when each event came on the last of them (Unix), by revision.
"""

import asyncio
import json
import re
import sys
from time import time
from typing import cast

import uvloop

REVISION = re.compile(rb'\ndata: [^\n]*?"revision":(\d+)[^\n]*\n')
AT_ONCE = 100


class Listening(asyncio.Protocol):
    """One stream."""

    def __init__(self, request: bytes, arrivals: "Arrivals") -> None:
        self._request = request
        self._arrivals = arrivals
        self._pending = b""
        self.begun = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._pending + data
        if not self.begun.is_set() and b"retry:" in data:
            self.begun.set()
        end = 0
        for found in REVISION.finditer(data):
            self._arrivals.note(int(found[1]))
            end = found.end() - 1
        # An event that is not whole yet; the line break before the next one's data belongs to it.
        self._pending = data[max(end, len(data) - 8192) :]


class Arrivals:
    """What has come on all streams together."""

    def __init__(self) -> None:
        self.last: dict[int, float] = {}
        self.count = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    def note(self, revision: int) -> None:
        """An event came on one of the streams."""
        self.last[revision] = time()
        self.count += 1
        if self.count == self._wanted:
            self._reached.set()

    async def until(self, count: int) -> None:
        """Return when so many have come, and begin anew."""
        self._wanted = count
        if self.count < count:
            await self._reached.wait()
        sys.stdout.write(json.dumps(self.last) + "\n")
        sys.stdout.flush()
        self.last, self.count, self._wanted = {}, 0, 0
        self._reached.clear()


async def main() -> None:
    port, streams, token = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    loop, arrivals = asyncio.get_running_loop(), Arrivals()
    request = f"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    for start in range(0, streams, AT_ONCE):
        some = range(start, min(streams, start + AT_ONCE))
        opened = await asyncio.gather(
            *(loop.create_connection(lambda: Listening(request, arrivals), "127.0.0.1", port) for _ in some)
        )
        await asyncio.gather(*(protocol.begun.wait() for _, protocol in opened))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await arrivals.until(int(line) * streams)


if __name__ == "__main__":
    uvloop.run(main())
