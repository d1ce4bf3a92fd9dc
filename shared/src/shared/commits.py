"""The group's offsets of a service that keeps positions of its own: written soon, not once for each batch.

Such a service starts where its own positions say, so that nothing waits for these and nothing is lost with the newest
of them. They are what an operator's tools show as lag, and what is left where the service's own are lost. A commit for
each batch would cost as much as the batch where few records come at a time.
"""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.backoff import Backoff

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 0.2


class Commits:
    """Takes offsets without waiting, and commits the newest a moment later; after a failure, again until it works."""

    def __init__(self) -> None:
        self._reached: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None

    def put(self, consumer: AIOKafkaConsumer, after: Mapping[TopicPartition, int]) -> None:
        """Everything before these offsets is durable."""
        self._reached.update(after)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(consumer))

    async def flush(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what waits, or is on its way, now; what fails is left to the service's own positions."""
        reached, self._reached = self._reached, {}
        if not reached:
            return
        try:
            await commit(consumer, reached)
        except Exception as error:  # noqa: BLE001 - nothing depends on it
            log.info("commits.not_flushed", error=type(error).__name__)

    async def close(self) -> None:
        """Commit nothing any more."""
        self._reached = {}
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        backoff = Backoff()
        while self._reached:
            await asyncio.sleep(PAUSE_SECONDS)
            reached = dict(self._reached)
            try:
                await commit(consumer, reached)
                backoff.reset()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one says the same and more
                log.info("commits.failed", error=type(error).__name__)
                await asyncio.sleep(backoff.next())
            else:
                self._reached = {tp: offset for tp, offset in self._reached.items() if offset != reached.get(tp)}


async def commit(consumer: AIOKafkaConsumer, after: Mapping[TopicPartition, int]) -> None:
    """Commit the offsets of those partitions that are still the consumer's: what went to others is theirs to say.

    Raises:
        KafkaError: nothing is committed, or nobody knows.
    """
    owned = consumer.assignment()
    if offsets := {partition: offset for partition, offset in after.items() if partition in owned}:
        await consumer.commit(offsets)
