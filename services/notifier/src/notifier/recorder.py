"""Writes results down: at once when it is quiet, in batches while a write is under way."""

import asyncio
from collections import Counter as CountOf
from collections.abc import Callable

import structlog
from prometheus_client import Counter
from pymongo.errors import PyMongoError

from notifier.clock import ServerClock
from notifier.deliveries import Result
from notifier.delivery_store import DeliveryStore
from shared.backoff import Backoff

log = structlog.get_logger(__name__)

RECORDED = Counter("notifier_attempts_recorded_total", "Attempts on record.", ["outcome"])
LOST_CLAIMS = Counter(
    "notifier_claims_lost_total", "Attempts not recorded because the lease had ended or the subscription was retired."
)

BATCH = 500
# A write costs the database about as much as twenty of its rows: where as many came while the last one was under way,
# a little patience halves the price of each.
BUSY = 10
LINGER_SECONDS = 0.02


class Recorder:
    """Takes results without waiting; its loop writes them, trying again for ever when MongoDB is away."""

    def __init__(self, store: DeliveryStore, clock: ServerClock, *, on_recovery: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_recovery = on_recovery
        self._waiting: list[Result] = []
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.failing: str | None = None

    def put(self, result: Result) -> None:
        """Take a result; it will be on record unless the process dies first."""
        self._waiting.append(result)
        self._empty.clear()
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        backoff, busy = Backoff(), False
        while True:
            await self._wake.wait()
            if busy:
                await asyncio.sleep(LINGER_SECONDS)
            batch = self._waiting[:BATCH]
            try:
                held = await self._store.record(batch, now=self._clock.now())
            except PyMongoError as error:
                self.failing = type(error).__name__
                delay = backoff.next()
                log.warning("recorder.failed", error=self.failing, waiting=len(self._waiting))
                await asyncio.sleep(delay)
                continue
            del self._waiting[: len(batch)]
            busy = len(batch) >= BUSY
            if not self._waiting:
                self._wake.clear()
                self._empty.set()
            self._observe(batch, held)
            if self.failing is not None:
                self.failing = None
                backoff.reset()
                self._on_recovery()

    async def drained(self) -> None:
        """Return when everything taken so far is on record."""
        await self._empty.wait()

    @staticmethod
    def _observe(batch: list[Result], held: int) -> None:
        for status, count in CountOf(result.verdict.status for result in batch).items():
            RECORDED.labels(status).inc(count)
        if held < len(batch):
            LOST_CLAIMS.inc(len(batch) - held)
            log.warning("recorder.claims_lost", count=len(batch) - held)
