"""Records that nobody can handle, put aside with their bytes and where they lay, so that they block nobody."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from prometheus_client import Counter

from shared.kafka import Publisher, Record, RecordRefused
from shared.topics import Topic, dead_letter_topic

log = structlog.get_logger(__name__)

DEAD_LETTERS = Counter("kafka_dead_letters_total", "Records written to the dead-letter topic.", ["topic", "group"])


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A record that can't be handled, and why in a few words without its data."""

    record: ConsumerRecord[bytes, bytes]
    reason: str


class DeadLetters:
    """Writes the dead letters of one group to the topic of its own."""

    def __init__(self, publisher: Publisher, *, topic: Topic, group: str) -> None:
        self._publisher = publisher
        self._topic = topic
        self._group = group
        self._name = dead_letter_topic(topic, group).name

    async def bury(self, dead: Sequence[DeadLetter]) -> None:
        """Write them with key, value and headers as they were.

        Raises:
            PublishFailed: not all are known to be written; bury them again.
        """
        if not dead:
            return
        try:
            await self._publisher.publish([self._letter(item) for item in dead])
        except RecordRefused:
            await self._bury_one_by_one(dead)
        DEAD_LETTERS.labels(self._topic.name, self._group).inc(len(dead))
        for item in dead:
            self._log(item.record.partition, item.record.offset, item.reason)

    async def bury_unread(self, partition: TopicPartition, offset: int, reason: str) -> None:
        """Write where a record lies that can't even be read; raises as ``bury``."""
        notes = self._notes(partition.partition, offset, reason)
        await self._publisher.publish([self._address(notes, "can't be read")])
        DEAD_LETTERS.labels(self._topic.name, self._group).inc()
        self._log(partition.partition, offset, reason)

    async def _bury_one_by_one(self, dead: Sequence[DeadLetter]) -> None:
        """A record just below Kafka's limit is above it with our notes: its dead letter says where it lies instead."""
        for item in dead:
            try:
                await self._publisher.publish([self._letter(item)])
            except RecordRefused:
                await self._publisher.publish([self._address(self._notes_of(item), "too large")])

    def _letter(self, item: DeadLetter) -> Record:
        record = item.record
        return Record(
            topic=self._name,
            key=record.key,
            # aiokafka refuses to write what it reads without key and value.
            value=b"" if record.key is None and record.value is None else record.value,
            headers=[*record.headers, *self._notes_of(item)],
        )

    def _address(self, notes: list[tuple[str, bytes]], why: str) -> Record:
        omitted = ("x-dlq-omitted", f"key, value and headers: {why}".encode())
        return Record(topic=self._name, key=None, value=b"", headers=[*notes, omitted])

    def _notes_of(self, item: DeadLetter) -> list[tuple[str, bytes]]:
        record = item.record
        return [
            ("x-dlq-timestamp", str(record.timestamp).encode()),
            *self._notes(record.partition, record.offset, item.reason),
        ]

    def _notes(self, partition: int, offset: int, reason: str) -> list[tuple[str, bytes]]:
        notes = {
            "x-dlq-topic": self._topic.name,
            "x-dlq-partition": str(partition),
            "x-dlq-offset": str(offset),
            "x-dlq-group": self._group,
            "x-dlq-reason": reason[:1000],
            "x-dlq-failed-at": datetime.now(UTC).isoformat(),
        }
        return [(name, text.encode()) for name, text in notes.items()]

    def _log(self, partition: int, offset: int, reason: str) -> None:
        log.error(
            "consumer.dead_letter", topic=self._topic.name, partition=partition, offset=offset, reason=reason[:300]
        )
