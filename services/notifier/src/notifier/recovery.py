"""Sends again, in the background, what a subscription missed since a time: what died, and what came while it was off.

A job keeps the time it has come to: any replica goes on where another stopped, and a step done twice changes nothing.
The deliveries wait in the store, from where each endpoint's lane takes what it can.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from notifier.clock import ServerClock
from notifier.deliveries import delivery_id
from notifier.delivery_documents import NewDelivery
from notifier.delivery_store import DeliveryStore
from notifier.jobs import Jobs
from notifier.store import EventStore
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner, Subscription

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

log = structlog.get_logger(__name__)

STEP = timedelta(seconds=1)


class Recoveries:
    """The jobs, and the loop that does them.

    ``late`` is how long after its time an event can become visible at most, ``lease`` how long a process may take for a
    step before another one does it.
    """

    def __init__(
        self,
        database: "Database",
        *,
        events: EventStore,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        clock: ServerClock,
        late: timedelta,
        lease: timedelta,
        made_due: Callable[[], None],
    ) -> None:
        self._late = late
        self._rows: Collection = database["recoveries"]
        self._jobs = Jobs(self._rows, clock, lease=lease)
        self._events = events
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._clock = clock
        self._made_due = made_due

    async def create_indexes(self) -> None:
        """Make the index; idempotent."""
        await self._jobs.create_indexes()

    async def begin(self, subscription: Subscription, *, since: datetime) -> datetime:
        """Start the job, or start the one that is running anew from the earlier time; until when it covers events."""
        now = self._clock.now()
        await self._rows.update_one(
            {"_id": subscription.id},
            {
                "$min": {"cursor": since},
                "$set": {"until": now, "next_at": now, "claim": None, "came_back": False},
            },
            upsert=True,
        )
        self._jobs.poke()
        return now

    async def run(self) -> None:
        """Do jobs until cancelled."""
        await self._jobs.run(self._step)

    async def _step(self, job: "Document", mine: "Document") -> None:
        """One second's events of one job."""
        subscription = (await self._subscriptions.by_ids([job["_id"]])).get(job["_id"])
        if subscription is None or not subscription.enabled:
            await self._end(mine)
            return
        begins = await self._events.first_since(job["cursor"])
        if begins is None or begins > job["until"] + self._late:
            await self._come_back(job, mine)
            return
        ends = begins + STEP
        await self._send_again(subscription, begins, ends, asked_at=job["until"])
        await self._rows.update_one(mine, {"$set": {"cursor": ends, "next_at": self._clock.now(), "claim": None}})

    async def _come_back(self, job: "Document", mine: "Document") -> None:
        """At the end, once more to the last events, when no write can be under way any more that came behind us.

        An event is given its time before it is written, and whom it concerns is read before that: one that was matched
        while the subscription was off can become visible a moment after it was enabled.
        """
        if job.get("came_back"):
            await self._end(mine)
            return
        until: datetime = job["until"]
        again = {"came_back": True, "cursor": until - self._late, "next_at": until + self._late, "claim": None}
        await self._rows.update_one(mine, {"$set": again})

    async def _end(self, mine: "Document") -> None:
        await self._rows.delete_one(mine)
        log.info("recovery.ended", subscription_id=mine["_id"])

    async def _send_again(
        self, subscription: Subscription, begins: datetime, ends: datetime, *, asked_at: datetime
    ) -> None:
        owner: Owner = subscription.owner
        notices = [
            (notice, stored_at)
            for notice, stored_at in await self._events.between(
                begins, ends, app_id=owner.app_id, account_id=owner.account_id
            )
            if subscription.wants(notice)
        ]
        if not notices:
            return
        now = self._clock.now()
        rows = [
            NewDelivery(
                id=delivery_id(notice.id, subscription.id),
                event_id=notice.id,
                event_at=stored_at,
                type=notice.type,
                subscription_id=subscription.id,
                claim=None,
                next_at=now,
            )
            for notice, stored_at in notices
        ]
        there = await self._deliveries.insert(rows, now=now)
        await self._deliveries.revive(subscription.id, [rows[index].id for index in there], before=asked_at, now=now)
        self._made_due()
