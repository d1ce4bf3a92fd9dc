"""What the benchmarks of webhooks share: a broker, a database, a receiver, and notifiers between them.

Each notifier is started on an empty topic and stopped in its tracks (SIGSTOP) while the topic is filled, so that
neither a rebalance nor the filling is measured.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time
from typing import Any
from uuid import uuid4

import aiohttp
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr
from pymongo import AsyncMongoClient

from launcher.kafka import EmbeddedKafka
from launcher.mongo import EmbeddedMongo
from launcher.ports import free_port
from notifier.app import create_app
from notifier.settings import Settings
from notifier.subscription_store import SubscriptionStore
from shared import logs, mongo, web
from shared.events import Event
from shared.kafka import Publisher, record_of
from shared.settings import KafkaSettings, MongoSettings, load
from shared.topics import PERMISSION_STATUS, Topic
from support.eventually import eventually
from support.notifying import SECRETS_KEY, new_subscription
from support.status_events import GRAPH, status_event
from support.topics import Topics, topics_of_a_test

ENDPOINTS = 20
PARTITIONS = 8
BODY_BYTES = 690
TICK = 0.01

Process = asyncio.subprocess.Process


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where everything is."""

    bootstrap_servers: str
    mongo_url: str
    port: int
    topics: Topics

    async def topic(self) -> Topic:
        """A new empty topic."""
        name = await self.topics.create("delivery", partitions=PARTITIONS)
        return replace(PERMISSION_STATUS, name=name, partitions=PARTITIONS)

    async def arrivals(self) -> dict[str, float]:
        """When each webhook came first, by its id, since this was asked last."""
        url = f"http://127.0.0.1:{self.port}/arrivals"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            found: dict[str, float] = json.loads(await answer.read())
            return found

    async def all_of(self, ids: Collection[str], *, within: float = 60) -> dict[str, float]:
        """When each of these webhooks came, once all of them have."""
        came: dict[str, float] = {}

        async def missing() -> int:
            came.update(await self.arrivals())
            return len([each for each in ids if each not in came])

        await eventually(missing, lambda left: left == 0, within=within, what="all webhooks")
        return came

    async def subscribe(self, database: str, *, slow: int = 0) -> None:
        """One endpoint for each of the apps, the first of them slow."""
        opened = mongo.connect(MongoSettings(url=SecretStr(self.mongo_url), database=database))
        store = SubscriptionStore(opened)
        for number in range(ENDPOINTS):
            path = "slow" if number < slow else "hook"
            await store.add(new_subscription(f"http://127.0.0.1:{self.port}/{path}/{number}", app_id=f"app-{number}"))
        await mongo.close(opened)

    async def fill(self, topic: Topic, count: int) -> list[str]:
        """Publish so many events as fast as it goes; their ids in the order of their numbers."""
        ids: list[str] = []
        publisher = Publisher(KafkaSettings(bootstrap_servers=self.bootstrap_servers), client_id="bench", linger_ms=5)
        try:
            for start in range(0, count, 1000):
                some = [event_of(number) for number in range(start, min(start + 1000, count))]
                await publisher.publish([record_of(topic, event) for event in some])
                ids += [event.id for event in some]
        finally:
            await publisher.close()
        return ids

    async def pace(self, topic: Topic, *, rate: float, seconds: float) -> dict[str, tuple[int, float]]:
        """Publish at a steady rate; of each event, by its id, its number and the moment before it was published."""
        records = [(event := event_of(number), record_of(topic, event)) for number in range(int(rate * seconds))]
        sent: dict[str, tuple[int, float]] = {}
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap_servers, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            begun = perf_counter()
            for number, (event, record) in enumerate(records):
                due = begun + number / rate
                if due > perf_counter() + TICK / 10:
                    await asyncio.sleep(due - perf_counter())
                sent[event.id] = (number, time())
                await producer.send(topic.name, key=record.key, value=record.value, headers=list(record.headers))
            await producer.flush()
        finally:
            await producer.stop()
        return sent


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """A stage for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="bench-webhooks-") as folder:
        async with AsyncExitStack() as stack:
            broker = EmbeddedKafka(data_dir=Path(folder) / "kafka", log_file=Path(folder) / "kafka.log")
            server = EmbeddedMongo(data_dir=Path(folder) / "mongo", log_file=Path(folder) / "mongo.log")
            await asyncio.gather(broker.start(), server.start())
            stack.push_async_callback(server.stop)
            stack.push_async_callback(broker.stop)
            port = await stack.enter_async_context(_receiver())
            topics = await stack.enter_async_context(topics_of_a_test(broker.bootstrap_servers))
            yield Stage(bootstrap_servers=broker.bootstrap_servers, mongo_url=server.url, port=port, topics=topics)


@asynccontextmanager
async def _receiver() -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.receiving", stdout=asyncio.subprocess.PIPE, limit=2**24
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def notifiers(
    stage: Stage, topic: Topic, database: str, *, count: int = 1, settings: Mapping[str, str] | None = None
) -> AsyncIterator[list[Process]]:
    """So many processes of the service, ready, for as long as the context lasts; ``settings`` changes theirs."""
    group, processes, ports = f"bench-{uuid4().hex[:8]}", [], []
    try:
        for _ in range(count):
            environment = os.environ | _environment(stage, database, free_port()) | dict(settings or {})
            ports.append(int(environment["HTTP__PORT"]))
            command = [sys.executable, "-m", "bench.webhooks", topic.name, group]
            processes.append(await asyncio.create_subprocess_exec(*command, env=environment))
        for port in ports:
            await eventually(lambda at=port: _ready(at), within=60, what="a ready notifier")  # type: ignore[misc] # a default binds the loop's variable
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            await process.wait()


def _environment(stage: Stage, database: str, port: int) -> dict[str, str]:
    return {
        "PUBLIC_URL": "http://localhost:8082",
        "HTTP__PORT": str(port),
        "LOG__LEVEL": "error",
        "KAFKA__BOOTSTRAP_SERVERS": stage.bootstrap_servers,
        "MONGO__URL": stage.mongo_url,
        "MONGO__DATABASE": database,
        "AUTH__ISSUER": "http://localhost:8091",
        "AUTH__AUDIENCE": "consent-platform",
        "AUTH__JWKS_URL": "http://localhost:8091/.well-known/jwks.json",
        "DELIVERY__SECRETS_KEY": SECRETS_KEY,
        "DELIVERY__ALLOW_PRIVATE_NETWORKS": "true",
    }


@asynccontextmanager
async def standing_still(processes: Sequence[Process]) -> AsyncIterator[None]:
    """Stopped in their tracks while the body runs."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


async def delivered(stage: Stage, database: str, count: int) -> float:
    """Wait until so many deliveries are on record as delivered; the seconds from the first row to the last record."""
    async with AsyncMongoClient[dict[str, Any]](stage.mongo_url) as client:
        rows = client[database]["deliveries"]
        while await rows.estimated_document_count() < count or await rows.find_one({"queue": {"$gte": ""}}):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.02)
        ended = datetime.now(UTC)
        assert await rows.count_documents({"status": "delivered"}) == count
        first = await rows.find_one(sort=[("created_at", 1)])
        assert first is not None
    return float((ended - first["created_at"].replace(tzinfo=UTC)).total_seconds())


def event_of(number: int) -> Event:
    """Each event concerns one app, the apps in turn; its webhook has 690 bytes."""
    reads = ("Directory.Read.All", "AuditLog.Read.All", "User.Read.All")
    permissions = [{"resource_app_id": GRAPH, "value": value, "type": "application"} for value in reads]
    return status_event(
        tenant_id=str(uuid4()),
        apps=(f"app-{number % ENDPOINTS}",),
        previous_apps=(),
        permissions=permissions,
        revision=number + 1,
    )


def cpu_seconds(processes: Sequence[Process]) -> float:
    """User and system time that processes have taken (proc(5), fields 14 and 15 of `stat`)."""
    total = 0
    for process in processes:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
        fields = stat.rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def _ready(port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def main() -> None:
    """One process of the service on a topic of the benchmark."""
    name, group = sys.argv[1:]
    settings = load(Settings)
    logs.configure(settings.log, service="notifier")
    topic = replace(PERMISSION_STATUS, name=name, partitions=PARTITIONS)
    web.serve(create_app(settings, topic=topic, group=group), settings.http)


if __name__ == "__main__":
    main()
