"""The batches of one consumer that are under way: several at once where the service asks for it, committed in order.

Handled one after the other, a record waits for the batch before its own to be stored and committed, however little is
to be done for it. Side by side, what is behind may be durable before what is ahead of it; so the offsets are committed
up to the first batch that isn't, and a batch that fails is taken again together with all behind it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError

from shared.backoff import Backoff

log = structlog.get_logger(__name__)

Records = Sequence[ConsumerRecord[bytes, bytes]]
Offsets = Mapping[TopicPartition, int]


class Behind(Exception):
    """What came before has failed, and comes first."""


@dataclass(frozen=True, eq=False, slots=True)
class _Batch:
    """Records that are being handled: where they begin, where they end."""

    first: Offsets
    after: Offsets
    count: int
    task: asyncio.Task[None]

    @property
    def durable(self) -> bool:
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None


class Batches:
    """At most so many batches at once.

    ``handle`` makes the effects of the records durable or raises. ``advance`` is told the offsets behind what is
    durable, and of how many records; it raises when they can't be committed. ``rewind`` is told the offsets to go back
    to and why; when it returns, records are taken again.
    """

    def __init__(
        self,
        *,
        most: int,
        handle: Callable[[Records], Coroutine[Any, Any, None]],
        advance: Callable[[AIOKafkaConsumer, Offsets, int], Awaitable[None]],
        rewind: Callable[[AIOKafkaConsumer, Offsets, BaseException], Awaitable[None]],
    ) -> None:
        self._most = most
        self._handle = handle
        self._advance = advance
        self._rewind = rewind
        self._under_way: deque[_Batch] = deque()
        self._settling: asyncio.Task[None] | None = None
        self._taken_back = 0
        self._failed = False
        self._room = asyncio.Event()
        self._room.set()
        # Whether everything that was taken is committed, or was taken back.
        self.idle = asyncio.Event()
        self.idle.set()

    async def add(self, consumer: AIOKafkaConsumer, records: Records) -> None:
        """Begin to handle the records; return when there is room for more.

        Those that the consumer has been moved back behind since it gave them out are dropped: they come again.
        """
        backoff = Backoff()
        while True:
            await self._room.wait()
            taken_back = self._taken_back
            try:
                records = await _still_current(consumer, records)
            except Exception as error:  # noqa: BLE001 - raised on, they would be skipped
                log.warning("consumer.position_unknown", error=type(error).__name__)
                await asyncio.sleep(backoff.next())
                continue
            if self._room.is_set() and self._taken_back == taken_back:
                break
        if not records:
            return
        first: dict[TopicPartition, int] = {}
        after: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            first.setdefault(partition, record.offset)
            after[partition] = record.offset + 1
        task = asyncio.create_task(self._run(records))
        self._under_way.append(_Batch(first, after, len(records), task))
        self.idle.clear()
        if len(self._under_way) >= self._most:
            self._room.clear()
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle(consumer))
        await self._room.wait()

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = [batch.task for batch in self._under_way]
        if self._settling is not None:
            tasks.append(self._settling)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ended()

    async def _run(self, records: Records) -> None:
        """Handle them, unless something before them has failed meanwhile: its effects have to come first."""
        if self._failed:
            raise Behind
        try:
            await self._handle(records)
        except BaseException:
            self._failed = True
            raise

    async def _settle(self, consumer: AIOKafkaConsumer) -> None:
        while self._under_way:
            await asyncio.wait([self._under_way[0].task])
            done = list(takewhile(lambda batch: batch.durable, self._under_way))
            try:
                if not done:
                    await self._under_way[0].task
                await self._advance(consumer, _merged(done), sum(batch.count for batch in done))
            except asyncio.CancelledError as error:
                # Cancelled by us: stop. Cancelled somewhere below: a failure like any other.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                await self._take_back(consumer, error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the batch is taken again
                await self._take_back(consumer, error)
            else:
                for _ in done:
                    self._under_way.popleft()
                self._room.set()
        self._ended()

    async def _take_back(self, consumer: AIOKafkaConsumer, error: BaseException) -> None:
        """Take no more until all that is under way has ended, then have it all again."""
        self._room.clear()
        self._taken_back += 1
        # Gathered, so that nobody complains of failures that nobody has looked at.
        await asyncio.gather(*(batch.task for batch in self._under_way), return_exceptions=True)
        first: dict[TopicPartition, int] = {}
        for batch in self._under_way:
            for partition, offset in batch.first.items():
                first[partition] = min(offset, first.get(partition, offset))
        await self._rewind(consumer, first, error)
        self._under_way.clear()

    def _ended(self) -> None:
        self._under_way.clear()
        self._failed = False
        self._settling = None
        self._room.set()
        self.idle.set()


def _merged(batches: Sequence[_Batch]) -> dict[TopicPartition, int]:
    after: dict[TopicPartition, int] = {}
    for batch in batches:
        after.update(batch.after)
    return after


async def _still_current(consumer: AIOKafkaConsumer, records: Records) -> Records:
    """The records without those fetched before their partition was taken away or moved to another position.

    aiokafka fetches from the group's offsets as soon as it has partitions, while the service still looks up its own;
    and a batch may fail while the next one is being taken.
    """
    last = {TopicPartition(record.topic, record.partition): record.offset for record in records}
    current: set[TopicPartition] = set()
    for partition, offset in last.items():
        with contextlib.suppress(IllegalStateError):
            if await consumer.position(partition) > offset:
                current.add(partition)
    if len(current) == len(last):
        return records
    return [record for record in records if TopicPartition(record.topic, record.partition) in current]
