"""Work that outlives its process: a row per job, done a step at a time by whichever replica has taken it.

A job is claimed like a delivery: ``next_at`` moves to the end of a lease, and ``claim`` is a token that nobody else
has. A step whose process died is done again by another one, so every step can be done twice.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import PyMongoError

from notifier.clock import ServerClock
from shared.backoff import Backoff

if TYPE_CHECKING:
    from shared.mongo import Collection, Document

log = structlog.get_logger(__name__)

# How late a job is seen that another replica was asked for, or left.
LOOK_SECONDS = 2.0

Step = Callable[["Document", "Document"], Awaitable[None]]


class Jobs:
    """The rows of one kind of work, and the loop that does it. ``lease`` is how long a process may take for a step."""

    def __init__(self, rows: "Collection", clock: ServerClock, *, lease: timedelta) -> None:
        self._rows = rows
        self._clock = clock
        self._lease = lease
        self._wake = asyncio.Event()

    async def create_indexes(self) -> None:
        """Make the index; idempotent."""
        await self._rows.create_index([("next_at", ASCENDING)], name="due")

    def poke(self) -> None:
        """A job became due in this process."""
        self._wake.set()

    async def run(self, step: Step) -> None:
        """Do jobs until cancelled.

        ``step`` is given the job and the query by which it is still ours; it moves ``next_at`` to when the job goes on,
        or takes it away.
        """
        backoff = Backoff()
        while True:
            self._wake.clear()
            try:
                job = await self._take()
                if job is not None:
                    await step(job, {"_id": job["_id"], "claim": job["claim"]})
                backoff.reset()
            except PyMongoError as error:
                log.warning("jobs.failed", kind=self._rows.name, error=type(error).__name__)
                await asyncio.sleep(backoff.next())
                continue
            if job is None:
                await self._idle()

    async def _take(self) -> "Document | None":
        now = self._clock.now()
        job: Document | None = await self._rows.find_one_and_update(
            {"next_at": {"$lte": now}},
            {"$set": {"claim": uuid4().hex, "next_at": now + self._lease}},
            sort=[("next_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        return job

    async def _idle(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass
