"""The compacted topic never ends with an older state, whoever was paused wherever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import ConsumerRecord
from bson import ObjectId

from shared.background import end
from shared.events import TenantRemoved, TenantState, decode
from shared.lease import Lease
from shared.settings import KafkaSettings
from shared.topics import Topic
from support.consent_events import ACCOUNT, CONTOSO, START, event, grant_event, tenant_event
from support.eventually import eventually
from support.records import records_on
from support.topics import Topics
from tenant_registry.projection import TenantChange, project
from tenant_registry.state_publisher import FENCED, StatePublisher
from tenant_registry.store import PendingState, Store

if TYPE_CHECKING:
    from shared.mongo import Database

LEASE_SECONDS = 1.0
KEY = f"{ACCOUNT}:{CONTOSO}".encode()


def change(revision: int, **fields: Any) -> TenantChange:
    result = project(event(grant_event(revision=revision, **fields))).change
    assert result is not None
    return result


class HeldStore(Store):
    """Stands still at one point until it is let go, as a process does that was stopped there."""

    def __init__(self, database: "Database", *, at: str) -> None:
        super().__init__(database)
        self.at = at
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def pending_states(self, limit: int) -> list[PendingState]:
        pending = await super().pending_states(limit)
        if pending:
            await self._hold("after reading")
        return pending

    async def states_published(self, published: Sequence[PendingState]) -> None:
        await self._hold("after publishing")
        await super().states_published(published)

    async def _hold(self, point: str) -> None:
        if self.at == point and not self.reached.is_set():
            self.reached.set()
            await self.go_on.wait()


class Topology:
    """Publishers of one deployment, on a topic of this test."""

    def __init__(self, database: "Database", settings: KafkaSettings, topic: Topic) -> None:
        self.database = database
        self.settings = settings
        self.topic = topic
        self.lease_seconds = LEASE_SECONDS

    def publisher(self, store: Store, owner: str) -> StatePublisher:
        return StatePublisher(
            store,
            self.settings,
            lease=Lease(self.database["leases"], "state", owner=owner, seconds=self.lease_seconds),
            lease_seconds=self.lease_seconds,
            transactional_id=self.topic.name,
            topic=self.topic,
        )

    @asynccontextmanager
    async def running(self, store: Store, owner: str) -> AsyncIterator[StatePublisher]:
        publisher = self.publisher(store, owner)
        task = asyncio.create_task(publisher.run())
        try:
            yield publisher
        finally:
            await end(task, again_after=2.0)

    async def records(self) -> list[ConsumerRecord[bytes, bytes]]:
        return await records_on(self.settings.bootstrap_servers, self.topic.name, committed_only=True)

    async def revisions(self, key: bytes = KEY) -> list[int | None]:
        """Revisions on the topic, in order; None for a tombstone."""
        return [revision_of(record) for record in await self.records() if record.key == key]

    async def last_is(self, revision: int | None) -> list[int | None]:
        return await eventually(self.revisions, lambda seen: seen and seen[-1] == revision, what=f"state {revision}")


def more_than(count: int, records: Sequence[object]) -> bool:
    return len(records) > count


def revision_of(record: ConsumerRecord[bytes, bytes]) -> int | None:
    if record.value is None:
        return None
    state = decode(record.headers, record.value).data
    assert isinstance(state, TenantState)
    return state.revision


@pytest.fixture
def topology(database: "Database", kafka_settings: KafkaSettings, tenants_topic: Topic) -> Topology:
    return Topology(database, kafka_settings, tenants_topic)


async def test_the_whole_document_is_published_and_its_removal_is_a_tombstone(topology: Topology, store: Store) -> None:
    async with topology.running(store, "one"):
        await store.write([change(1)], [])
        await topology.last_is(1)
        removed = project(event(tenant_event(TenantRemoved, revision=2, reason="disconnected"))).change
        assert removed is not None
        await store.write([removed], [])
        await topology.last_is(None)
        await store.write([change(3)], [])
        await topology.last_is(3)
    last = (await topology.records())[-1]
    state = decode(last.headers, last.value)
    document = await store.document(ACCOUNT, CONTOSO)
    assert document is not None
    assert isinstance(state.data, TenantState)
    assert state.source == "/tenant-registry"
    assert state.data.tenant_name == document["profile"]["tenant_name"]
    assert await store.pending_states(10) == []


async def test_a_poke_is_not_waited_for_longer_than_the_publishing_takes(topology: Topology, store: Store) -> None:
    async with topology.running(store, "one") as publisher:
        await store.write([change(1)], [])
        await topology.last_is(1)
        await eventually(lambda: store.pending_states(1), lambda pending: not pending, what="a cleared mark")
        await publisher.check()
        publisher.poke()
        await store.write([change(2)], [])
        publisher.poke()
        assert await topology.last_is(2) == [1, 2]


async def test_a_publisher_paused_between_reading_and_sending_is_shut_out(
    topology: Topology, store: Store, database: "Database"
) -> None:
    held = HeldStore(database, at="after reading")
    await store.write([change(1)], [])
    async with topology.running(held, "paused"):
        await held.reached.wait()  # it holds revision 1 in its hands
        await store.write([change(2)], [])
        async with topology.running(store, "other"):
            await topology.last_is(2)
            before = fenced()
            held.go_on.set()
            await eventually(lambda: now(fenced()), lambda count: count > before, what="the paused one to find out")
        # Whoever leads now: what it publishes next comes after everything the paused one could have written.
        await store.write([change(3)], [])
        seen = await topology.last_is(3)
    revisions = [revision for revision in seen if revision is not None]
    assert revisions == sorted(revisions)
    assert 1 not in revisions


def fenced() -> float:
    return sum(
        sample.value for metric in FENCED.collect() for sample in metric.samples if sample.name.endswith("_total")
    )


async def now(value: float) -> float:
    return value


async def test_a_publisher_that_was_paused_before_it_cleared_the_mark_clears_nothing_newer(
    topology: Topology, store: Store, database: "Database"
) -> None:
    held = HeldStore(database, at="after publishing")
    await store.write([change(1)], [])
    async with topology.running(held, "paused"):
        await held.reached.wait()
        await store.write([change(2)], [])
        async with topology.running(store, "other"):
            await topology.last_is(2)
            held.go_on.set()
            await eventually(lambda: store.pending_states(1), lambda pending: not pending, what="nothing pending")
        seen = await topology.last_is(2)
    revisions = [revision for revision in seen if revision is not None]
    assert revisions == sorted(revisions)


async def test_an_uncommitted_transaction_of_a_dead_publisher_never_shows(topology: Topology, store: Store) -> None:
    await store.write([change(1)], [])
    dying = topology.publisher(store, "dying")
    (pending,) = await store.pending_states(10)
    producer = dying.producer()
    await producer.start()
    await producer.begin_transaction()
    record = dying.record(pending)
    await (await producer.send(record.topic, key=record.key, value=record.value, headers=list(record.headers)))
    await store.write([change(2)], [])
    async with topology.running(store, "next"):
        assert await topology.last_is(2) == [2]
        everything = await records_on(topology.settings.bootstrap_servers, topology.topic.name)
        assert [revision_of(item) for item in everything] == [1, 2]
    with contextlib.suppress(Exception):
        await asyncio.wait_for(producer.stop(), 5)


async def test_two_publishers_and_many_changes_end_with_the_newest_state(topology: Topology, store: Store) -> None:
    """Leaders change all the time while documents do; each key ends with its newest revision, in order."""
    tenants = [f"00000000-0000-4000-8000-{number:012}" for number in range(5)]

    async def write() -> None:
        for revision in range(1, 120):
            changes = [change(revision, tenant_id=tenant) for tenant in tenants]
            await store.write(changes, [])

    async def take_turns() -> None:
        for turn in range(4):
            seen = len(await topology.records())
            async with topology.running(store, f"{turn}"):
                await eventually(topology.records, partial(more_than, seen), what="records of this turn")

    await asyncio.gather(write(), take_turns())
    async with topology.running(store, "last"):
        await eventually(lambda: store.pending_states(1), lambda pending: not pending, what="nothing pending")
    for tenant in tenants:
        seen = await topology.revisions(f"{ACCOUNT}:{tenant}".encode())
        assert seen == sorted(revision for revision in seen if revision is not None)
        assert seen[-1] == 119


async def test_a_state_too_large_for_kafka_does_not_hold_back_others(topology: Topology, store: Store) -> None:
    other = f"{ACCOUNT}:00000000-0000-4000-8000-000000000001".encode()
    large = [change(1, permission_set_id=f"set-{number}", reason="x" * 300_000) for number in range(4)]
    for item in large:
        await store.write([item], [])
    await store.write([change(1, tenant_id="00000000-0000-4000-8000-000000000001")], [])
    async with topology.running(store, "one"):
        await eventually(lambda: topology.revisions(other), lambda seen: seen == [1], what="the other tenant")
        await eventually(lambda: store.pending_states(1), lambda pending: not pending, what="nothing pending")
    document = await store.document(ACCOUNT, CONTOSO)
    assert document is not None
    assert document["state_refused"] is True
    assert await topology.revisions() == []


LARGE = "00000000-0000-4000-8000-000000000009"


async def write_small_and_one_large(store: Store, *, large: int) -> None:
    """Four documents; the one that waits longest is the large one."""
    await store.write([change(1, tenant_id=LARGE, reason="x" * large)], [])
    for number in range(3):
        await store.write([change(1, tenant_id=f"00000000-0000-4000-8000-{number:012}")], [])


async def test_a_state_that_the_broker_refuses_does_not_hold_back_others(
    topology: Topology, store: Store, topics: Topics
) -> None:
    """The topic's limit is below the client's: the refusal comes with the acknowledgements of a whole transaction."""
    name = await topics.create("small", partitions=2, cleanup_policy="compact", max_message_bytes="20000")
    topology.topic = replace(topology.topic, name=name)
    await write_small_and_one_large(store, large=50_000)
    async with topology.running(store, "one") as publisher:
        await eventually(lambda: store.pending_states(1), lambda pending: not pending, what="nothing pending")
        await store.write([change(2, tenant_id="00000000-0000-4000-8000-000000000000")], [])
        await eventually(lambda: store.pending_states(1), lambda pending: not pending, what="nothing pending")
        await publisher.check()
    assert {record.key for record in await topology.records()} == {
        f"{ACCOUNT}:00000000-0000-4000-8000-{number:012}".encode() for number in range(3)
    }
    document = await store.document(ACCOUNT, LARGE)
    assert document is not None
    assert document["state_refused"] is True


async def test_the_topics_own_limit_is_the_only_one(topology: Topology, store: Store, topics: Topics) -> None:
    name = await topics.create("large", partitions=2, cleanup_policy="compact", max_message_bytes="4000000")
    topology.topic = replace(topology.topic, name=name)
    await write_small_and_one_large(store, large=2_000_000)
    async with topology.running(store, "one"):
        await eventually(topology.records, lambda seen: len(seen) == 4, what="all four")


async def test_states_that_waited_under_an_earlier_version_are_published(
    topology: Topology, store: Store, database: "Database"
) -> None:
    """What is now the time since when a state waits was once its mark."""
    await store.write([change(1)], [])
    await database["tenants"].update_many({}, {"$set": {"state_pending": ObjectId()}, "$unset": {"state_mark": ""}})
    await store.create_indexes()
    document = await store.document(ACCOUNT, CONTOSO)
    assert document is not None
    assert isinstance(document["state_mark"], ObjectId)
    assert isinstance(document["state_pending"], datetime)
    async with topology.running(store, "one"):
        await topology.last_is(1)
        await eventually(lambda: store.pending_states(1), lambda pending: not pending, what="nothing pending")


async def test_a_document_that_cannot_be_read_is_refused_and_holds_back_nobody(
    topology: Topology, store: Store, database: "Database"
) -> None:
    await database["tenants"].insert_one({"_id": "damaged:-", "state_pending": START, "grants": {"s": {"status": 7}}})
    await store.write([change(1)], [])
    async with topology.running(store, "one") as publisher:
        await topology.last_is(1)
        await eventually(lambda: store.pending_states(1), lambda pending: not pending, what="nothing pending")
        await publisher.check()
    damaged = await database["tenants"].find_one({"_id": "damaged:-"})
    assert damaged is not None
    assert damaged["state_refused"] is True


async def test_a_publisher_that_is_shut_out_says_so_and_does_not_strike_back_at_once(
    topology: Topology, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two deployments with one transactional.id have leases of their own, and would shut each other out for ever."""
    monkeypatch.setattr("tenant_registry.state_publisher.FENCED_FIRST_SECONDS", 60.0)
    monkeypatch.setattr(topology, "lease_seconds", 60.0)  # it is the broker that shuts it out, not its lease that ends
    async with topology.running(store, "one") as publisher:
        await store.write([change(1)], [])
        await topology.last_is(1)
        stranger = publisher.producer()
        await stranger.start()
        await store.write([change(2)], [])

        async def complaint() -> str:
            try:
                await publisher.check()
            except RuntimeError as error:
                return str(error)
            return ""

        await eventually(complaint, lambda said: "STATE__TRANSACTIONAL_ID" in said, what="its complaint")
        assert await topology.revisions() == [1]
        record = publisher.record(PendingState(key="stranger:-", mark=None))
        await stranger.begin_transaction()
        await (await stranger.send(record.topic, key=record.key, value=None))
        await stranger.commit_transaction()
        await stranger.stop()
