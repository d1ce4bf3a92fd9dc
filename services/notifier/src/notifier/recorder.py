"""Writes results down: at once when it is quiet, in batches while a write is under way."""

import asyncio
from collections import Counter as CountOf
from collections.abc import Callable
from dataclasses import replace

import structlog
from prometheus_client import Counter
from pymongo.errors import ConnectionFailure, PyMongoError

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
# A write costs the database about as much as twenty of its rows, and a journaled one delays all others: where results
# come one after the other, a little patience makes a fraction of the writes of them. One that comes alone doesn't wait.
BUSY = 2
LINGER_SECONDS = 0.02
# Of answers in one statement, which may have 16 MB; a character takes up to four bytes.
BATCH_BYTES = 4 * 1024 * 1024
UTF8_BYTES = 4


class Recorder:
    """Takes results without waiting; its loop writes them, trying again for ever when MongoDB is away."""

    def __init__(self, store: DeliveryStore, clock: ServerClock, *, on_recovery: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_recovery = on_recovery
        self._waiting: list[Result] = []
        self._most = BATCH
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
            batch = self._batch()
            try:
                held = await self._store.record(batch, now=self._clock.now())
            except Exception as error:  # noqa: BLE001 - nothing that a result holds may end the writing of all others
                if _is_away(error) or not self._narrow(batch, error):
                    self.failing = type(error).__name__
                    log.warning("recorder.failed", error=self.failing, waiting=len(self._waiting))
                    await asyncio.sleep(backoff.next())
                continue
            del self._waiting[: len(batch)]
            self._most = min(BATCH, self._most * 2)
            busy = len(batch) >= BUSY
            if not self._waiting:
                self._wake.clear()
                self._empty.set()
            self._observe(batch, held)
            if self.failing is not None:
                self.failing = None
                backoff.reset()
                self._on_recovery()

    def _batch(self) -> list[Result]:
        """The next results: so many at most, and so many bytes of answers, since a statement has a size."""
        batch, size = self._waiting[: self._most], 0
        for number, result in enumerate(batch):
            size += len(result.attempt.response_body) * UTF8_BYTES
            if number and size > BATCH_BYTES:
                return batch[:number]
        return batch

    def _narrow(self, batch: list[Result], error: Exception) -> bool:
        """After a refusal by a server that is there: look for the result that it refuses, and take its answer away.

        Returns:
            False when there is nothing left to take away: it is put behind the others, and tried again like them.
        """
        if len(batch) > 1:
            self._most = len(batch) // 2
            return True
        (result,) = batch
        del self._waiting[:1]
        bare = replace(result, attempt=replace(result.attempt, response_body="", truncated=True, retry_after=None))
        log.error(
            "recorder.refused", delivery_id=result.delivery_id, error=type(error).__name__, already_bare=bare == result
        )
        if bare == result:
            self._waiting.append(result)
            return False
        self._waiting.insert(0, bare)
        return True

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


def _is_away(error: Exception) -> bool:
    """Whether the database couldn't be reached or didn't come to an end, rather than refuse what it was given."""
    if isinstance(error, ConnectionFailure):
        return True
    return isinstance(error, PyMongoError) and (error.timeout or error.has_error_label("RetryableWriteError"))
