"""The batch consumer: bad records never block good ones, failures lose nothing, offsets say what was done."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from launcher.kafka import EmbeddedKafka
from shared.backoff import Backoff
from shared.consumer import BATCH_FAILURES, LAG, BatchConsumer, DeadLetter
from shared.kafka import Publisher
from shared.settings import KafkaSettings
from shared.topics import Topic, dead_letter_topic
from support.eventually import eventually
from support.records import records_on
from support.topics import Topics, topics_of_a_test

Records = Sequence[ConsumerRecord[bytes, bytes]]


class Handler:
    """Remembers what it handled; `bad` values are dead letters, `failures` are raised first."""

    def __init__(self) -> None:
        self.handled: list[bytes | None] = []
        self.failures: list[BaseException] = []

    async def __call__(self, records: Records) -> Sequence[DeadLetter]:
        if self.failures:
            raise self.failures.pop()
        self.handled += [record.value for record in records]
        return [DeadLetter(record=record, reason="bad") for record in records if record.value in {b"bad", None}]


@asynccontextmanager
async def consuming(
    settings: KafkaSettings,
    topic: Topic,
    group: str,
    handler: Callable[[Records], Awaitable[Sequence[DeadLetter]]],
    starting: Callable[[set[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]] | None = None,
    *,
    keep: Callable[[Mapping[TopicPartition, int]], Awaitable[None]] | None = None,
    in_flight: int = 1,
    max_records: int = 500,
) -> AsyncIterator[BatchConsumer]:
    publisher = Publisher(settings, client_id="test-dlq")
    consumer = BatchConsumer(
        settings,
        topic=topic,
        group=group,
        handle=handler,
        publisher=publisher,
        starting_positions=starting,
        keep_positions=keep,
        in_flight=in_flight,
        max_records=max_records,
    )
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await publisher.close()


async def send(settings: KafkaSettings, topic: Topic, values: Sequence[bytes | None], **headers: bytes | None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers) as producer:
        for number, value in enumerate(values):
            key = str(number % 5).encode()
            await producer.send_and_wait(topic.name, value=value, key=key, headers=list(headers.items()))


async def committed(settings: KafkaSettings, topic: Topic, group: str) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        consumer.assign(partitions)
        return sum([await consumer.committed(partition) or 0 for partition in partitions])
    finally:
        await consumer.stop()


@pytest.fixture
async def topic(topics: Topics, kafka_group: str) -> Topic:
    topic = Topic(
        name=await topics.create(partitions=4), partitions=4, producer="t", consumers=(), key="", event_types=()
    )
    await topics.create(name=dead_letter_topic(topic, kafka_group).name, partitions=1)
    return topic


async def test_bad_records_go_to_the_dead_letter_topic_and_their_neighbours_pass(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str
) -> None:
    handler = Handler()
    await send(kafka_settings, topic, [b"1", b"bad", b"2", None, b"3"], ce_id=b"\xff\xfe", other=None)
    async with consuming(kafka_settings, topic, kafka_group, handler) as consumer:
        await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda done: done == 5, within=30)
        await eventually(lambda: is_ready(consumer))
    assert set(handler.handled) == {None, b"1", b"2", b"3", b"bad"}  # a rebalance may repeat some
    letters = await records_on(kafka_settings.bootstrap_servers, dead_letter_topic(topic, kafka_group).name)
    assert {letter.value for letter in letters} == {b"bad", None}
    headers = dict(letters[0].headers)
    assert headers["ce_id"] == b"\xff\xfe"
    assert headers["other"] is None
    assert headers["x-dlq-topic"].decode() == topic.name
    assert headers["x-dlq-reason"] == b"bad"
    assert {"x-dlq-partition", "x-dlq-offset", "x-dlq-timestamp", "x-dlq-group", "x-dlq-failed-at"} <= headers.keys()


@pytest.mark.parametrize("failure", [RuntimeError("store down"), asyncio.CancelledError()], ids=["error", "cancelled"])
async def test_a_failed_batch_is_handled_again_and_never_skipped(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str, failure: BaseException
) -> None:
    handler = Handler()
    handler.failures = [failure, failure]
    await send(kafka_settings, topic, [str(n).encode() for n in range(40)])
    async with consuming(kafka_settings, topic, kafka_group, handler) as consumer:
        await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda done: done == 40, within=30)
        await eventually(lambda: is_ready(consumer))
    assert set(handler.handled) == {str(n).encode() for n in range(40)}


async def test_many_batches_under_way_lose_nothing(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str
) -> None:
    """With a store that fails now and then: what is taken again comes with all that was behind it."""
    durable: set[tuple[int, int]] = set()
    calls = 0

    async def handler(records: Records) -> Sequence[DeadLetter]:
        nonlocal calls
        calls += 1
        number = calls
        # The later ones are done sooner.
        await asyncio.sleep(0.05 / (number % 4 + 1))
        if number % 7 == 3:
            raise RuntimeError("store down")
        durable.update((record.partition, record.offset) for record in records)
        return []

    async with consuming(kafka_settings, topic, kafka_group, handler, in_flight=4, max_records=5) as consumer:
        await send(kafka_settings, topic, [str(n).encode() for n in range(120)])
        await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda done: done == 120, within=60)
        await eventually(lambda: is_ready(consumer), within=30)
    there = await records_on(kafka_settings.bootstrap_servers, topic.name)
    assert durable == {(record.partition, record.offset) for record in there}


async def test_a_failing_store_shows_in_readiness(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str
) -> None:
    async def broken(_: Records) -> Sequence[DeadLetter]:
        raise RuntimeError("store down")

    await send(kafka_settings, topic, [b"1"])
    async with consuming(kafka_settings, topic, kafka_group, broken) as consumer:

        async def reason() -> str:
            try:
                await consumer.check()
            except RuntimeError as error:
                return str(error)
            return ""

        await eventually(reason, lambda said: said == "RuntimeError", within=30)
        assert await committed(kafka_settings, topic, kafka_group) == 0


async def test_positions_of_the_service_beat_those_of_the_group(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str
) -> None:
    handled: set[tuple[int, int]] = set()
    asked: list[int] = []

    async def handler(records: Records) -> Sequence[DeadLetter]:
        handled.update((record.partition, record.offset) for record in records)
        return []

    async def starting(partitions: set[TopicPartition]) -> Mapping[TopicPartition, int]:
        asked.append(len(partitions))
        if len(asked) == 1:
            raise ConnectionError("store not reachable yet")
        return dict.fromkeys(partitions, 1)

    for _ in range(2):
        await send(kafka_settings, topic, [str(n).encode() for n in range(5)])
    there = {(r.partition, r.offset) for r in await records_on(kafka_settings.bootstrap_servers, topic.name)}
    async with consuming(kafka_settings, topic, kafka_group, handler, starting):
        await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda done: done == 10, within=30)
    assert handled == {(partition, offset) for partition, offset in there if offset >= 1}


async def test_who_keeps_positions_of_its_own_waits_for_no_commit_and_repeats_nothing_when_one_fails(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, failures = AIOKafkaConsumer.commit, 2
    kept: dict[TopicPartition, int] = {}

    async def failing(self: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise ConnectionError("no coordinator")
        await commit(self, offsets)

    async def starting(partitions: set[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {partition: kept.get(partition, 0) for partition in partitions}

    async def keep(positions: Mapping[TopicPartition, int]) -> None:
        kept.update(positions)

    async def handled() -> int:
        return sum(kept.values())

    monkeypatch.setattr(AIOKafkaConsumer, "commit", failing)
    handler = Handler()
    async with consuming(kafka_settings, topic, kafka_group, handler, starting, keep=keep, max_records=1) as consumer:
        await eventually(lambda: is_ready(consumer), within=30)
        batches = BATCH_FAILURES.labels(topic.name, kafka_group)._value.get()
        await send(kafka_settings, topic, [str(n).encode() for n in range(40)])
        await eventually(handled, lambda done: done == 40, within=30)
        await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda done: done == 40, within=30)
        assert BATCH_FAILURES.labels(topic.name, kafka_group)._value.get() == batches
    assert not failures
    assert set(handler.handled) == {str(n).encode() for n in range(40)}


async def test_two_members_share_the_work_and_a_leaving_one_loses_nothing(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str
) -> None:
    first, second = Handler(), Handler()
    async with consuming(kafka_settings, topic, kafka_group, first):
        await send(kafka_settings, topic, [str(n).encode() for n in range(20)])
        async with consuming(kafka_settings, topic, kafka_group, second) as member:
            await eventually(lambda: is_ready(member), within=30)
            await send(kafka_settings, topic, [str(n).encode() for n in range(20, 40)])
        await send(kafka_settings, topic, [str(n).encode() for n in range(40, 60)])
        await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda done: done == 60, within=60)
    assert set(first.handled) | set(second.handled) == {str(n).encode() for n in range(60)}


async def test_a_batch_in_flight_is_finished_before_its_partitions_go_to_another_member(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str
) -> None:
    """Else every rollout would repeat what was in flight."""
    handled: list[bytes] = []
    begun = asyncio.Event()
    go_on = asyncio.Event()

    async def slow(records: Records) -> Sequence[DeadLetter]:
        begun.set()
        await go_on.wait()
        handled.extend(record.value or b"" for record in records)
        return []

    values = [str(n).encode() for n in range(40)]
    second = Handler()
    await send(kafka_settings, topic, values)
    async with consuming(kafka_settings, topic, kafka_group, slow) as first:
        await begun.wait()
        async with consuming(kafka_settings, topic, kafka_group, second):
            # The one that works has all four partitions; its own second loop and the newcomer wait for theirs.
            await eventually(lambda: members(kafka_settings, kafka_group), lambda count: count == 3, within=30)
            with pytest.raises(AssertionError):
                await eventually(lambda: done(second), within=2)
            go_on.set()
            await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda done: done == 40, within=30)
            await eventually(lambda: is_ready(first))
    assert sorted([*handled, *(value or b"" for value in second.handled)]) == sorted(values)


async def members(settings: KafkaSettings, group: str) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([group])
        return len(answer.groups[0][-1])
    finally:
        await admin.close()


async def test_a_broker_that_is_down_at_the_start_or_killed_later_is_waited_for(
    private_kafka: Callable[[], Awaitable[EmbeddedKafka]], kafka_group: str
) -> None:
    broker = await private_kafka()
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    topic = Topic(name="t", partitions=2, producer="t", consumers=(), key="", event_types=())
    async with topics_of_a_test(broker.bootstrap_servers) as own:
        await own.create(name="t", partitions=2)
        own.keep()
    handler = Handler()
    await broker.kill()
    async with consuming(settings, topic, kafka_group, handler) as consumer:
        with pytest.raises(RuntimeError, match="Kafka"):
            await consumer.check()
        await broker.restart()
        await send(settings, topic, [b"1"])
        await eventually(lambda: done(handler), lambda n: n == {b"1"}, within=90)
        await eventually(lambda: is_ready(consumer), within=60)
        await broker.kill()
        await eventually(lambda: is_ready(consumer), lambda ready: not ready, within=60)
        await broker.restart()
        await send(settings, topic, [b"2"])
        await eventually(lambda: done(handler), lambda n: n == {b"1", b"2"}, within=90)


async def is_ready(consumer: BatchConsumer) -> bool:
    try:
        await consumer.check()
    except RuntimeError:
        return False
    return True


async def done(handler: Handler) -> set[bytes | None]:
    return set(handler.handled)


def assigned(consumer: BatchConsumer) -> set[TopicPartition]:
    return set().union(*(listener.subscriber.consumer.assignment() for listener in consumer._listeners))


async def test_a_topic_that_was_lost_is_missed_in_readiness_and_read_once_it_is_made_again(
    kafka_settings: KafkaSettings, topics: Topics, topic: Topic, kafka_group: str
) -> None:
    handler = Handler()
    await send(kafka_settings, topic, [b"1"])
    async with consuming(kafka_settings, topic, kafka_group, handler) as consumer:
        await eventually(lambda: is_ready(consumer), within=30)

        async def complaint() -> str:
            try:
                await consumer.check()
            except RuntimeError as error:
                return str(error)
            return ""

        await topics.remove()
        topics.keep()
        await eventually(complaint, lambda said: "does not exist" in said, within=30)
        # Members that have settled without partitions ask for metadata only when its time has come.
        await eventually(lambda: asyncio.sleep(0, assigned(consumer)), lambda partitions: not partitions, within=30)
        await topics.create(name=topic.name, partitions=topic.partitions)
        await send(kafka_settings, topic, [b"2", b"3"])
        await eventually(lambda: asyncio.sleep(0, handler.handled), lambda seen: {b"2", b"3"} <= set(seen), within=30)
        await eventually(lambda: is_ready(consumer))


async def complaint_of(consumer: BatchConsumer) -> str:
    try:
        await consumer.check()
    except RuntimeError as error:
        return str(error)
    return ""


async def send_to(settings: KafkaSettings, topic: Topic, partition: int, values: Sequence[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers) as producer:
        for value in values:
            await producer.send_and_wait(topic.name, value=value, partition=partition)


async def test_a_partition_that_cannot_be_read_costs_its_neighbours_nothing_and_waits_until_it_can(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a poll had taken from healthy partitions was lost when the next one in it raised."""
    damaged, real = {2}, PartitionRecords.__next__

    def read(records: PartitionRecords) -> ConsumerRecord[bytes, bytes]:
        record: ConsumerRecord[bytes, bytes] = real(records)
        if record.partition in damaged and record.value == b"2:7":
            raise CorruptRecordException("Invalid CRC")
        return record

    monkeypatch.setattr(PartitionRecords, "__next__", read)
    handler = Handler()
    values = {partition: [f"{partition}:{n}".encode() for n in range(20)] for partition in range(4)}
    for partition in range(4):
        await send_to(kafka_settings, topic, partition, values[partition])
    readable = {value for partition in values for value in values[partition] if partition != 2} | set(values[2][:7])
    async with consuming(kafka_settings, topic, kafka_group, handler) as consumer:
        await eventually(lambda: done(handler), lambda seen: seen == readable, within=30)
        said = await eventually(lambda: complaint_of(consumer), lambda said: "can't be read" in said, within=30)
        assert f"{topic.name}-2 can't be read at 7: CorruptRecordException" in said
        for partition in range(4):
            await send_to(kafka_settings, topic, partition, [f"{partition}:20".encode()])
        more = readable | {b"0:20", b"1:20", b"3:20"}
        await eventually(lambda: done(handler), lambda seen: seen == more, within=30)
        assert await complaint_of(consumer) == said
        damaged.clear()
        await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda n: n == 84, within=30)
        await eventually(lambda: is_ready(consumer))
    assert set(handler.handled) == {value for partition in values for value in values[partition]} | {
        f"{partition}:20".encode() for partition in range(4)
    }


async def send_with_a_header_name_that_is_not_utf_8(settings: KafkaSettings, topic: Topic, partition: int) -> None:
    """Two records in one batch, as a client would write them that takes header names for bytes."""

    class Name(str):
        __slots__ = ()

        def encode(self, *_: str) -> bytes:
            return b"caf\xe9"

    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=16_384,
    )
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers) as producer:
        batch = producer.create_batch()
        batch._builder = builder
        batch.append(key=None, value=b"unreadable", timestamp=None, headers=[(Name("name"), b"")])
        batch.append(key=None, value=b"in the same batch", timestamp=None)
        await (await producer.send_batch(batch, topic.name, partition=partition))


async def test_a_record_that_no_reader_can_decode_is_put_aside_and_its_partition_goes_on(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str
) -> None:
    handler = Handler()
    for partition in (0, 1):
        await send_to(kafka_settings, topic, partition, [f"{partition} before {n}".encode() for n in range(10)])
    await send_with_a_header_name_that_is_not_utf_8(kafka_settings, topic, 1)
    for partition in (0, 1):
        await send_to(kafka_settings, topic, partition, [f"{partition} after {n}".encode() for n in range(10)])
    async with consuming(kafka_settings, topic, kafka_group, handler) as consumer:
        await eventually(lambda: committed(kafka_settings, topic, kafka_group), lambda n: n == 42, within=30)
        await eventually(lambda: is_ready(consumer))
    assert set(handler.handled) == {
        f"{partition} {when} {n}".encode() for partition in (0, 1) for when in ("before", "after") for n in range(10)
    }
    letters = await records_on(kafka_settings.bootstrap_servers, dead_letter_topic(topic, kafka_group).name)
    notes = [dict(letter.headers) for letter in letters]
    assert {(note["x-dlq-partition"], note["x-dlq-offset"]) for note in notes} == {(b"1", b"10"), (b"1", b"11")}
    assert b"UTF-8" in notes[0]["x-dlq-reason"]
    assert b"can't be read" in notes[0]["x-dlq-omitted"]


async def test_a_consumer_that_only_starts_and_ends_again_slows_down(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start rebalances the whole group."""
    delays: list[float] = []
    resets: list[float] = []

    class Pauses(Backoff):
        def next(self) -> float:
            delays.append(self._next)
            super().next()
            return 0.0

        def reset(self) -> None:
            resets.append(self._next)
            super().reset()

    async def ends(_: object) -> None:
        """As when a task of the library ends right after the start."""

    monkeypatch.setattr("shared.consumer.Backoff", Pauses)
    monkeypatch.setattr("shared.consumer._until_a_task_ends", ends)
    async with consuming(kafka_settings, topic, kafka_group, Handler()):
        await eventually(lambda: asyncio.sleep(0, len(delays)), lambda count: count >= 3, within=60)
    assert delays[:3] == [0.2, 0.4, 0.8]
    assert not resets


async def test_the_lag_of_partitions_that_went_elsewhere_is_not_shown_any_more(
    kafka_settings: KafkaSettings, topic: Topic, kafka_group: str
) -> None:
    """The last value before a rebalance would stay for ever, and look like a lag."""

    async def shown() -> set[int]:
        (metric,) = LAG.collect()
        return {int(s.labels["partition"]) for s in metric.samples if s.labels["group"] == kafka_group}

    for partition in range(4):
        await send_to(kafka_settings, topic, partition, [b"1"])
    async with consuming(kafka_settings, topic, kafka_group, Handler()) as first:
        await eventually(shown, lambda partitions: partitions == {0, 1, 2, 3}, within=30)
        async with consuming(kafka_settings, topic, kafka_group, Handler()) as second:
            await eventually(lambda: is_ready(second), within=30)
            await eventually(lambda: asyncio.sleep(0, len(assigned(first))), lambda count: count == 2, within=30)
            assert await shown() <= {partition.partition for partition in assigned(first)}
    assert await shown() == set()
