"""Ends attempts whose time is over, each once and with its event: one replica at a time, in small batches."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter
from pymongo.errors import PyMongoError

from shared.backoff import Backoff
from shared.lease import Lease

if TYPE_CHECKING:
    from consent_gateway.store import Store
    from shared.mongo import Database

log = structlog.get_logger(__name__)

EXPIRED = Counter("attempts_expired_total", "Attempts that nobody finished, by what they waited for.", ["phase"])

LEASE_SECONDS = 30.0
# Between two looks for what is overdue, and between two batches of it.
PAUSE_SECONDS = 10.0
BETWEEN_SECONDS = 0.2
BATCH = 50
# Whoever took an attempt may be at work beyond its time: Entra is waited for, and so is the database.
GRACE = timedelta(seconds=120)


class AttemptSweeper:
    """Sweeps while it holds the lease. An attempt that moves on meanwhile is left alone."""

    def __init__(
        self,
        database: "Database",
        store: "Store",
        *,
        owner: str,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._lease = Lease(database["leases"], "attempt-sweeper", owner=owner, seconds=LEASE_SECONDS)
        self._store = store
        self._committed = committed
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled; a database that is away is waited for."""
        backoff = Backoff()
        while True:
            try:
                token = await self._lease.acquire()
                if token is None:
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                while await self._lease.renew(token):
                    ended = await self.sweep()
                    backoff.reset()
                    await asyncio.sleep(BETWEEN_SECONDS if ended == BATCH else PAUSE_SECONDS)
            except PyMongoError as error:
                delay = backoff.next()
                log.warning("attempts.sweep_failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                await asyncio.sleep(delay)

    async def sweep(self) -> int:
        """End one batch of what is overdue; returns how many there were.

        Raises:
            PyMongoError: the rest waits for the next time.
        """
        overdue = await self._store.attempts.overdue(now=self._clock(), grace=GRACE, limit=BATCH)
        for attempt in overdue:
            if await self._store.expire_attempt(attempt):
                self._committed()
                EXPIRED.labels(str(attempt.phase)).inc()
                log.info(
                    "consent.expired", attempt_id=attempt.id, account_id=attempt.account_id, phase=str(attempt.phase)
                )
        return len(overdue)
