"""What survives: positions that beat the group's offsets, records that can't be read, infrastructure that goes away."""

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client import REGISTRY

from notifier.clock import ServerClock
from notifier.delivery_store import DeliveryStore
from notifier.settings import Settings
from notifier.store import EventStore
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Subscription
from shared import mongo
from shared.kafka import Record, record_of
from shared.topics import dead_letter_topic
from support.eventually import eventually
from support.notifying import new_subscription
from support.records import records_on
from support.status_events import status_event
from support.webhooks import Receiver

if TYPE_CHECKING:
    from shared.mongo import Database


async def arrived(endpoint: Receiver) -> set[str]:
    return set(endpoint.ids())


async def test_lost_group_offsets_notify_nobody_again(stage: Any, database: "Database") -> None:
    endpoint = await stage.make_receiver()
    await stage.subscribe(endpoint.url, app_id="search")
    old = [status_event(tenant_id=f"8f4c1a52-6d0e-4f2b-9a31-{number:012d}") for number in range(12)]
    async with stage.start():
        await stage.publish(*old)
        await eventually(lambda: arrived(endpoint), lambda ids: len(ids) == 12, within=40)
        await eventually(lambda: positions_total(database), lambda total: total == 12)
    # Months later: the rows have expired, and the broker has forgotten the group.
    await database["events"].delete_many({})
    await database["deliveries"].delete_many({})
    endpoint.received.clear()
    marker = status_event()
    async with stage.start(group=f"group-{secrets.token_hex(4)}"):
        await stage.publish(marker)
        await eventually(lambda: arrived(endpoint), bool, within=40)
    assert endpoint.ids() == [marker.id]


async def positions_total(database: "Database") -> int:
    return sum([row["offset"] async for row in database["positions"].find({})])


async def test_who_stops_in_order_leaves_nothing_to_be_read_again(
    stage: Any, database: "Database", kafka_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions and the group's offsets follow a moment later than they are true; at the end they don't."""
    for pause in ("notifier.progress.PAUSE_SECONDS", "shared.commits.PAUSE_SECONDS"):
        monkeypatch.setattr(pause, 3600.0)
    endpoint = await stage.make_receiver()
    await stage.subscribe(endpoint.url, app_id="search")
    sent = [status_event(tenant_id=f"8f4c1a52-6d0e-4f2b-9a31-{number:012d}") for number in range(12)]
    async with stage.start():
        # The first position is written at once, and with it the long pause begins.
        await stage.publish(sent[0])
        await eventually(lambda: positions_total(database), lambda total: total == 1, within=40)
        await stage.publish(*sent[1:])
        await eventually(partial(handled, stage, kafka_group), lambda count: count == 12, within=40)
        assert await positions_total(database) == 1
        assert await group_offsets(stage, kafka_group) == 0
    assert await positions_total(database) == 12
    assert await group_offsets(stage, kafka_group) == 12


async def handled(stage: Any, group: str) -> float:
    labels = {"topic": stage.topic.name, "group": group}
    return REGISTRY.get_sample_value("kafka_records_handled_total", labels) or 0.0


async def group_offsets(stage: Any, group: str) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.kafka.bootstrap_servers)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return sum(each.offset for each in found.values() if each.offset > 0)


async def test_positions_never_go_back(database: "Database") -> None:
    store = EventStore(database, clock=ServerClock(database), retention_seconds=3600, topic="t")
    one, other = TopicPartition("t", 0), TopicPartition("t", 1)
    await store.save_positions({one: 10, other: 5})
    await store.save_positions({one: 7})
    assert await store.load_positions([one, other, TopicPartition("t", 2)]) == {one: 10, other: 5}
    assert await store.read_up_to() == {0: 9, 1: 4}


async def test_what_can_not_be_read_goes_to_the_dead_letters_and_holds_nobody_up(
    stage: Any, kafka_group: str, database: "Database"
) -> None:
    endpoint = await stage.make_receiver()
    await stage.subscribe(endpoint.url, app_id="search")
    good = [status_event(), status_event()]
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"x"), ("ce_source", b"/x")]
    status_type = ("ce_type", b"visionone.entra.PermissionStatusChanged.v1")
    bad = [
        Record(topic=stage.topic.name, key=b"k", value=b"\xff not json", headers=[]),
        Record(topic=stage.topic.name, key=b"k", value=b"{}", headers=[*headers, status_type]),
        Record(topic=stage.topic.name, key=b"k", value=None, headers=[*headers, status_type]),
        Record(topic=stage.topic.name, key=b"k", value=b"{}", headers=[("ce_id", b"\xff\xfe")]),
        beyond_the_calendar(stage),
    ]
    unknown = Record(
        topic=stage.topic.name, key=b"k", value=b"{}", headers=[*headers, ("ce_type", b"visionone.entra.New.v1")]
    )
    async with stage.start():
        await stage.publish(good[0], *bad, unknown, good[1])
        await eventually(lambda: arrived(endpoint), lambda ids: ids == {each.id for each in good}, within=40)
        letters = await eventually(
            lambda: records_on(stage.kafka.bootstrap_servers, dead_letter_topic(stage.topic, kafka_group).name),
            lambda found: len(_by_place(found)) >= len(bad),
        )
        # The positions pass the bad records once their letters are written.
        await eventually(lambda: positions_total(database), lambda total: total == 8)
    # A rebalance may repeat a letter, under the same place.
    assert sorted(_by_place(letters).values(), key=repr) == sorted((record.value for record in bad), key=repr)


def _by_place(letters: list[Any]) -> dict[tuple[int, int], bytes | None]:
    notes = [(dict(letter.headers), letter.value) for letter in letters]
    return {(int(note["x-dlq-partition"]), int(note["x-dlq-offset"])): value for note, value in notes}


def beyond_the_calendar(stage: Any) -> Record:
    """A record in order but for its time, which in UTC is before the year 1."""
    made = record_of(stage.topic, status_event())
    headers = [(name, b"0001-01-01T00:00:00+14:00" if name == "ce_time" else value) for name, value in made.headers]
    return replace(made, headers=headers)


async def test_old_news_is_not_told_to_who_subscribes_now(
    stage: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    """As when a topic is read again: what counts is when a record came to Kafka. What comes late is news."""
    endpoint, since_ever = await stage.make_receiver(), await stage.make_receiver()
    now = datetime.now(UTC)
    young = await stage.subscribe(endpoint.url, app_id="search", hears_from=now)
    await stage.subscribe(since_ever.url, app_id="search")
    hours_ago = int((now - timedelta(hours=2)).timestamp() * 1000)
    old, fresh = status_event(), status_event()
    late = replace(status_event(), time=now - timedelta(hours=2))
    producer = AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap_servers)
    await producer.start()
    try:
        record = record_of(stage.topic, old)
        sent = {"key": record.key, "value": record.value, "headers": list(record.headers)}
        await producer.send_and_wait(stage.topic.name, timestamp_ms=hours_ago, **sent)
    finally:
        await producer.stop()
    async with stage.start():
        await stage.publish(late, fresh)
        await eventually(lambda: arrived(since_ever), lambda ids: ids == {old.id, late.id, fresh.id}, within=40)
        await eventually(lambda: arrived(endpoint), lambda ids: ids == {late.id, fresh.id})
    rows = await deliveries.list_of(young.id, status=None, after=None, limit=10)
    assert {row.event_id for row in rows} == {late.id, fresh.id}


async def test_events_of_a_snapshot_are_passed_over(stage: Any) -> None:
    endpoint = await stage.make_receiver()
    await stage.subscribe(endpoint.url, app_id="search")
    marker = status_event()
    async with stage.start():
        await stage.publish(*[status_event(cause="snapshot") for _ in range(3)], marker)
        await eventually(lambda: arrived(endpoint), bool, within=40)
    assert endpoint.ids() == [marker.id]


async def test_a_database_that_goes_away_delays_and_loses_nothing(
    stage: Any, private_mongo: Any, settings: Settings
) -> None:
    server = await private_mongo()
    mongo_settings = settings.mongo.model_copy(update={"url": type(settings.mongo.url)(server.url), "timeout_ms": 2000})
    moved = settings.model_copy(update={"mongo": mongo_settings})
    endpoint = await stage.make_receiver()
    subscription = new_subscription(endpoint.url, app_id="search")
    async with (
        stage.start(moved) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://n") as client,
    ):
        await eventually(lambda: readiness(client), lambda status: status == 200, within=40)
        await subscribe_at(moved, subscription)
        first, second = status_event(), status_event()
        await stage.publish(first)
        await eventually(lambda: arrived(endpoint), lambda ids: first.id in ids, within=40)
        await server.kill()
        await stage.publish(second)
        await eventually(lambda: readiness(client), lambda status: status == 503, within=40)
        await server.start()
        await eventually(lambda: arrived(endpoint), lambda ids: second.id in ids, within=60)
        await eventually(lambda: readiness(client), lambda status: status == 200, within=40)
        await eventually(lambda: pending_at(moved, subscription), lambda count: count == 0, within=30)


async def readiness(client: httpx.AsyncClient) -> int:
    return (await client.get("/readyz")).status_code


async def subscribe_at(settings: Settings, subscription: Subscription) -> None:
    database = mongo.connect(settings.mongo)
    await SubscriptionStore(database).add(subscription)
    await mongo.close(database)


async def pending_at(settings: Settings, subscription: Subscription) -> int:
    database = mongo.connect(settings.mongo)
    try:
        store = DeliveryStore(database, retention_seconds=3600)
        return len(await store.list_of(subscription.id, status="pending", after=None, limit=10))
    finally:
        await mongo.close(database)
