"""The outbox: what was committed reaches Kafka at least once and in order, whatever is killed."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from launcher.kafka import EmbeddedKafka
from shared.background import end
from shared.events import Actor, ConsentFailed, decode, new_event
from shared.kafka import Publisher, PublishFailed, Record
from shared.mongo import Database, Session, transaction
from shared.outbox import PENDING_AGE, Outbox, Relay
from shared.settings import KafkaSettings
from shared.topics import Topic
from support.eventually import eventually
from support.records import records_on
from support.topics import Topics


def topic_called(name: str) -> Topic:
    return Topic(name=name, producer="test", consumers=(), key="", event_types=())


async def commit(database: "Database", topic: Topic, account: str, revision: int) -> str:
    data = ConsentFailed(
        account_id=account,
        permission_set_ids=("s",),
        attempt_id=str(revision),
        stage="callback",
        reason="declined",
        actor=Actor(kind="user", id="u"),
        occurred_at=datetime.now(UTC),
    )
    event = new_event("/test", data)

    async def work(session: "Session") -> None:
        await Outbox(database).add(session, topic, event, revision=revision)

    await transaction(database, work)
    return event.id


@asynccontextmanager
async def running(relay: Relay) -> Any:
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        await end(task, again_after=2.0)


def assert_in_order(records: Sequence[Any]) -> None:
    """First appearances of a key's events are in the order of their revisions."""
    seen: dict[bytes, list[int]] = defaultdict(list)
    for record in records:
        data = decode(record.headers, record.value).data
        assert isinstance(data, ConsentFailed)
        revision = int(data.attempt_id)
        if revision not in seen[record.key]:
            seen[record.key].append(revision)
    for revisions in seen.values():
        assert revisions == sorted(revisions)


async def pending(database: "Database") -> int:
    return await Outbox(database).rows.count_documents({"pending": True})


async def test_committed_rows_reach_kafka_in_order_and_are_marked(
    database: "Database", kafka_settings: KafkaSettings, topics: Topics
) -> None:
    topic = topic_called(await topics.create())
    await Outbox(database).create_indexes()
    ids = [await commit(database, topic, f"account-{n % 3}", n) for n in range(30)]
    publisher = Publisher(kafka_settings, client_id="test")
    async with running(Relay(database, publisher, owner="a")) as relay:
        await eventually(lambda: pending(database), lambda rows: rows == 0)
        ids.append(await commit(database, topic, "account-0", 30))
        relay.poke()
        await eventually(lambda: pending(database), lambda rows: rows == 0)
        await relay.check()
    await publisher.close()
    records = await records_on(kafka_settings.bootstrap_servers, topic.name)
    assert sorted(decode(r.headers, r.value).id for r in records) == sorted(ids)
    assert_in_order(records)


async def test_another_process_commits_wake_the_relay_without_a_poke(
    database: "Database", kafka_settings: KafkaSettings, topics: Topics
) -> None:
    topic = topic_called(await topics.create())
    publisher = Publisher(kafka_settings, client_id="test")
    async with running(Relay(database, publisher, owner="a")):
        await commit(database, topic, "account", 1)
        await eventually(lambda: pending(database), lambda rows: rows == 0)
    await publisher.close()


async def test_of_many_relays_one_publishes_and_another_takes_over(
    database: "Database", kafka_settings: KafkaSettings, topics: Topics
) -> None:
    topic = topic_called(await topics.create())
    publishers = [Publisher(kafka_settings, client_id=f"test-{n}") for n in range(3)]
    relays = [Relay(database, publisher, owner=str(n)) for n, publisher in enumerate(publishers)]
    async with running(relays[0]), running(relays[1]):
        async with running(relays[2]):
            for n in range(20):
                await commit(database, topic, f"account-{n % 2}", n)
            await eventually(lambda: pending(database), lambda rows: rows == 0)
        await commit(database, topic, "account-0", 20)
        await eventually(lambda: pending(database), lambda rows: rows == 0, within=30)
    for publisher in publishers:
        await publisher.close()
    records = await records_on(kafka_settings.bootstrap_servers, topic.name)
    assert len(records) == 21
    assert_in_order(records)


class CrashesBeforeTheMark(Relay):
    """Ends, as a killed process would, between Kafka's acknowledgement and the mark."""

    async def _mark(self, ids: Sequence[str], token: int) -> None:
        raise asyncio.CancelledError

    async def _release(self, token: int) -> None:
        """A killed process releases nothing."""


async def test_a_crash_between_acknowledgement_and_mark_repeats_the_same_ids(
    database: "Database", kafka_settings: KafkaSettings, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.outbox.LEASE_SECONDS", 2.0)
    topic = topic_called(await topics.create())
    ids = [await commit(database, topic, "account", n) for n in range(5)]
    publisher = Publisher(kafka_settings, client_id="test")
    with pytest.raises(asyncio.CancelledError):
        await CrashesBeforeTheMark(database, publisher, owner="a").run()
    assert await pending(database) == 5
    async with running(Relay(database, publisher, owner="b")):
        await eventually(lambda: pending(database), lambda rows: rows == 0, within=30)
    await publisher.close()
    records = await records_on(kafka_settings.bootstrap_servers, topic.name)
    assert [decode(r.headers, r.value).id for r in records] == ids + ids
    assert_in_order(records)


async def test_a_row_that_kafka_refuses_holds_back_its_own_key_only(
    database: "Database", kafka_settings: KafkaSettings, topics: Topics
) -> None:
    topic = topic_called(await topics.create())
    await commit(database, topic, "account-bad", 1)
    await Outbox(database).rows.update_one({"revision": 1}, {"$set": {"value": b"x" * 2_000_000}})
    await commit(database, topic, "account-good", 2)
    await commit(database, topic, "account-bad", 3)
    await commit(database, topic, "account-good", 4)
    publisher = Publisher(kafka_settings, client_id="test")
    async with running(Relay(database, publisher, owner="a")) as relay:
        await eventually(lambda: pending(database), lambda rows: rows == 2)
        await commit(database, topic, "account-good", 5)
        await eventually(
            lambda: Outbox(database).rows.count_documents({"revision": 5, "pending": True}), lambda n: n == 0
        )
        with pytest.raises(RuntimeError, match="1 keys are held back"):
            await relay.check()
    await publisher.close()
    waiting = [row["revision"] async for row in Outbox(database).rows.find({"pending": True}).sort("revision")]
    assert waiting == [1, 3]


async def test_a_refused_row_shows_in_the_age_and_goes_out_once_kafka_takes_it(
    database: "Database", kafka_settings: KafkaSettings, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.outbox.TRY_REFUSED_SECONDS", 0.0)
    topic = topic_called(await topics.create())
    value = (await Outbox(database).rows.find_one({"_id": await commit(database, topic, "account", 1)}) or {})["value"]
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    await Outbox(database).rows.update_one(
        {"revision": 1}, {"$set": {"value": b"x" * 2_000_000, "created_at": long_ago}}
    )
    await commit(database, topic, "account", 2)
    publisher = Publisher(kafka_settings, client_id="test")
    async with running(Relay(database, publisher, owner="a")) as relay:
        await eventually(lambda: is_fine(relay), lambda fine: not fine)
        PENDING_AGE.set(0)
        await eventually(lambda: asyncio.sleep(0, PENDING_AGE._value.get()), lambda seconds: seconds > 7000)
        assert await pending(database) == 2
        await Outbox(database).rows.update_one({"revision": 1}, {"$set": {"value": value}})
        await eventually(lambda: pending(database), lambda rows: rows == 0)
        await eventually(lambda: is_fine(relay))
        await eventually(lambda: asyncio.sleep(0, PENDING_AGE._value.get()), lambda seconds: seconds == 0)
    await publisher.close()
    records = await records_on(kafka_settings.bootstrap_servers, topic.name)
    assert len(records) == 2
    assert_in_order(records)


async def is_fine(relay: Relay) -> bool:
    try:
        await relay.check()
    except RuntimeError:
        return False
    return True


async def test_a_relay_that_lost_the_lease_holds_nothing_back(
    database: "Database", kafka_settings: KafkaSettings, topics: Topics
) -> None:
    topic = topic_called(await topics.create())
    await commit(database, topic, "account", 1)
    await Outbox(database).rows.update_one({"revision": 1}, {"$set": {"value": b"x" * 2_000_000}})
    publisher = Publisher(kafka_settings, client_id="test")
    async with running(Relay(database, publisher, owner="a")) as relay:
        await eventually(lambda: is_fine(relay), lambda fine: not fine)
        await database["leases"].update_one(
            {"_id": "outbox-relay"},
            {"$inc": {"token": 1}, "$set": {"owner": "b", "until": datetime.now(UTC) + timedelta(hours=1)}},
        )
        await eventually(lambda: is_fine(relay))
    await publisher.close()


async def test_published_rows_expire_and_pending_rows_never_do(database: "Database") -> None:
    await Outbox(database).create_indexes()
    indexes = await Outbox(database).rows.index_information()
    ttl = {name: index["key"] for name, index in indexes.items() if "expireAfterSeconds" in index}
    assert list(ttl.values()) == [[("published_at", 1)]]


@pytest.mark.parametrize("database", ["motor"], indirect=True)  # it is about the broker, and a restart takes its time
async def test_a_killed_broker_loses_nothing_and_a_dead_one_shows_in_readiness(
    database: "Database", private_kafka: Callable[[], Awaitable[EmbeddedKafka]]
) -> None:
    broker = await private_kafka()
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    publisher = Publisher(settings, client_id="test")
    topic = topic_called("outbox-kill")
    from support.topics import topics_of_a_test  # noqa: PLC0415 - of the private broker

    async with topics_of_a_test(broker.bootstrap_servers) as own:
        await own.create(name=topic.name)
        own.keep()
    ids = []
    async with running(Relay(database, publisher, owner="a")) as relay:
        ids += [await commit(database, topic, "account", n) for n in range(10)]
        relay.poke()
        await broker.kill()
        ids += [await commit(database, topic, "account", n) for n in range(10, 20)]
        relay.poke()
        with pytest.raises(PublishFailed):
            await Publisher(settings, client_id="x").publish(
                [Record(topic=topic.name, key=b"k", value=b"v")], timeout=1.0
            )
        with pytest.raises(RuntimeError):
            await eventually(relay.check, lambda _: False, within=60)
        await broker.restart()
        await eventually(lambda: pending(database), lambda rows: rows == 0, within=90)
        await relay.check()
    await publisher.close()
    records = await records_on(broker.bootstrap_servers, topic.name)
    assert {decode(r.headers, r.value).id for r in records} == set(ids)
    assert_in_order(records)
