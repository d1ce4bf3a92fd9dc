"""From records on Kafka to documents, history and status events: nothing lost, nothing bad in the way of the good."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from pymongo.errors import AutoReconnect

from shared.consumer import BatchConsumer
from shared.events import (
    ConsentFailed,
    CredentialExpiring,
    Event,
    EventData,
    PermissionRevoked,
    PermissionStatusChanged,
    TenantRemoved,
    TenantUpdated,
    decode,
    encode,
)
from shared.kafka import Publisher, Record
from shared.settings import KafkaSettings
from shared.topics import Topic, dead_letter_topic
from support.consent_events import ACCOUNT, ADMINISTRATOR, CONTOSO, FABRIKAM, at, event, grant_event, tenant_event
from support.eventually import eventually
from support.records import records_on
from tenant_registry.projection import Projected, TenantChange, project
from tenant_registry.store import Store
from tenant_registry.subscribers import ConsentEvents

if TYPE_CHECKING:
    from shared.mongo import Database

RawRecord = tuple[bytes | None, bytes | None, Sequence[tuple[str, Any]]]

DATABASE_FAULT = AutoReconnect("not primary")


class FailingStore(Store):
    """Fails the first writes: before any effect, after the history alone, after everything."""

    def __init__(self, database: "Database") -> None:
        super().__init__(database)
        self.failures = ["before", "between", "after"]

    async def write(self, changes: Sequence[TenantChange], rows: Sequence[Mapping[str, Any]]) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure == "before":
            raise DATABASE_FAULT
        if failure == "between":
            await super().write([], rows)
            raise DATABASE_FAULT
        await super().write(changes, rows)
        if failure == "after":
            raise DATABASE_FAULT


class Registry:
    """The consuming side of the service, on topics of this test."""

    def __init__(self, store: Store, settings: KafkaSettings, *, consent: Topic, status: Topic, group: str) -> None:
        self.store = store
        self.settings = settings
        self.consent = consent
        self.status = status
        self.group = group
        self.silent_before: datetime | None = None
        self.pokes = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        publisher = Publisher(self.settings, client_id="test")
        consumer = BatchConsumer(
            self.settings,
            topic=self.consent,
            group=self.group,
            handle=ConsentEvents(
                self.store,
                publisher,
                state_changed=self._poke,
                topic=self.status,
                silent_before=self.silent_before,
            ),
            publisher=publisher,
            loops=1,  # a second member joining could make Kafka hand out some records again
        )
        task = asyncio.create_task(consumer.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await publisher.close()

    def _poke(self) -> None:
        self.pokes += 1

    async def send(self, *events: Event) -> None:
        await self.send_records(*(encode(item) for item in events))

    async def send_records(self, *records: RawRecord) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.settings.bootstrap_servers) as producer:
            for key, value, headers in records:
                await producer.send_and_wait(self.consent.name, key=key, value=value, headers=list(headers))

    async def statuses(self) -> list[Event]:
        records = await records_on(self.settings.bootstrap_servers, self.status.name)
        return [decode(record.headers, record.value) for record in records]

    async def dead_letters(self) -> list[Any]:
        return await records_on(self.settings.bootstrap_servers, dead_letter_topic(self.consent, self.group).name)

    async def published(self, count: int) -> list[Event]:
        """The status events, once there are this many."""
        return await eventually(self.statuses, lambda seen: len(seen) >= count, what=f"{count} status events")


@pytest.fixture
def registry(
    store: Store, kafka_settings: KafkaSettings, consent_topic: Topic, status_topic: Topic, kafka_group: str
) -> Registry:
    return Registry(store, kafka_settings, consent=consent_topic, status=status_topic, group=kafka_group)


async def test_every_record_yields_its_own_status_event_even_when_it_is_stale(registry: Registry) -> None:
    granted, revoked = (
        event(grant_event(revision=1)),
        event(grant_event(PermissionRevoked, revision=2, status="revoked")),
    )
    await registry.send(revoked, granted, granted)
    async with registry.running():
        seen = await registry.published(3)
    data = [item.data for item in seen]
    assert all(isinstance(item, PermissionStatusChanged) for item in data)
    assert [item.model_dump()["change"] for item in data] == [
        "PermissionRevoked",
        "PermissionGranted",
        "PermissionGranted",
    ]
    assert seen[1].id == seen[2].id != seen[0].id
    assert {item.id for item in seen}.isdisjoint({granted.id, revoked.id})
    assert (seen[1].source, seen[1].time) == ("/tenant-registry", granted.time)
    document = await registry.store.document(ACCOUNT, CONTOSO)
    assert document is not None
    assert document["grants"]["read-directory-data"]["status"] == "revoked"
    assert await registry.store.history.count_documents({}) == 2
    assert registry.pokes > 0


async def test_other_events_are_forwarded_with_their_own_type(registry: Registry) -> None:
    forwarded: list[EventData] = [
        tenant_event(TenantUpdated, revision=2),
        tenant_event(TenantRemoved, revision=3, reason="disconnected", apps=("search",)),
        ConsentFailed(
            account_id=ACCOUNT,
            permission_set_ids=("read-directory-data",),
            attempt_id="a-1",
            stage="callback",
            reason="declined",
            actor=ADMINISTRATOR,
            occurred_at=at(4),
        ),
        CredentialExpiring(
            registration="read-directory-data",
            client_id="5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01",
            credential="secret 2026",
            expires_at=at(5),
            days_left=30,
            occurred_at=at(5),
        ),
    ]
    events = [event(data) for data in forwarded]
    await registry.send(*events)
    async with registry.running():
        seen = await registry.published(4)
    assert sorted(item.type for item in seen) == sorted(item.type for item in events)
    assert {item.data.model_dump_json() for item in seen} == {data.model_dump_json() for data in forwarded}
    assert {item.source for item in seen} == {"/tenant-registry"}
    rows = await registry.store.history.find({}).to_list(None)
    assert {row["_id"]: (row["type"], row["account_id"], row["tenant_id"]) for row in rows} == {
        events[0].id: ("TenantUpdated", ACCOUNT, CONTOSO),
        events[1].id: ("TenantRemoved", ACCOUNT, CONTOSO),
        events[2].id: ("ConsentFailed", ACCOUNT, None),
        events[3].id: ("CredentialExpiring", None, None),
    }


def poison() -> dict[str, RawRecord]:
    """Records that no retry makes readable, each a good one with one thing wrong."""
    key, value, headers = encode(event(grant_event(revision=5, permission_set_id="manage-accounts")))
    plain = dict(headers)
    state = encode(event(grant_event(PermissionStatusChanged, change="PermissionGranted")))
    return {
        "not UTF-8": (key, value, [*headers, ("ce_extra", b"\xff\xfe")]),
        "has no value": (key, value, [*headers, ("ce_extra", None)]),
        "appears twice": (key, value, [*headers, ("ce_id", b"another")]),
        "missing header ce_id": (key, value, list((plain | {"ce_id": b""}).items())),
        "ce_specversion": (key, value, list((plain | {"ce_specversion": b"0.3"}).items())),
        "ce_time": (key, value, list((plain | {"ce_time": b"yesterday"}).items())),
        "Invalid JSON": (key, b'{"account_id": ', headers),
        "no value": (key, None, headers),
        "ce_specversion is": (None, b"", []),
        "Field required": (key, b"{}", headers),
        "Input should be": (key, value.replace(b'"usable":true', b'"usable":"perhaps"'), headers),
        "does not belong": state,
        "cannot be stored": (key, value.replace(b'"app_epochs":{}', b'"app_epochs":{"\\u0000":1}'), headers),
    }


async def test_poison_goes_to_the_dead_letters_and_its_neighbours_are_unharmed(registry: Registry) -> None:
    bad = poison()
    good = [event(grant_event(revision=number, permission_set_id=f"set-{number}")) for number in range(1, len(bad) + 2)]
    mixed: list[RawRecord] = [encode(good[0])]
    for item, neighbour in zip(bad.values(), good[1:], strict=True):
        mixed += [item, encode(neighbour)]
    await registry.send_records(*mixed)
    async with registry.running():
        seen = await registry.published(len(good))
        letters = await eventually(registry.dead_letters, lambda seen: len(seen) >= len(bad), what="dead letters")
    assert [item.data.model_dump()["revision"] for item in seen] == [
        item.data.model_dump()["revision"] for item in good
    ]
    assert len(letters) == len(bad)
    originals = {(value, tuple(headers)) for _, value, headers in bad.values()}
    by_reason = {}
    for letter in letters:
        notes = [(name, value) for name, value in letter.headers if name.startswith("x-dlq-")]
        original = tuple((name, value) for name, value in letter.headers if not name.startswith("x-dlq-"))
        assert (letter.value, original) in originals
        by_reason[dict(notes)["x-dlq-reason"].decode()] = letter
    for expected in bad:
        assert any(expected in reason for reason in by_reason), (expected, sorted(by_reason))
    document = await registry.store.document(ACCOUNT, CONTOSO)
    assert document is not None
    assert set(document["grants"]) == {f"set-{number}" for number in range(1, len(good) + 1)}


async def test_what_nobody_thought_of_in_a_record_is_a_dead_letter_too(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading is pure: what it raises once it raises always, and the partition would stand still."""

    def read(item: Event) -> Projected:
        if item.data.model_dump()["revision"] == 2:
            raise RecursionError
        return project(item)

    monkeypatch.setattr("tenant_registry.subscribers.project", read)
    await registry.send(*(event(grant_event(revision=number)) for number in (1, 2, 3)))
    async with registry.running():
        await registry.published(2)
        (letter,) = await eventually(registry.dead_letters, what="the dead letter")
    assert dict(letter.headers)["x-dlq-reason"] == b"unreadable: RecursionError"


async def test_what_happened_before_a_given_time_is_projected_and_told_to_nobody(registry: Registry) -> None:
    registry.silent_before = at(10)
    old, new = (
        [replace(event(grant_event(revision=n, permission_set_id=f"set-{n}")), time=at(n)) for n in revisions]
        for revisions in (range(1, 10), range(10, 13))
    )
    await registry.send(*old, *new)
    async with registry.running():
        seen = await registry.published(3)
    assert [item.data.model_dump()["revision"] for item in seen] == [10, 11, 12]
    assert await registry.store.history.count_documents({}) == 12
    document = await registry.store.document(ACCOUNT, CONTOSO)
    assert document is not None
    assert set(document["grants"]) == {f"set-{number}" for number in range(1, 13)}


async def test_types_of_the_future_are_skipped(registry: Registry) -> None:
    key, value, headers = encode(event(grant_event(revision=5)))
    unknown = dict(headers) | {"ce_type": b"visionone.entra.PermissionDreamt.v1"}
    await registry.send_records((key, value, list(unknown.items())), encode(event(grant_event(revision=6))))
    async with registry.running():
        (seen,) = await registry.published(1)
    assert seen.data.model_dump()["revision"] == 6
    assert await registry.dead_letters() == []


async def test_a_record_whose_status_event_is_too_large_does_not_hold_back_others(registry: Registry) -> None:
    """The consent event just fits into a record; its status event is a few bytes longer."""
    bare = encode(event(grant_event(revision=2, reason="")))
    filler = "x" * (1024 * 1024 - DefaultRecordBatchBuilder.estimate_size_in_bytes(*bare) - 8)
    await registry.send(
        event(grant_event(revision=1)), event(grant_event(revision=2, reason=filler)), event(grant_event(revision=3))
    )
    async with registry.running():
        letters = await eventually(registry.dead_letters, lambda seen: len(seen) == 1, what="the dead letter")
        seen = await registry.published(2)
    notes = dict(letters[0].headers)
    assert notes["x-dlq-reason"] == b"its status event is too large for Kafka"
    assert {"x-dlq-partition", "x-dlq-offset", "x-dlq-omitted"} <= notes.keys()
    assert {item.data.model_dump()["revision"] for item in seen} == {1, 3}


async def test_a_failing_database_loses_nothing_and_notifies_nobody_early(
    registry: Registry, database: "Database"
) -> None:
    store = FailingStore(database)
    registry.store = store
    events = [
        event(grant_event(revision=number, tenant_id=tenant_id))
        for number, tenant_id in enumerate([CONTOSO, FABRIKAM] * 20, start=1)
    ]
    await registry.send(*events)
    async with registry.running():
        seen = await registry.published(len(events))
    assert store.failures == []
    assert await store.history.count_documents({}) == len(events)
    for tenant_id in (CONTOSO, FABRIKAM):
        of_tenant = [item.data.model_dump()["revision"] for item in seen if item.data.key() == f"{ACCOUNT}:{tenant_id}"]
        first_seen = list(dict.fromkeys(of_tenant))
        assert first_seen == sorted(first_seen)
        document = await store.document(ACCOUNT, tenant_id)
        assert document is not None
        assert document["revision"] == max(of_tenant)


async def test_whoever_is_told_of_a_change_finds_it(registry: Registry) -> None:
    """State is durable at the moment at which its status event is handed to Kafka."""
    found: list[int] = []
    store = registry.store

    class Watching:
        async def publish(self, records: Sequence[Record]) -> None:
            document = await store.document(ACCOUNT, CONTOSO)
            rows = await store.history.count_documents({})
            assert document is not None
            found.append(document["revision"])
            assert rows == document["revision"]

    handle = ConsentEvents(store, Watching(), state_changed=lambda: None)
    for revision in range(1, 6):
        key, value, headers = encode(event(grant_event(revision=revision)))
        await handle([record_with(key, value, headers)])
    assert found == [1, 2, 3, 4, 5]


def record_with(key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Any:
    class Received:
        topic, partition, offset, timestamp = "consent", 0, 0, 0

    received: Any = Received()
    received.key, received.value, received.headers = key, value, headers
    return received


async def test_a_record_with_neither_key_nor_value_is_a_dead_letter_too(registry: Registry) -> None:
    """Other clients can write what ours refuses to."""
    async with AIOKafkaProducer(bootstrap_servers=registry.settings.bootstrap_servers) as producer:
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=None)
        batch.close()
        await (await producer.send_batch(batch, registry.consent.name, partition=0))
    await registry.send(event(grant_event()))
    async with registry.running():
        (letter,) = await eventually(registry.dead_letters, what="the dead letter")
        await registry.published(1)
    assert (letter.key, letter.value) == (None, b"")
