"""Events per second from Kafka to durable documents grouped by tenant, on one process.

Ours: the registry as it is deployed, with its validation, history, status events, state publisher and indexes, reading
a topic that is already full. The clock runs from the first row of the history to the last committed offset.
Floor: the serial raw loop, doing the same writes: getmany, parse, fold, one bulk of guarded pipeline updates (one
document per tenant, the same fields and indexes), one bulk of history rows, one status event per record with a derived
id, acknowledged by all replicas, commit. It validates nothing, retries nothing, has no dead letters and no state topic.
Beside it, for reference, the flat loop: one guarded upsert per grant and nothing else.
All use uvloop, the same broker and the same mongod (majority, journaled); every run is checked to be complete.
"""

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pydantic_core
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import AsyncMongoClient, InsertOne, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError
from pymongo.write_concern import WriteConcern

from bench.figures import ROUNDS, spread, table
from launcher.kafka import EmbeddedKafka
from launcher.mongo import EmbeddedMongo
from launcher.process import ChildProcess
from shared import logs, web
from shared.events import GrantState, encode
from shared.kafka import Publisher, record_of
from shared.settings import KafkaSettings, load
from shared.topics import CONSENT_EVENTS, PERMISSION_STATUS, TENANTS, Topic
from support.consent_events import at, event, grant_event
from support.topics import Topics, topics_of_a_test
from tenant_registry.app import GROUP, create_app
from tenant_registry.merging import FOUND_BY
from tenant_registry.settings import Settings
from tenant_registry.store import HISTORY_INDEXES, TENANT_INDEXES

EVENTS = int(os.environ.get("BENCH_EVENTS", "60000"))
SETS, REVISIONS, PARTITIONS = 5, 2, 8
PER_TENANT = SETS * REVISIONS
RAW_RECORDS = 1000
APPS = ("identity-security", "search")
GRAPH = "00000003-0000-0000-c000-000000000000"

Document = dict[str, Any]
Database = AsyncDatabase[Document]
Collection = AsyncCollection[Document]
Records = Sequence[ConsumerRecord[bytes, bytes]]


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    folder: Path
    bootstrap: str
    mongo: EmbeddedMongo
    consent: str


@dataclass(frozen=True)
class Run:
    """Figures of one run; CPU in microseconds per event."""

    rate: float
    client: float
    mongod: float


def main() -> None:
    """Run the benchmark, or one of the processes it starts."""
    match sys.argv[1:]:
        case ["--registry", consent, status, tenants]:
            settings = load(Settings)
            logs.configure(settings.log, service="tenant-registry")
            topics = {
                "consent_events": _topic(CONSENT_EVENTS, consent),
                "permission_status": _topic(PERMISSION_STATUS, status),
                "tenants": _topic(TENANTS, tenants),
            }
            web.serve(create_app(settings, **topics), settings.http)
        case ["--grouped", *arguments]:
            uvloop.run(_raw(_Grouped, arguments))
        case ["--flat", *arguments]:
            uvloop.run(_raw(_Flat, arguments))
        case _:
            asyncio.run(_compare())


async def _compare() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-projection-") as folder:
        async with AsyncExitStack() as stack:
            broker = EmbeddedKafka(data_dir=Path(folder) / "kafka", log_file=Path(folder) / "kafka.log")
            server = EmbeddedMongo(data_dir=Path(folder) / "mongo", log_file=Path(folder) / "mongo.log")
            await asyncio.gather(broker.start(), server.start())
            stack.push_async_callback(server.stop)
            stack.push_async_callback(broker.stop)
            topics = await stack.enter_async_context(topics_of_a_test(broker.bootstrap_servers))
            consent = await topics.create("consent", partitions=PARTITIONS)
            bench = Bench(Path(folder), broker.bootstrap_servers, server, consent)
            size = await _fill(bench)
            print(
                f"{EVENTS:,} events of {size} B, {PARTITIONS} partitions, {EVENTS // PER_TENANT:,} tenants", flush=True
            )
            runs: dict[str, list[Run]] = {"flat": [], "grouped": [], "registry": []}
            for number in range(ROUNDS):
                for kind, done in runs.items():
                    done.append(await _run(bench, topics, kind, number))
                print(
                    f"round {number + 1}: "
                    + ", ".join(f"{kind} {done[-1].rate:,.0f}/s" for kind, done in runs.items()),
                    flush=True,
                )
    _report(runs)


def _report(runs: Mapping[str, Sequence[Run]]) -> None:
    names = {
        "grouped": "serial raw loop, the same writes",
        "registry": "tenant-registry, one process",
        "flat": "(flat guarded upserts only, serial)",
    }
    rows = []
    for kind, name in names.items():
        ratios = [run.rate / floor.rate for run, floor in zip(runs[kind], runs["grouped"], strict=True)]
        rows.append(
            [
                name,
                spread([run.rate for run in runs[kind]]),
                spread([run.client for run in runs[kind]]),
                spread([run.mongod for run in runs[kind]]),
                spread(ratios, digits=2),
            ]
        )
    head = ["", "events/s", "CPU us/event, client", "CPU us/event, mongod", "ratio of events/s"]
    print(table("Projection: events/s from Kafka to durable documents grouped by tenant", rows, head=head))


async def _fill(bench: Bench) -> int:
    """Each tenant's events in order, tenants in random order: the worst case for grouping. Returns bytes per event."""
    chooser = random.Random(7)
    turns = [number for number in range(EVENTS // PER_TENANT) for _ in range(PER_TENANT)]
    chooser.shuffle(turns)
    revisions = dict.fromkeys(turns, 0)
    reads = ("Directory.Read.All", "AuditLog.Read.All")
    permissions = [{"resource_app_id": GRAPH, "value": value, "type": "application"} for value in reads]
    publisher = Publisher(KafkaSettings(bootstrap_servers=bench.bootstrap), client_id="bench", linger_ms=5)
    consent, size = _topic(CONSENT_EVENTS, bench.consent), 0
    try:
        for start in range(0, len(turns), 2000):
            batch = []
            for number in turns[start : start + 2000]:
                revisions[number] += 1
                data = grant_event(
                    tenant_id=f"00000000-0000-4000-8000-{number:012}",
                    tenant_name=f"Tenant {number}",
                    primary_domain=f"tenant-{number}.example",
                    revision=revisions[number],
                    permission_set_id=f"set-{revisions[number] % SETS}",
                    apps=APPS,
                    permissions=permissions,
                    occurred_at=at(start),
                )
                batch.append(event(data))
            size = size or len(encode(batch[0])[1])
            await publisher.publish([record_of(consent, item) for item in batch])
    finally:
        await publisher.close()
    return size


async def _run(bench: Bench, topics: Topics, kind: str, number: int) -> Run:
    """One run in a process of its own, watched from outside."""
    database, group = f"bench_{kind}_{number}", GROUP if kind == "registry" else f"{kind}-{number}"
    status = await topics.create("status", partitions=PARTITIONS)
    arguments = [f"--{kind}", bench.consent, status]
    if kind == "registry":
        await _forget(bench)
        arguments.append(await topics.create("tenants", partitions=PARTITIONS, cleanup_policy="compact"))
    else:
        arguments += [bench.bootstrap, bench.mongo.url, database, group]
    process = _process(bench, database, arguments)
    process.spawn()
    try:
        async with AsyncMongoClient[Document](bench.mongo.url) as client, _admin(bench) as admin:
            marker = client[database]["tenants" if kind == "flat" else "history"]
            await _until(process, lambda: _any(marker), every=0.002)
            started, before = perf_counter(), (_cpu_seconds(process.pid), _cpu_seconds(bench.mongo.process.pid))
            await _until(process, lambda: _all_committed(admin, group), every=0.02)
            seconds = perf_counter() - started
            after = (_cpu_seconds(process.pid), _cpu_seconds(bench.mongo.process.pid))
            await _check(bench, client[database], kind, status)
            await client.drop_database(database)
    finally:
        await process.stop()
    client_cpu, mongod_cpu = ((end - begin) * 1e6 / EVENTS for begin, end in zip(before, after, strict=True))
    return Run(EVENTS / seconds, client_cpu, mongod_cpu)


def _process(bench: Bench, database: str, arguments: Sequence[str]) -> ChildProcess:
    environment = os.environ | {
        "PUBLIC_URL": "http://localhost:8081",
        "HTTP__PORT": "0",
        "LOG__LEVEL": "warning",
        "KAFKA__BOOTSTRAP_SERVERS": bench.bootstrap,
        "MONGO__URL": bench.mongo.url,
        "MONGO__DATABASE": database,
        "AUTH__ISSUER": "http://localhost:8091",
        "AUTH__AUDIENCE": "consent-platform",
        "AUTH__JWKS_URL": "http://localhost:8091/.well-known/jwks.json",
    }
    return ChildProcess(
        database,
        argv=[sys.executable, "-m", "bench.projection", *arguments],
        env=environment,
        log_file=bench.folder / f"{database}.log",
    )


async def _until(process: ChildProcess, done: Callable[[], Awaitable[bool]], *, every: float) -> None:
    while not await done():
        assert process.running, f"the process ended\n{process.log_tail()}"
        await asyncio.sleep(every)


async def _any(collection: Collection) -> bool:
    return await collection.find_one({}, {"_id": 1}) is not None


async def _all_committed(admin: AIOKafkaAdminClient, group: str) -> bool:
    offsets = await admin.list_consumer_group_offsets(group)
    committed: int = sum(max(0, offset.offset) for offset in offsets.values())
    return committed >= EVENTS


@asynccontextmanager
async def _admin(bench: Bench) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _forget(bench: Bench) -> None:
    """Let the registry's group start anew: put its offsets back to the beginning."""
    async with AIOKafkaConsumer(
        bootstrap_servers=bench.bootstrap, group_id=GROUP, enable_auto_commit=False
    ) as consumer:
        partitions = [TopicPartition(bench.consent, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, 0))


async def _check(bench: Bench, database: Database, kind: str, status: str) -> None:
    """All there: otherwise the figures are of something else."""
    if kind == "flat":
        assert await database["tenants"].count_documents({}) == EVENTS // REVISIONS
        return
    assert await database["history"].count_documents({}) == EVENTS
    assert await database["tenants"].count_documents({"revision": PER_TENANT}) == EVENTS // PER_TENANT
    async with AIOKafkaConsumer(bootstrap_servers=bench.bootstrap) as consumer:
        ends = await consumer.end_offsets([TopicPartition(status, number) for number in range(PARTITIONS)])
    # The second consumer of a process joins while the first is at work: a batch may be done again, with the same ids.
    assert sum(ends.values()) >= EVENTS


def _cpu_seconds(pid: int) -> float:
    """User and system time that a process has taken (proc(5), fields 14 and 15 of `stat`)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _topic(topic: Topic, name: str) -> Topic:
    return replace(topic, name=name, partitions=PARTITIONS)


async def _raw(loop: "type[_Flat]", arguments: Sequence[str]) -> None:
    """The serial loop; ``loop`` says what it does with a batch."""
    consent, status, bootstrap, mongo_url, database, group = arguments
    consumer = AIOKafkaConsumer(
        consent, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    client = AsyncMongoClient[Document](mongo_url)
    work = loop(client[database], producer, status)
    await work.prepare()
    await producer.start()
    await consumer.start()
    seen = 0
    while seen < EVENTS:
        batches = await consumer.getmany(timeout_ms=200, max_records=RAW_RECORDS)
        records = [record for batch in batches.values() for record in batch]
        if records:
            await work.handle(records)
            await consumer.commit()
            seen += len(records)
    # The one who watches ends this process once it has seen the last commit.
    await asyncio.Event().wait()


class _Flat:
    """One guarded upsert per grant."""

    def __init__(self, database: Database, producer: AIOKafkaProducer, status: str) -> None:
        concern = WriteConcern(w="majority", j=True)
        self._tenants = database.get_collection("tenants", write_concern=concern)
        self._history = database.get_collection("history", write_concern=concern)
        self._producer = producer
        self._status = status

    async def prepare(self) -> None:
        """Make indexes."""

    async def handle(self, records: Records) -> None:
        """Write the newest of each grant."""
        newest: dict[str, Any] = {}
        for record in records:
            data = pydantic_core.from_json(record.value)
            key = f"{data['account_id']}:{data['tenant_id']}:{data['permission_set_id']}"
            if key not in newest or newest[key]["revision"] < data["revision"]:
                newest[key] = data
        updates = [
            UpdateOne({"_id": key, "revision": {"$lt": data["revision"]}}, {"$set": data}, upsert=True)
            for key, data in newest.items()
        ]
        await _unordered(self._tenants, updates)


class _Grouped(_Flat):
    """The registry's writes: document, history, status event."""

    async def prepare(self) -> None:
        await self._tenants.create_indexes([index for index in TENANT_INDEXES if "state" not in str(index.document)])
        await self._history.create_indexes(HISTORY_INDEXES)

    async def handle(self, records: Records) -> None:
        tenants: dict[str, dict[str, Any]] = {}
        rows, statuses = [], []
        for record in records:
            headers = {name: value.decode() for name, value in record.headers}
            data = pydantic_core.from_json(record.value)
            statuses.append(_status_event(headers, data, record.key))
            data["occurred_at"] = datetime.fromisoformat(data["occurred_at"])
            name = headers["ce_type"].split(".")[2]
            rows.append(InsertOne({"_id": headers["ce_id"], "type": name, **data}))
            grants = tenants.setdefault(f"{data['account_id']}:{data['tenant_id']}", {})
            known = grants.get(data["permission_set_id"])
            if known is None or known["revision"] < data["revision"]:
                grants[data["permission_set_id"]] = data
        updates = [UpdateOne({"_id": key}, _pipeline(grants), upsert=True) for key, grants in tenants.items()]
        await _unordered(self._tenants, updates)
        await _unordered(self._history, rows)
        sent = [await self._producer.send(self._status, **status) for status in statuses]
        await asyncio.gather(*sent)


def _status_event(headers: Mapping[str, str], data: Mapping[str, Any], key: bytes | None) -> dict[str, Any]:
    kind = "visionone.entra.PermissionStatusChanged"
    made = dict(headers) | {
        "ce_id": str(uuid5(NAMESPACE_URL, f"{kind}:{headers['ce_id']}")),
        "ce_type": f"{kind}.v1",
        "ce_source": "/tenant-registry",
    }
    return {
        "key": key,
        "value": pydantic_core.to_json({**data, "change": headers["ce_type"].split(".")[2]}),
        "headers": [(name, text.encode()) for name, text in made.items()],
    }


# The registry's own order of fields doesn't matter; that they are the same ones does.
_GRANT = tuple(GrantState.model_fields)


def _pipeline(grants: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    newest = max(grants.values(), key=lambda data: data["revision"])
    words = f"{newest['tenant_name']} {newest['primary_domain']}".lower().replace(".", " ").replace("-", " ").split()
    profile = {
        "revision": newest["revision"],
        "tenant_name": newest["tenant_name"],
        "primary_domain": newest["primary_domain"],
        "words": words,
        "prefixes": sorted({word[:3] for word in words}),
    }
    newer = {"$lt": ["$revision", newest["revision"]]}
    values: dict[str, Any] = {
        "account_id": newest["account_id"],
        "tenant_id": newest["tenant_id"],
        "revision": {"$max": ["$revision", newest["revision"]]},
        "updated_at": {"$cond": [newer, newest["occurred_at"], "$updated_at"]},
        "cloud": {"$cond": [newer, newest["cloud"], "$cloud"]},
        "profile": {"$cond": [newer, {"$literal": profile}, "$profile"]},
        "removed": False,
    }
    for name, data in grants.items():
        grant = {field: data[field] for field in _GRANT}
        status = data["status"]
        grant["facets"] = [f"set:{name}", f"set:{name}:{status}", f"status:{status}"]
        grant["facets"].append(f"set:{name}:v{grant['version']}")
        for app in data["apps"]:
            grant["facets"] += [f"app:{app}", f"app:{app}:{status}", f"usable:{app}"]
        path = f"grants.{name}"
        values[path] = {"$cond": [{"$lt": [f"${path}.revision", data["revision"]]}, {"$literal": grant}, f"${path}"]}
    each = {"$objectToArray": "$grants"}
    facets = {"$reduce": {"input": each, "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this.v.facets"]}}}
    return [{"$set": values}, {"$set": {"facets": facets, "consents": FOUND_BY["consents"]}}]


async def _unordered(collection: Collection, operations: Sequence[Any]) -> None:
    try:
        await collection.bulk_write(operations, ordered=False)
    except BulkWriteError as error:
        if any(item["code"] != 11000 for item in error.details["writeErrors"]):
            raise


if __name__ == "__main__":
    main()
