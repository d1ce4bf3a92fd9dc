"""The service as a process: what it acknowledged survives whatever happens to it, to Kafka and to MongoDB."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from launcher.kafka import EmbeddedKafka
from launcher.mongo import EmbeddedMongo
from launcher.ports import free_port
from launcher.process import ChildProcess
from shared.events import Event, PermissionRevoked, TenantRemoved, decode
from shared.kafka import Publisher, record_of
from shared.settings import KafkaSettings
from shared.topics import CONSENT_EVENTS, PERMISSION_STATUS, TENANTS
from support import backends
from support.consent_events import event, grant_event, tenant_event
from support.eventually import eventually
from support.records import records_on

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0


class Deployment:
    """A broker, a database and as many replicas of the service as a test starts."""

    def __init__(self, folder: Path, kafka: EmbeddedKafka, mongo: EmbeddedMongo) -> None:
        self.folder = folder
        self.kafka = kafka
        self.mongo = mongo
        self.database = f"registry_{uuid4().hex[:12]}"
        self.account = f"a-{uuid4().hex[:12]}"
        self.replicas: list[ChildProcess] = []

    def replica(self, **settings: str) -> ChildProcess:
        """A process that isn't started yet; its address is in its environment."""
        environment = {
            "PATH": os.defpath,
            "HTTP__PORT": str(free_port()),
            "PUBLIC_URL": "http://localhost:8081",
            "KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "MONGO__URL": self.mongo.url,
            "MONGO__DATABASE": self.database,
            "MONGO__TIMEOUT_MS": "3000",
            "AUTH__ISSUER": "http://issuer.test",
            "AUTH__AUDIENCE": "consent-platform",
            "AUTH__JWKS_URL": "http://issuer.test/keys",
            "STATE__LEASE_SECONDS": "2",
            **settings,
        }
        name = f"replica-{len(self.replicas)}"
        process = ChildProcess(
            name,
            argv=[sys.executable, "-m", "tenant_registry"],
            env=environment,
            log_file=self.folder / f"{name}.log",
        )
        self.replicas.append(process)
        return process

    async def running(self, **settings: str) -> ChildProcess:
        """A replica that is ready."""
        process = self.replica(**settings)
        process.spawn()
        await ready(process)
        return process

    async def send(self, events: Sequence[Event]) -> None:
        publisher = Publisher(KafkaSettings(bootstrap_servers=self.kafka.bootstrap_servers), client_id="test")
        try:
            await publisher.publish([record_of(CONSENT_EVENTS, item) for item in events])
        finally:
            await publisher.close()

    def events(self, *, tenants: int, revisions: int) -> list[Event]:
        """Grants, a removal in between for every fifth tenant, and new grants after it: in order for each tenant."""
        result = []
        for revision in range(1, revisions + 1):
            for number in range(tenants):
                scope: dict[str, Any] = {
                    "account_id": self.account,
                    "tenant_id": tenant_id(number),
                    "revision": revision,
                }
                if revision == revisions // 2 and number % 5 == 0:
                    result.append(event(tenant_event(TenantRemoved, reason="disconnected", **scope)))
                elif revision % 4 == 3:
                    scope |= {"status": "revoked", "usable": False}
                    result.append(
                        event(grant_event(PermissionRevoked, permission_set_id=f"set-{revision % 3}", **scope))
                    )
                else:
                    result.append(event(grant_event(permission_set_id=f"set-{revision % 3}", **scope)))
        return result

    async def history_ids(self) -> set[str]:
        async with AsyncMongoClient[dict[str, Any]](self.mongo.url) as client:
            rows = await client[self.database]["history"].find({"account_id": self.account}, {"_id": 1}).to_list(None)
        return {row["_id"] for row in rows}

    async def tenants(self) -> dict[str, dict[str, Any]]:
        async with AsyncMongoClient[dict[str, Any]](self.mongo.url) as client:
            documents = await client[self.database]["tenants"].find({"account_id": self.account}).to_list(None)
        return {document["tenant_id"]: document for document in documents}

    async def status_events(self) -> list[Event]:
        records = await records_on(self.kafka.bootstrap_servers, PERMISSION_STATUS.name)
        events = [decode(record.headers, record.value) for record in records]
        return [item for item in events if item.data.key().startswith(f"{self.account}:")]

    async def settled(self) -> dict[str, dict[str, Any]] | None:
        """The tenants, if nothing of them waits to be published."""
        documents = await self.tenants()
        return None if any("state_pending" in document for document in documents.values()) else documents

    async def check_ledger(self, sent: Sequence[Event], *, tenants: int, revisions: int) -> None:
        """Every event in the history, every tenant at its newest state, every status event out and in order."""
        ids = {item.id for item in sent}
        await eventually(self.history_ids, lambda seen: seen == ids, within=PATIENCE, what="all events in the history")
        newest = {tenant_id(number): revisions for number in range(tenants)}
        documents = await eventually(
            self.settled,
            lambda seen: seen is not None and {name: seen[name]["revision"] for name in seen} == newest,
            within=PATIENCE,
            what="all tenants at their newest state, and published",
        )
        assert documents is not None
        statuses = await eventually(
            self.status_events,
            lambda seen: len({item.id for item in seen}) == len(ids),
            within=PATIENCE,
            what="a status event for each",
        )
        first_seen: dict[str, list[int]] = {}
        for item in unique(statuses):
            first_seen.setdefault(item.data.key(), []).append(item.data.model_dump()["revision"])
        assert all(revisions == sorted(revisions) for revisions in first_seen.values())
        await self.check_states(documents)

    async def check_states(self, documents: dict[str, dict[str, Any]]) -> None:
        records = await records_on(self.kafka.bootstrap_servers, TENANTS.name, committed_only=True)
        last: dict[str, int | None] = {}
        for record in records:
            state = None if record.value is None else decode(record.headers, record.value).data
            revision = None if state is None else state.model_dump()["revision"]
            key = (record.key or b"").decode()
            before = last.get(key)
            assert before is None or revision is None or revision >= before
            last[key] = revision
        for document in documents.values():
            assert last[document["_id"]] == (None if document["removed"] else document["revision"])


def unique(events: Sequence[Event]) -> list[Event]:
    """The first appearance of each event."""
    first: dict[str, Event] = {}
    for item in events:
        first.setdefault(item.id, item)
    return list(first.values())


def tenant_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def more_than(count: int, seen: set[str]) -> bool:
    return len(seen) > count


async def publishing_is_free(deployment: Deployment) -> bool:
    """Whether the lease of the state publisher was given back, as an orderly stop does."""
    async with AsyncMongoClient[dict[str, Any]](deployment.mongo.url, tz_aware=True) as client:
        lease = await client[deployment.database]["leases"].find_one({"_id": "state-publisher"})
    return lease is not None and lease["until"] <= datetime.now(UTC)


async def ready(process: ChildProcess, *, within: float = PATIENCE) -> None:
    await process.wait_until_ready(lambda: is_ready(process), timeout=within)


async def is_ready(process: ChildProcess) -> bool:
    return await answer(process, "/readyz") == 200


async def answer(process: ChildProcess, path: str) -> int | None:
    url = f"http://127.0.0.1:{process.env['HTTP__PORT']}{path}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            return (await client.get(url)).status_code
    except httpx.HTTPError:
        return None


async def create_topics(kafka: EmbeddedKafka) -> None:
    job = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "deploy" / "topics.py"),
        env={
            "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "TOPICS__REPLICATION_FACTOR": "1",
            "TOPICS__MIN_INSYNC_REPLICAS": "1",
        },
    )
    assert await job.wait() == 0


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedKafka]:
    """A broker with the platform's own topics."""
    async with backends.embedded_kafka(tmp_path_factory.mktemp("registry-kafka")) as kafka:
        await create_topics(kafka)
        yield kafka


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mongod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedMongo]:
    async with backends.embedded_mongo(tmp_path_factory.mktemp("registry-mongo")) as mongo:
        yield mongo


@pytest_asyncio.fixture
async def deployment(tmp_path: Path, broker: EmbeddedKafka, mongod: EmbeddedMongo) -> AsyncIterator[Deployment]:
    deployment = Deployment(tmp_path, broker, mongod)
    yield deployment
    for replica in deployment.replicas:
        await replica.stop(grace=5)


async def test_kill_9_under_load_loses_nothing(deployment: Deployment) -> None:
    replica = await deployment.running()
    sent = deployment.events(tenants=60, revisions=60)
    sending = asyncio.create_task(deployment.send(sent))
    for part in range(1, 4):
        await eventually(deployment.history_ids, partial(more_than, part * 300), within=PATIENCE, what="load")
        await replica.kill()
        replica.spawn()
    await sending
    await deployment.check_ledger(sent, tenants=60, revisions=60)


async def test_a_second_process_takes_its_share_and_then_all(deployment: Deployment) -> None:
    first = await deployment.running()
    sent = deployment.events(tenants=60, revisions=60)
    sending = asyncio.create_task(deployment.send(sent[:1800]))
    second = await deployment.running()
    await sending
    await first.kill()
    await deployment.send(sent[1800:])
    await deployment.check_ledger(sent, tenants=60, revisions=60)
    assert second.running


async def test_a_process_that_was_paused_for_long_does_no_harm(deployment: Deployment) -> None:
    """It wakes with old batches in its hands, and with a state publisher that no longer leads."""
    paused = await deployment.running()
    sent = deployment.events(tenants=40, revisions=40)
    sending = asyncio.create_task(deployment.send(sent))
    await eventually(deployment.history_ids, lambda seen: len(seen) > 100, within=PATIENCE, what="load")
    paused.send_signal(signal.SIGSTOP)
    other = await deployment.running()
    await sending
    await deployment.check_ledger(sent, tenants=40, revisions=40)
    paused.send_signal(signal.SIGCONT)
    await ready(paused)
    more = [event(grant_event(account_id=deployment.account, tenant_id=tenant_id(n), revision=41)) for n in range(40)]
    await deployment.send(more)
    await deployment.check_ledger([*sent, *more], tenants=40, revisions=41)
    assert other.running


async def test_mongod_killed_in_the_middle_is_waited_for(deployment: Deployment) -> None:
    replica = await deployment.running()
    sent = deployment.events(tenants=60, revisions=40)
    sending = asyncio.create_task(deployment.send(sent))
    await eventually(deployment.history_ids, lambda seen: len(seen) > 200, within=PATIENCE, what="load")
    await deployment.mongo.kill()
    await eventually(
        lambda: answer(replica, "/readyz"), lambda status: status == 503, within=PATIENCE, what="not ready"
    )
    assert await answer(replica, "/livez") == 200
    await deployment.mongo.start()
    await sending
    await deployment.check_ledger(sent, tenants=60, revisions=40)
    await eventually(lambda: is_ready(replica), within=PATIENCE, what="ready again")


async def test_it_starts_before_kafka_and_mongodb_and_stops_in_order(
    tmp_path: Path, mongod: EmbeddedMongo, unused_kafka: EmbeddedKafka
) -> None:
    deployment = Deployment(tmp_path, unused_kafka, mongod)
    replica = deployment.replica()
    replica.spawn()
    await eventually(lambda: answer(replica, "/livez"), lambda status: status == 200, within=PATIENCE, what="alive")
    assert await answer(replica, "/readyz") == 503
    await unused_kafka.start()
    try:
        await create_topics(unused_kafka)
        sent = deployment.events(tenants=3, revisions=4)
        await deployment.send(sent)
        await deployment.check_ledger(sent, tenants=3, revisions=4)
        await ready(replica)
        await replica.stop(grace=20)
        assert replica.exit_status == -signal.SIGTERM, "uvicorn stops in order, then ends by the signal it was sent"
        assert await publishing_is_free(deployment)
    finally:
        await replica.stop(grace=1)
        await unused_kafka.stop()


@pytest.fixture
def unused_kafka(tmp_path: Path) -> EmbeddedKafka:
    """A broker that isn't running yet; its address is known."""
    return EmbeddedKafka(data_dir=tmp_path / "kafka", log_file=tmp_path / "kafka.log")


async def test_states_are_not_published_while_that_is_switched_off(deployment: Deployment) -> None:
    """So that a registry that is being rebuilt doesn't take the compacted topic back with it."""
    replica = await deployment.running(STATE__ENABLED="false")
    sent = deployment.events(tenants=5, revisions=8)
    await deployment.send(sent)
    ids = {item.id for item in sent}
    await eventually(deployment.history_ids, lambda seen: seen == ids, within=PATIENCE, what="all events")
    assert all("state_pending" in document for document in (await deployment.tenants()).values())
    assert not await publishing_is_free(deployment), "nobody took the lease"
    await replica.stop(grace=20)
    await deployment.running()
    await deployment.check_ledger(sent, tenants=5, revisions=8)


async def test_a_wrong_setting_ends_the_process_with_one_readable_line(deployment: Deployment) -> None:
    replica = deployment.replica(HTTP__PORT="eighty")
    replica.spawn()
    assert await replica.wait(30) == 2
    (line,) = replica.log_file.read_text().splitlines()
    assert line.startswith("HTTP__PORT: ")
