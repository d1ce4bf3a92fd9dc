"""Webhooks per second, from Kafka to a recorded 2xx, on one process with 20 endpoints.

Ours: the notifier as it is deployed; the clock runs from the first delivery's row to the moment at which the last one
is delivered in MongoDB.
Floor: a bare loop that reads the same topic with aiokafka, signs and posts with aiohttp, 64 in flight, and writes one
``insert_many`` per 200 answers. It keeps no state before the POST, knows no endpoint apart and retries nothing.
Each is started on an empty topic of its own and stopped in its tracks (SIGSTOP) while the topic is filled, so that
neither a rebalance nor the filling is measured. Both use uvloop, the same settings of the garbage collector, the same
broker, the same mongod (majority, journaled) and the same receiver.
"""

import asyncio
import base64
import contextlib
import gc
import hmac
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time
from typing import Any
from uuid import uuid4

import aiohttp
import uvloop
from aiokafka import AIOKafkaConsumer
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.write_concern import WriteConcern

from bench.figures import ROUNDS, spread, table
from launcher.kafka import EmbeddedKafka
from launcher.mongo import EmbeddedMongo
from launcher.ports import free_port
from notifier.app import create_app
from notifier.settings import Settings
from notifier.subscription_store import SubscriptionStore
from shared import logs, mongo, web
from shared.kafka import Publisher, record_of
from shared.settings import KafkaSettings, MongoSettings, load
from shared.topics import PERMISSION_STATUS, Topic
from support.eventually import eventually
from support.notifying import SECRETS_KEY, new_subscription
from support.status_events import GRAPH, status_event
from support.topics import Topics, topics_of_a_test

WEBHOOKS = int(os.environ.get("BENCH_WEBHOOKS", "12000"))
ENDPOINTS = 20
PARTITIONS = 8
IN_FLIGHT = 64
INSERT = 200
BODY_BYTES = 690


def main() -> None:
    """Run the benchmark, or one of the processes it starts."""
    match sys.argv[1:]:
        case ["--notifier", topic]:
            settings = load(Settings)
            logs.configure(settings.log, service="notifier")
            web.serve(create_app(settings, topic=_topic(topic), group=f"bench-{uuid4().hex[:8]}"), settings.http)
        case ["--raw", bootstrap, topic, mongo_url, database, port]:
            uvloop.run(_raw(bootstrap, topic, mongo_url, database, int(port)))
        case _:
            asyncio.run(_compare())


async def _compare() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-delivery-") as folder:
        async with AsyncExitStack() as stack:
            broker = EmbeddedKafka(data_dir=Path(folder) / "kafka", log_file=Path(folder) / "kafka.log")
            server = EmbeddedMongo(data_dir=Path(folder) / "mongo", log_file=Path(folder) / "mongo.log")
            await asyncio.gather(broker.start(), server.start())
            stack.push_async_callback(server.stop)
            stack.push_async_callback(broker.stop)
            port = await stack.enter_async_context(_receiver())
            topics = await stack.enter_async_context(topics_of_a_test(broker.bootstrap_servers))
            bench = Bench(broker.bootstrap_servers, server.url, port, topics)
            ceiling = await _ceiling(port)
            raw: list[tuple[float, float]] = []
            ours: list[tuple[float, float]] = []
            for number in range(ROUNDS):
                raw.append(await bench.raw(f"bench_{number}_raw"))
                ours.append(await bench.notifier(f"bench_{number}"))
                print(f"round {number + 1}: raw {raw[-1][0]:,.0f}/s, notifier {ours[-1][0]:,.0f}/s", flush=True)
    ratios = [mine / floor for (mine, _), (floor, _) in zip(ours, raw, strict=True)]
    rows = [
        ["raw aiohttp loop, 64 in flight, one insert_many per 200", *_figures(raw), "1"],
        ["notifier, one process", *_figures(ours), spread(ratios, digits=2)],
    ]
    head = ["", "/s", "CPU ms each (client)", "ratio of /s"]
    print(table("Delivery: webhooks/s from Kafka to a recorded 2xx, 20 endpoints", rows, head=head))
    print(f"The receiver answered {ceiling:,.0f} requests/s of a bare socket client: it is not the limit.")


def _figures(runs: list[tuple[float, float]]) -> tuple[str, str]:
    return spread([rate for rate, _ in runs]), spread([milliseconds for _, milliseconds in runs], digits=2)


def _topic(name: str) -> Topic:
    return replace(PERMISSION_STATUS, name=name, partitions=PARTITIONS)


async def _fill(bootstrap_servers: str, topic: Topic) -> None:
    """Each event concerns one app, the apps in turn; its webhook has 690 bytes."""
    publisher = Publisher(KafkaSettings(bootstrap_servers=bootstrap_servers), client_id="bench", linger_ms=5)
    reads = ("Directory.Read.All", "AuditLog.Read.All", "User.Read.All")
    permissions = [{"resource_app_id": GRAPH, "value": value, "type": "application"} for value in reads]
    try:
        for start in range(0, WEBHOOKS, 1000):
            events = [
                status_event(
                    tenant_id=str(uuid4()),
                    apps=(f"app-{number % ENDPOINTS}",),
                    previous_apps=(),
                    permissions=permissions,
                    revision=number + 1,
                )
                for number in range(start, min(start + 1000, WEBHOOKS))
            ]
            await publisher.publish([record_of(topic, event) for event in events])
    finally:
        await publisher.close()


@asynccontextmanager
async def _receiver() -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.receiving", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def _ceiling(port: int) -> float:
    """Requests per second that the receiver answers to 16 connections which do nothing but send."""
    request = b"POST /hook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 690\r\n\r\n" + b"x" * BODY_BYTES
    burst, rounds, connections = 20, 50, 16

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(rounds):
            writer.write(request * burst)
            await reader.readexactly(len(b"HTTP/1.1 204 No Content\r\n\r\n") * burst)
        writer.close()

    started = perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    return connections * rounds * burst / (perf_counter() - started)


class Bench:
    """The two runs; each gives webhooks per second, and CPU milliseconds of the process per webhook."""

    def __init__(self, bootstrap_servers: str, mongo_url: str, receiver_port: int, topics: Topics) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._mongo_url = mongo_url
        self._receiver_port = receiver_port
        self._topics = topics

    async def notifier(self, database: str) -> tuple[float, float]:
        """One process of the service."""
        await _subscribe(self._mongo_url, database, self._receiver_port)
        topic, http_port = await self._topics.create("delivery", partitions=PARTITIONS), free_port()
        environment = {
            "PUBLIC_URL": "http://localhost:8082",
            "HTTP__PORT": str(http_port),
            "LOG__LEVEL": "warning",
            "KAFKA__BOOTSTRAP_SERVERS": self._bootstrap_servers,
            "MONGO__URL": self._mongo_url,
            "MONGO__DATABASE": database,
            "AUTH__ISSUER": "http://localhost:8091",
            "AUTH__AUDIENCE": "consent-platform",
            "AUTH__JWKS_URL": "http://localhost:8091/.well-known/jwks.json",
            "DELIVERY__SECRETS_KEY": SECRETS_KEY,
            "DELIVERY__ALLOW_PRIVATE_NETWORKS": "true",
        }
        command = [sys.executable, "-m", "bench.delivery", "--notifier", topic]
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment)
        try:
            await eventually(lambda: _ready(http_port), within=60, what="a ready notifier")
            before = await self._fill(process, topic)
            async with AsyncMongoClient[dict[str, Any]](self._mongo_url) as client:
                rows = client[database]["deliveries"]
                while await rows.estimated_document_count() < WEBHOOKS or await rows.find_one({"queue": {"$gte": ""}}):
                    assert process.returncode is None, "the notifier ended"
                    await asyncio.sleep(0.02)
                ended = datetime.now(UTC)
                assert await rows.count_documents({"status": "delivered"}) == WEBHOOKS
                first = await rows.find_one(sort=[("created_at", 1)])
                assert first is not None
            seconds = (ended - first["created_at"].replace(tzinfo=UTC)).total_seconds()
            return WEBHOOKS / seconds, (_cpu_seconds(process.pid) - before) * 1000 / WEBHOOKS
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()

    async def raw(self, database: str) -> tuple[float, float]:
        """The bare loop."""
        topic = await self._topics.create("delivery", partitions=PARTITIONS)
        arguments = [self._bootstrap_servers, topic, self._mongo_url, database, str(self._receiver_port)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.delivery", "--raw", *arguments), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        before = await self._fill(process, topic)
        seconds = float(await process.stdout.readline())
        spent = _cpu_seconds(process.pid) - before
        process.kill()
        await process.wait()
        return WEBHOOKS / seconds, spent * 1000 / WEBHOOKS

    async def _fill(self, process: asyncio.subprocess.Process, topic: str) -> float:
        """Fill the topic while the process stands still; the CPU seconds it had taken by then."""
        process.send_signal(signal.SIGSTOP)
        await _fill(self._bootstrap_servers, _topic(topic))
        before = _cpu_seconds(process.pid)
        process.send_signal(signal.SIGCONT)
        return before


async def _ready(port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def _cpu_seconds(pid: int) -> float:
    """User and system time that a process has taken (proc(5), fields 14 and 15 of `stat`)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _subscribe(mongo_url: str, database: str, port: int) -> None:
    opened = mongo.connect(MongoSettings(url=SecretStr(mongo_url), database=database))
    store = SubscriptionStore(opened)
    for number in range(ENDPOINTS):
        await store.add(new_subscription(f"http://127.0.0.1:{port}/hook/{number}", app_id=f"app-{number}"))
    await mongo.close(opened)


async def _raw(bootstrap: str, topic: str, mongo_url: str, database: str, port: int) -> None:
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    client = AsyncMongoClient[dict[str, Any]](mongo_url)
    rows = client[database].get_collection("results", write_concern=WriteConcern(w="majority", j=True))
    await rows.insert_one({"_id": "warm"})
    queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=2 * INSERT)
    results: list[dict[str, Any]] = []
    writes: set[asyncio.Task[Any]] = set()
    key, done = os.urandom(32), 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal done, results
        while True:
            body = await queue.get()
            message_id, now = uuid4().hex, int(time())
            signed = hmac.digest(key, f"{message_id}.{now}.".encode() + body, "sha256")
            headers = {
                "webhook-id": message_id,
                "webhook-timestamp": str(now),
                "webhook-signature": "v1," + base64.b64encode(signed).decode(),
                "content-type": "application/json",
            }
            async with session.post(
                f"http://127.0.0.1:{port}/hook/{done % ENDPOINTS}", data=body, headers=headers
            ) as r:
                await r.read()
                results.append({"_id": message_id, "status": r.status, "at": datetime.now(UTC)})
            done += 1
            if len(results) >= INSERT or done == WEBHOOKS:
                batch, results = results, []
                task = asyncio.create_task(rows.insert_many(batch, ordered=False))
                writes.add(task)
                task.add_done_callback(writes.discard)
            queue.task_done()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        workers = [asyncio.create_task(work(session)) for _ in range(IN_FLIGHT)]
        _say("ready")
        while not (first := await consumer.getmany(timeout_ms=1000)):
            pass
        started, read = perf_counter(), 0
        while True:
            for records in (first or await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    await queue.put(record.value[:BODY_BYTES])
                    read += 1
            first = {}
            if read >= WEBHOOKS:
                break
        await queue.join()
        await asyncio.gather(*writes)
        seconds = perf_counter() - started
        for worker in workers:
            worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*workers)
    _say(str(seconds))
    await consumer.stop()
    await client.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
