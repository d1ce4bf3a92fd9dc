"""How far the topic has been read, written down a moment later than it is true.

Nothing depends on the newest position: what lies behind it is durable already, and read again it changes nothing. So no
batch waits for a write of its own, and many share one.
"""

import asyncio
from collections.abc import Mapping

import structlog
from aiokafka import TopicPartition
from pymongo.errors import PyMongoError

from notifier.store import EventStore
from shared.backoff import Backoff

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 0.1


class Progress:
    """Takes positions without waiting; its loop writes them."""

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._reached: dict[TopicPartition, int] = {}
        self._wake = asyncio.Event()

    async def keep(self, positions: Mapping[TopicPartition, int]) -> None:
        """Everything before these offsets is durable."""
        self._reached.update(positions)
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled; while MongoDB is away the newest positions wait."""
        backoff = Backoff()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush()
                backoff.reset()
            except PyMongoError as error:
                log.warning("progress.failed", error=type(error).__name__)
                self._wake.set()
                await asyncio.sleep(backoff.next())
            await asyncio.sleep(PAUSE_SECONDS)

    async def flush(self) -> None:
        """Write what waits, now.

        Raises:
            PyMongoError: it waits on.
        """
        reached = dict(self._reached)
        if reached:
            await self._events.save_positions(reached)
            self._reached = {place: offset for place, offset in self._reached.items() if offset != reached.get(place)}
