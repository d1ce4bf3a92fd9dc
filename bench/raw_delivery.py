"""The floor of delivery: a bare loop that reads a topic with aiokafka, signs and posts with aiohttp, and writes down.

64 posts in flight; one batched write to MongoDB at a time, of all that came since the last one (at least 200, unless
nothing more comes). It keeps no state before the POST, knows no endpoint apart and retries nothing.
"""

import asyncio
import base64
import gc
import hmac
import os
import sys
from datetime import UTC, datetime
from time import perf_counter, time
from typing import Any

import aiohttp
import uvloop
from aiokafka import AIOKafkaConsumer
from pymongo import AsyncMongoClient
from pymongo.write_concern import WriteConcern

from bench.webhooks import BODY_BYTES, ENDPOINTS

IN_FLIGHT = 64
INSERT = 200
QUIET_SECONDS = 0.05


class Raw:
    """The loop."""

    def __init__(self, rows: Any, port: int, count: int) -> None:  # noqa: ANN401 - a driver's collection
        self._rows = rows
        self._port = port
        self._count = count
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(maxsize=2 * INSERT)
        self._results: list[dict[str, Any]] = []
        self._enough = asyncio.Event()
        self._key = os.urandom(32)
        self._written = 0

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        """Work for ever; print the seconds from the first record to the last write once ``count`` are written."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            tasks = [asyncio.create_task(self._post(session)) for _ in range(IN_FLIGHT)]
            _say("ready")
            while not (batch := await consumer.getmany(timeout_ms=1000)):
                pass
            tasks.append(asyncio.create_task(self._write(perf_counter())))
            while True:
                for records in batch.values():
                    for record in records:
                        message_id = dict(record.headers)["ce_id"].decode()
                        await self._queue.put((message_id, record.value[:BODY_BYTES]))
                batch = await consumer.getmany(timeout_ms=200)

    async def _post(self, session: aiohttp.ClientSession) -> None:
        number = 0
        while True:
            message_id, body = await self._queue.get()
            now = int(time())
            signed = hmac.digest(self._key, f"{message_id}.{now}.".encode() + body, "sha256")
            headers = {
                "webhook-id": message_id,
                "webhook-timestamp": str(now),
                "webhook-signature": "v1," + base64.b64encode(signed).decode(),
                "content-type": "application/json",
            }
            number += 1
            url = f"http://127.0.0.1:{self._port}/hook/{number % ENDPOINTS}"
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
                self._results.append({"_id": message_id, "status": answer.status, "at": datetime.now(UTC)})
            if len(self._results) >= INSERT:
                self._enough.set()

    async def _write(self, started: float) -> None:
        while True:
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._enough.wait()
            except TimeoutError:
                pass
            self._enough.clear()
            if self._results:
                batch, self._results = self._results, []
                await self._rows.insert_many(batch, ordered=False)
                self._written += len(batch)
                if self._written == self._count:
                    _say(str(perf_counter() - started))


async def _main(bootstrap: str, topic: str, mongo_url: str, database: str, *numbers: str) -> None:
    port, count = map(int, numbers)
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    client = AsyncMongoClient[dict[str, Any]](mongo_url)
    rows = client[database].get_collection("results", write_concern=WriteConcern(w="majority", j=True))
    await rows.insert_one({"_id": "warm"})
    await Raw(rows, port, count).run(consumer)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
