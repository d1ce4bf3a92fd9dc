"""Reading Kafka in batches through FastStream so that nothing is lost and nothing bad blocks its neighbours.

FastStream's acknowledgement policies either lose failed records or repeat a bad one for ever, and its parser fails on
foreign headers before any policy applies (see docs/decisions). So the policy here is MANUAL with a parser and a
decoder that can't fail: the handler classifies every record itself, dead letters are written first, then the offsets
of exactly the records handled are committed, and any infrastructure failure rewinds. What the client can't even read is
looked after by ``polling``; how many batches are under way at once, and what becomes of those behind one that fails, by
``batches``.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512
from prometheus_client import Counter, Gauge

from shared.backoff import Backoff
from shared.batches import Batches
from shared.commits import Commits, commit
from shared.dead_letters import DeadLetter, DeadLetters
from shared.kafka import Publisher, client_options
from shared.polling import Polling
from shared.settings import KafkaSettings
from shared.topics import Topic

__all__ = ["BatchConsumer", "BatchHandler", "DeadLetter", "KeepPositions", "StartingPositions"]

log = structlog.get_logger(__name__)

RECORDS = Counter("kafka_records_handled_total", "Records whose offset was committed.", ["topic", "group"])
BATCH_FAILURES = Counter("kafka_batch_failures_total", "Batches rewound after a failure.", ["topic", "group"])
LAG = Gauge("kafka_consumer_lag_records", "Records not yet handled, by partition.", ["topic", "group", "partition"])

METADATA_MS = 10_000
IDLE_SECONDS = 0.1
# How long a rebalance waits for the batch in flight, so that its next owner need not handle it again.
HANDOVER_SECONDS = 10.0
FLUSH_SECONDS = 2.0
# A consumer that lasted so long, or handled a batch, has started well; the next failure is a new one.
STARTED_WELL_SECONDS = 60.0


# What a service does with a batch: make the effects of the records durable, and return those that can't be handled.
# Records of one partition come in order; a batch may span partitions. It must be idempotent: after a crash, a rebalance
# or an exception the same records come again. An exception means "try again later"; it decides nothing about offsets.
BatchHandler = Callable[[Sequence[ConsumerRecord[bytes, bytes]]], Awaitable[Sequence[DeadLetter]]]

# Asked at every assignment: the offsets to start from, for those of the partitions that the service keeps itself.
StartingPositions = Callable[[set[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
KeepPositions = Callable[[Mapping[TopicPartition, int]], Awaitable[None]]


class BatchConsumer:
    """Consumes one topic for one group until cancelled, in ``loops`` consumers that share the group's partitions.

    Two loops keep two batches in flight while each key stays in order, because a partition belongs to one loop. With
    ``in_flight``, ``handle`` is called for so many batches of a loop at once, in their order; what order their effects
    need is then the service's to keep.
    ``starting_positions`` is asked at every assignment; an offset it names beats the one committed by the group.
    ``keep_positions`` is told the next offsets once a batch and its dead letters are durable; the group's offsets then
    follow a moment later, since it is the service's own that count.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        topic: Topic,
        group: str,
        handle: BatchHandler,
        publisher: Publisher,
        loops: int = 2,
        in_flight: int = 1,
        max_records: int = 500,
        starting_positions: StartingPositions | None = None,
        keep_positions: KeepPositions | None = None,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._group = group
        self._handle = handle
        self._loops = loops
        self._in_flight = in_flight
        self._max_records = max_records
        self._starting_positions = starting_positions
        self._keep_positions = keep_positions
        self._dead_letters = DeadLetters(publisher, topic=topic, group=group)
        self._listeners: list[_Assigned] = []
        self._failing: str | None = "not connected to Kafka"
        self._handled = False
        self._measured: dict[TopicPartition, AIOKafkaConsumer] = {}

    async def run(self) -> None:
        """Consume until cancelled; an unreachable broker is tried again for ever with capped backoff."""
        backoff = Backoff()
        while True:
            begun, self._handled = monotonic(), False
            broker: KafkaBroker | None = None
            try:
                broker = self._build()
                await broker.start()
                self._failing = None
                log.info("consumer.started", topic=self._topic.name, group=self._group, loops=self._loops)
                await _until_a_task_ends(broker)
                self._failing = "a consumer task ended"
            except Exception as error:  # noqa: BLE001 - whatever keeps the broker from starting, it is tried again
                self._failing = f"{type(error).__name__}: {error}"
            finally:
                if broker is not None:
                    await self._flush()
                    await _stop(broker)
                for listener in self._listeners:
                    await listener.batches.close()
                    await listener.commits.close()
                self._forget(self._measured)
            if self._handled or monotonic() - begun > STARTED_WELL_SECONDS:
                # Each start rebalances the whole group: one that only starts, and ends again, has to slow down.
                backoff.reset()
            log.warning("consumer.restarting", topic=self._topic.name, group=self._group, error=self._failing)
            await asyncio.sleep(backoff.next())

    async def check(self) -> None:
        """Readiness: raise unless connected, a member of the group, and the last batch succeeded.

        A member without partitions is ready: there may be more members than partitions.
        """
        if self._failing is not None:
            raise RuntimeError(self._failing)
        for listener in self._listeners:
            if listener.failing is not None:
                raise RuntimeError(listener.failing)
            listener.polling.check()
            if not listener.settled.is_set():
                raise RuntimeError("joining the consumer group")
            # aiokafka forgets the coordinator as soon as it can't be reached, and has no public way to tell.
            if listener.subscriber.consumer._coordinator.coordinator_id is None:  # noqa: SLF001
                raise RuntimeError("the group's coordinator can't be reached")
            if not listener.subscriber.consumer.partitions_for_topic(self._topic.name):
                raise RuntimeError(f"{self._topic.name} does not exist; the topic job makes it")

    def _build(self) -> KafkaBroker:
        options = client_options(self._settings)
        broker = KafkaBroker(
            options["bootstrap_servers"],
            security=_security(self._settings, options.get("ssl_context")),
            client_id=self._group,
            allow_auto_create_topics=False,
            # How soon a topic is noticed that was made after the start: until then its members have no partitions.
            metadata_max_age_ms=METADATA_MS,
            consumer_only=True,
            ack_policy=AckPolicy.MANUAL,
            # Injecting the handler's argument would cost each batch two changes of thread.
            apply_types=False,
            logger=logging.getLogger("faststream"),
        )
        self._listeners = [self._listener() for _ in range(self._loops)]
        for listener in self._listeners:
            subscriber = broker.subscriber(
                self._topic.name,
                group_id=self._group,
                auto_offset_reset="earliest",
                ack_policy=AckPolicy.MANUAL,
                batch=True,
                parser=_parse,
                decoder=_decode,
                session_timeout_ms=10_000,
                # How soon a member notices that another one joins or leaves: nobody consumes until all have.
                heartbeat_interval_ms=500,
                rebalance_timeout_ms=60_000,
                max_poll_interval_ms=300_000,
                listener=listener,
            )
            listener.subscriber = subscriber
            subscriber.get_msg = listener.polling  # type: ignore[method-assign]
            subscriber(self._batch_handler(listener))
        return broker

    def _listener(self) -> "_Assigned":
        listener = _Assigned(self._starting_positions, left=self._left)
        backoff = Backoff()
        listener.batches = Batches(
            most=self._in_flight,
            handle=self._make_durable,
            advance=partial(self._settled, listener, backoff),
            rewind=partial(self._rewind, listener, backoff),
        )
        listener.polling = Polling(
            self._topic.name,
            max_records=self._max_records,
            idle_seconds=IDLE_SECONDS,
            settled=listener.settled,
            handled=listener.batches.idle,
            skip=partial(self._skip, listener),
            stuck=self._measure,
        )
        return listener

    def _batch_handler(self, listener: "_Assigned") -> Callable[[Any], Awaitable[None]]:
        async def on_batch(records: Any) -> None:  # noqa: ANN401 - FastStream would make a model of the type
            if self._starting_positions is not None:
                await listener.settled.wait()
            # Nothing escapes from there: under MANUAL an escaping exception skips the batch for good.
            await listener.batches.add(listener.subscriber.consumer, records)

        return on_batch

    async def _make_durable(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        await self._dead_letters.bury(await self._handle(records))

    async def _settled(
        self,
        listener: "_Assigned",
        backoff: Backoff,
        consumer: AIOKafkaConsumer,
        after: Mapping[TopicPartition, int],
        count: int,
    ) -> None:
        await self._advance(listener, consumer, after)
        backoff.reset()
        self._handled = True
        listener.failing = None
        RECORDS.labels(self._topic.name, self._group).inc(count)
        self._measure(consumer, after)

    async def _rewind(
        self,
        listener: "_Assigned",
        backoff: Backoff,
        consumer: AIOKafkaConsumer,
        first: Mapping[TopicPartition, int],
        error: BaseException,
    ) -> None:
        delay = backoff.next()
        BATCH_FAILURES.labels(self._topic.name, self._group).inc()
        log.warning(
            "consumer.batch_failed",
            topic=self._topic.name,
            group=self._group,
            partitions=len(first),
            error=type(error).__name__,
            detail=str(error)[:300],
            retry_in_seconds=round(delay, 2),
        )
        owned = first.keys() & consumer.assignment()
        for partition in owned:
            consumer.seek(partition, first[partition])
        # What was taken away by a rebalance is somebody else's to do, and says nothing about this member any more.
        listener.failing = type(error).__name__ if owned else None
        listener.batches.idle.set()
        await asyncio.sleep(delay)

    async def _advance(
        self, listener: "_Assigned", consumer: AIOKafkaConsumer, after: Mapping[TopicPartition, int]
    ) -> None:
        """Everything before these offsets is durable."""
        if self._keep_positions is not None:
            await self._keep_positions(after)
            listener.commits.put(consumer, after)
        else:
            await commit(consumer, after)

    async def _flush(self) -> None:
        """Commit what waits for it; not for long, where the broker is what failed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                for listener in self._listeners:
                    await listener.commits.flush(listener.subscriber.consumer)

    async def _skip(
        self, listener: "_Assigned", consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int, reason: str
    ) -> None:
        """Give up an offset that can't be read: its dead letter says where it lies."""
        await self._dead_letters.bury_unread(partition, offset, reason)
        after = {partition: offset + 1}
        await self._advance(listener, consumer, after)
        if partition in consumer.assignment():
            consumer.seek(partition, offset + 1)
        self._handled = True
        RECORDS.labels(self._topic.name, self._group).inc()
        self._measure(consumer, after)

    def _measure(self, consumer: AIOKafkaConsumer, after: Mapping[TopicPartition, int]) -> None:
        for partition in after.keys() & consumer.assignment():
            end, offset = consumer.highwater(partition), after[partition]
            if end is not None:
                self._measured[partition] = consumer
                LAG.labels(partition.topic, self._group, str(partition.partition)).set(max(0, end - offset))

    def _left(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> None:
        """What one of our consumers doesn't have any more is for another to measure, here or elsewhere."""
        self._forget([tp for tp, owner in self._measured.items() if owner is consumer and tp not in assigned])

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in list(partitions):
            del self._measured[partition]
            with contextlib.suppress(KeyError):
                LAG.remove(partition.topic, self._group, str(partition.partition))


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka ships no types
    """Follows what one loop is given: moves it to positions that the service keeps itself, knows how it fares."""

    def __init__(
        self,
        starting_positions: StartingPositions | None,
        *,
        left: Callable[[AIOKafkaConsumer, set[TopicPartition]], None],
    ) -> None:
        self.subscriber: Any = None
        self.settled = asyncio.Event()
        self.commits = Commits()
        self.batches: Batches
        self.polling: Polling
        self.failing: str | None = None
        self._starting_positions = starting_positions
        self._left = left

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002 - its interface
        """Finish the batches in flight, then hold back what was fetched.

        What takes longer is handled again by the next owner: a late commit is guarded by the assignment, a late effect
        by its idempotence.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER_SECONDS):
                await self.polling.idle.wait()
                await self.batches.idle.wait()
                await self.commits.flush(self.subscriber.consumer)
        self.settled.clear()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Seek before the first fetch; aiokafka swallows what is raised here, so it is tried until it works."""
        self._left(self.subscriber.consumer, assigned)
        if self._starting_positions is not None and assigned:
            positions = await self._ask(self._starting_positions, assigned)
            for partition, offset in positions.items():
                if partition in assigned:
                    self.subscriber.consumer.seek(partition, offset)
        self.failing = None
        self.settled.set()

    async def _ask(self, ask: StartingPositions, assigned: set[TopicPartition]) -> Mapping[TopicPartition, int]:
        backoff = Backoff()
        while True:
            try:
                return await ask(assigned)
            except Exception as error:  # noqa: BLE001 - without its positions the group could start months back
                log.warning("consumer.positions_unknown", error=type(error).__name__)
                await asyncio.sleep(backoff.next())


async def _parse(message: tuple[ConsumerRecord[bytes, bytes], ...], original: Any) -> KafkaMessage:  # noqa: ANN401
    """FastStream's own parser fails on headers that aren't UTF-8: give it a record without any."""
    parsed: KafkaMessage = await original((replace(message[0], headers=(), value=b""),))
    parsed.raw_message = message
    return parsed


async def _decode(message: KafkaMessage) -> Any:  # noqa: ANN401 - whatever was taken
    """The records as they are: they are decoded one by one by the handler."""
    return message.raw_message


async def _until_a_task_ends(broker: KafkaBroker) -> None:
    """A cancelled consume task is not restarted by FastStream, and its health check does not notice."""
    # The tasks belong to FastStream: there is nothing to await that would not also cancel them.
    subscribers: list[Any] = list(broker.subscribers)
    while all(  # noqa: ASYNC110
        s.tasks and not any(task.done() for task in s.tasks) for s in subscribers
    ):
        await asyncio.sleep(1.0)


async def _stop(broker: KafkaBroker) -> None:
    try:
        async with asyncio.timeout(30):
            await broker.stop()
    except Exception as error:  # noqa: BLE001 - a broker that can't be stopped is left behind; a new one is made
        log.warning("consumer.stop_failed", error=type(error).__name__)


def _security(settings: KafkaSettings, context: ssl.SSLContext | None) -> BaseSecurity | None:
    protocol = settings.security_protocol
    if protocol == "PLAINTEXT":
        return None
    if not protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=True)
    kind = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return kind[settings.sasl_mechanism](
        username=settings.sasl_username or "",
        password=settings.sasl_password.get_secret_value() if settings.sasl_password else "",
        ssl_context=context,
        use_ssl=protocol == "SASL_SSL",
    )
