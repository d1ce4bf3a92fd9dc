"""Indexes that are there before anything relies on them, however long the database takes to come up."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from pymongo.errors import PyMongoError

from shared.backoff import Backoff

log = structlog.get_logger(__name__)


class Indexes:
    """Creates a service's indexes once; each of the functions must be idempotent."""

    def __init__(self, *create: Callable[[], Awaitable[None]]) -> None:
        self._create = create
        self._creating = asyncio.Lock()
        self._created = False

    async def before(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run it once the indexes are there; creating them is tried for ever with capped backoff."""
        async with self._creating:
            backoff = Backoff()
            while not self._created:
                try:
                    for create in self._create:
                        await create()
                    self._created = True
                except PyMongoError as error:
                    delay = backoff.next()
                    log.warning("indexes.failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                    await asyncio.sleep(delay)
        await run()

    async def check(self) -> None:
        """Readiness: raise until they are there."""
        if not self._created:
            raise RuntimeError("not created yet")
