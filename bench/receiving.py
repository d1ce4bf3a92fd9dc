"""A receiver that costs next to nothing: `python -m bench.receiving` prints its port and answers every POST with 204.

It reads just enough HTTP to find the end of a request that carries a Content-Length, and notes when each `webhook-id`
came first. `GET /arrivals` gives these times (Unix) as JSON and forgets them; a POST to `/slow/...` is answered after
ten seconds.
"""

import asyncio
import json
import sys
from time import time
from typing import cast

import uvloop

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
SLOW_SECONDS = 10.0


class Counting(asyncio.Protocol):
    """One connection."""

    def __init__(self, arrivals: dict[str, float]) -> None:
        self._arrivals = arrivals
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        data, now = self._pending + data, time()
        answers = 0
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end]
            lower = head.lower()
            length = int(_value(lower, b"content-length:") or b"0")
            if len(data) < end + 4 + length:
                break
            data = data[end + 4 + length :]
            if lower.startswith(b"get /arrivals"):
                self._tell()
                continue
            self._arrivals.setdefault(_value(lower, b"webhook-id:").decode(), now)
            if lower.startswith(b"post /slow/"):
                asyncio.get_running_loop().call_later(SLOW_SECONDS, self._answer)
            else:
                answers += 1
        self._pending = data
        if answers:
            self._transport.write(ANSWER * answers)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER)

    def _tell(self) -> None:
        body = json.dumps(self._arrivals).encode()
        self._arrivals.clear()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def _value(head: bytes, name: bytes) -> bytes:
    at = head.find(name)
    return head[at + len(name) :].split(b"\r\n", 1)[0].strip() if at >= 0 else b""


async def main() -> None:
    arrivals: dict[str, float] = {}
    server = await asyncio.get_running_loop().create_server(lambda: Counting(arrivals), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
