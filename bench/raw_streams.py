"""The floor of the streams: a bare server that writes what it reads from Kafka to every connection, and nothing else.

``python -m bench.raw_streams BOOTSTRAP TOPIC`` prints its port. It stores nothing, looks at nobody's token or owner,
resumes nobody, and waits for no slow reader.
"""

import asyncio
import sys
from typing import cast

import uvloop
from aiokafka import AIOKafkaConsumer

from notifier.notifications import notice_of
from shared.events import decode

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nretry: 2000\n\n"


class Connected(asyncio.Protocol):
    """One reader."""

    def __init__(self, readers: set[asyncio.Transport]) -> None:
        self._readers = readers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, _: bytes) -> None:
        self._transport.write(HEAD)
        self._readers.add(self._transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._readers.discard(self._transport)


async def main() -> None:
    bootstrap_servers, topic = sys.argv[1:]
    readers: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Connected(readers), "127.0.0.1", 0)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async for record in consumer:
        notice = notice_of(decode(record.headers, record.value))
        if notice is not None:
            place = f"{record.partition}-{record.offset}"
            event = f"event: {notice.type}\nid: {place}\ndata: {notice.body('app-0').decode()}\n\n".encode()
            for reader in readers:
                reader.write(event)


if __name__ == "__main__":
    uvloop.run(main())
