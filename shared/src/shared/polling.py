"""Taking fetched records partition by partition, so that what can't be read in one costs no other a record.

aiokafka's ``getmany`` moves the position of each partition as it empties its buffer; when the next buffer raises (a
damaged batch, a header name that isn't UTF-8), it drops what it has taken from the others, whose positions stay moved.
Asked for one partition at a time it has nothing to drop: a position moves only past records that are handed over.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError

from shared.backoff import Backoff

log = structlog.get_logger(__name__)

# A partition is asked again within the second; what was wrong would have shown by then.
QUIET_SECONDS = 5.0

# Makes a dead letter of an offset that can't be read, and counts it as handled; raises where it is to be tried again.
Skip = Callable[[AIOKafkaConsumer, TopicPartition, int, str], Awaitable[None]]
# Told the offsets at which partitions stand still.
Stuck = Callable[[AIOKafkaConsumer, Mapping[TopicPartition, int]], None]


@dataclass(kw_only=True)
class _Trouble:
    """A partition that raised: how many records are asked of it at once, halved while it raises, doubled after."""

    room: int
    not_before: float
    reason: str | None = None
    backoff: Backoff = field(default_factory=Backoff)


class Polling:
    """Polls for one consumer of a group; stands in for FastStream's ``get_msg``.

    A partition that raises is read in ever smaller bites up to the record that can't be read, while its neighbours go
    on. Where a producer wrote what no reader of ours can decode, that offset becomes a dead letter and reading goes on
    behind it. Anything else (a checksum that is wrong, a codec that isn't installed, a missing authorization) may be
    cured where it comes from, and skipping it could lose what was acknowledged: it is tried again for ever, with
    readiness red.
    """

    def __init__(
        self,
        topic: str,
        *,
        max_records: int,
        idle_seconds: float,
        settled: asyncio.Event,
        handled: asyncio.Event,
        skip: Skip,
        stuck: Stuck,
    ) -> None:
        self._none = TopicPartition(topic, -1)
        self._max_records = max_records
        self._idle_seconds = idle_seconds
        self._settled = settled
        self._handled = handled
        self._skip = skip
        self._stuck = stuck
        # Whether nothing is taken that isn't handed over yet; FastStream asks again once it is.
        self.idle = asyncio.Event()
        self.idle.set()
        self._turn = 0
        self._joining: str | None = None
        self._troubles: dict[TopicPartition, _Trouble] = {}

    def check(self) -> None:
        """Raise while there is something that can't be read."""
        reasons = [trouble.reason for trouble in self._troubles.values() if trouble.reason is not None]
        if self._joining is not None:
            reasons.append(self._joining)
        if reasons:
            raise RuntimeError("; ".join(reasons))

    async def __call__(self, consumer: AIOKafkaConsumer) -> tuple[ConsumerRecord[bytes, bytes], ...]:
        """The records that are there, at most ``max_records``; after a moment none, where there are none.

        Raises:
            ConsumerStoppedError: the consumer was closed.
            KafkaError: the group can't be joined.
        """
        self.idle.set()
        await self._join(consumer)
        self.idle.clear()
        assigned = sorted(consumer.assignment())
        self._troubles = {partition: self._troubles[partition] for partition in assigned if partition in self._troubles}
        taken: list[ConsumerRecord[bytes, bytes]] = []
        # Each poll begins one further: where there is more than fits, nobody is always the last.
        self._turn = (self._turn + 1) % max(1, len(assigned))
        for partition in assigned[self._turn :] + assigned[: self._turn]:
            if len(taken) >= self._max_records:
                break
            taken += await self._take(consumer, partition, self._max_records - len(taken))
        if not taken:
            self.idle.set()
            await self._arrival(consumer)
        return tuple(taken)

    async def _join(self, consumer: AIOKafkaConsumer) -> None:
        """Wait while the group is being balanced, and hear what keeps us from it; takes no records."""
        with self._hearing():
            await consumer.getmany(self._none, timeout_ms=0)
        self._joining = None

    async def _arrival(self, consumer: AIOKafkaConsumer) -> None:
        """Wait until something was fetched, but not for long."""
        # As `getmany` does; asked for no partition, it would wait to the end of its time.
        waiter: asyncio.Future[None] = consumer._fetcher._create_fetch_waiter()  # noqa: SLF001
        with contextlib.suppress(TimeoutError), self._hearing():
            async with asyncio.timeout(self._idle_seconds):
                await waiter

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[None]:
        try:
            yield
        except (ConsumerStoppedError, TimeoutError):
            raise
        except Exception as error:
            self._joining = f"{type(error).__name__}: {error}"[:200]
            raise

    async def _take(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, room: int
    ) -> list[ConsumerRecord[bytes, bytes]]:
        trouble = self._troubles.get(partition)
        if trouble is not None:
            if trouble.not_before > monotonic():
                return []
            room = min(room, trouble.room)
        try:
            found = await consumer.getmany(partition, timeout_ms=0, max_records=room)
        except ConsumerStoppedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever can't be read of one partition, the others must be
            # aiokafka counts a fetch that raised as one that goes on, and would never again notice a stuck handler.
            consumer._subscription._fetch_count = 0  # noqa: SLF001
            await self._unreadable(consumer, partition, error, room)
            return []
        records: list[ConsumerRecord[bytes, bytes]] = found.get(partition, [])
        if trouble is not None:
            trouble.room *= 2 if records else 1
            trouble.reason = None if records else trouble.reason
            # What raised without a record behind it (an authorization) shows its end by not raising any more.
            if trouble.room > self._max_records or monotonic() - trouble.not_before > QUIET_SECONDS:
                del self._troubles[partition]
        return records

    async def _unreadable(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, error: Exception, room: int
    ) -> None:
        if not self._settled.is_set():
            return  # fetched from where the service is about to move away
        trouble = self._troubles.setdefault(partition, _Trouble(room=room, not_before=monotonic()))
        if room > 1:
            trouble.room = room // 2
            return
        # Nothing before it is left, so the position is that of the record itself.
        try:
            offset = await consumer.position(partition)
            await self._handled.wait()
            if await consumer.position(partition) != offset:
                return  # what was taken before it failed, and comes first
            if isinstance(error, UnicodeDecodeError):
                await self._skip(consumer, partition, offset, "a header name in its record batch is not UTF-8")
                trouble.reason = None
                trouble.backoff.reset()
                return
            self._stuck(consumer, {partition: offset})
            reason = f"can't be read at {offset}: {type(error).__name__}"
        except Exception as failure:  # noqa: BLE001 - its position stays as it is, so it comes again
            reason = f"can't be read, nor be skipped: {type(failure).__name__}"
        delay = trouble.backoff.next()
        trouble.not_before = monotonic() + delay
        trouble.reason = f"{partition.topic}-{partition.partition} {reason}"
        log.warning(
            "consumer.unreadable", reason=trouble.reason, detail=str(error)[:300], retry_in_seconds=round(delay, 2)
        )
