"""Erasing what was told: an owner's payloads and what its endpoints answered. Ids, times and outcomes stay.

One event is erased at once. All of a subscription, an account or an owner is a job, which survives this process: it
walks through what was there when it was asked for, from the oldest on, and what it has erased it doesn't find again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from pymongo import ReturnDocument

from notifier.clock import ServerClock
from notifier.deliveries import delivery_id
from notifier.delivery_store import DeliveryStore
from notifier.jobs import Jobs
from notifier.store import EventStore, expire_after
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

log = structlog.get_logger(__name__)

AT_ONCE = 500
STEP = timedelta(minutes=10)
BEGINNING = datetime.fromtimestamp(0, tz=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expunged:
    """How much was erased by one request; what had been erased before doesn't count."""

    events: int = 0
    deliveries: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Expunge:
    """A job: what it erases, and how far it has come. It covers what was there at ``requested_at``."""

    id: str
    subscription_id: str | None
    account_id: str | None
    requested_at: datetime
    ended_at: datetime | None
    events: int
    deliveries: int


class Expunging:
    """The use cases, and the loop that does the jobs.

    An event is erased for its owner as a whole: from all deliveries to the owner's subscriptions, from its streams and
    from what recover sends. Whoever else it concerns keeps it. ``late`` is how long after its time an event can become
    visible at most, ``lease`` how long a process may take for a step before another one does it.
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
        retention_seconds: float,
    ) -> None:
        self._events = events
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._clock = clock
        self._late = late
        self._retention_seconds = retention_seconds
        self._rows: Collection = database["expunges"]
        self._jobs = Jobs(self._rows, clock, lease=lease)

    async def create_indexes(self) -> None:
        """Make the indexes; idempotent. Jobs that have ended expire."""
        await self._jobs.create_indexes()
        await expire_after(self._rows, "ended_at", self._retention_seconds)

    async def event(self, owner: Owner, event_id: str) -> Expunged:
        """Erase one event. When this returns, it is erased."""
        erased = await self._erase(owner, [event_id], await self._all_of(owner))
        log.info("payloads.expunged", owner=owner.key, events=erased.events, deliveries=erased.deliveries)
        return erased

    async def subscription(self, owner: Owner, subscription_id: str) -> Expunge:
        """Begin to erase every event that was delivered, or is to be delivered, to a subscription of the owner."""
        return await self._begin(owner, [subscription_id], subscription_id=subscription_id)

    async def account(self, owner: Owner, account_id: str | None) -> Expunge:
        """Begin to erase every event of an account, or of all, that the owner can read.

        With all of them goes what endpoints have answered to anything, be it of no account.
        """
        if account_id is not None and owner.account_id is None:
            return await self._begin(owner, [None], account_id=account_id)
        return await self._begin(owner, [None, *await self._all_of(owner)])

    async def find(self, owner: Owner, expunge_id: str) -> Expunge | None:
        """A job of the owner, while it is kept."""
        row = await self._rows.find_one({"_id": expunge_id, **_owned_by(owner)})
        return _expunge(row) if row is not None else None

    async def run(self) -> None:
        """Do jobs until cancelled."""
        await self._jobs.run(self._step)

    async def _begin(
        self,
        owner: Owner,
        walks: Sequence[str | None],
        *,
        subscription_id: str | None = None,
        account_id: str | None = None,
    ) -> Expunge:
        """Note the job, or begin the one that is there for the same anew: what it has erased, it passes quickly.

        ``walks`` are what it walks through: the deliveries of a subscription, or, with None, the owner's events.
        """
        now = self._clock.now()
        name = f"{owner.key} {subscription_id or ''} {account_id or ''}"
        job: Document = await self._rows.find_one_and_update(
            {"_id": hashlib.blake2b(name.encode(), digest_size=16).hexdigest()},
            {
                "$setOnInsert": {**_owned_by(owner), "subscription_id": subscription_id, "of_account": account_id},
                "$set": {"walks": walks, "requested_at": now, **_anew(walks, BEGINNING), "next_at": now},
                "$inc": {"events": 0, "deliveries": 0},
                "$unset": {"ended_at": "", "came_back": ""},
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        self._jobs.poke()
        log.info("expunge.begun", owner=owner.key, expunge_id=job["_id"])
        return _expunge(job)

    async def _step(self, job: "Document", mine: "Document") -> None:
        """A part of one walk, a few hundred events at most."""
        owner, walk = Owner(app_id=job["app_id"], account_id=job["account_id"]), job["left"][0]
        if walk is None:
            ids, goes_on = await self._events_of(owner, job)
        else:
            ids, goes_on = await self._events_delivered_to(walk, job)
        if ids:
            # One that was deleted meanwhile still has its deliveries.
            everywhere = {*await self._all_of(owner), *filter(None, job["walks"])}
            erased = await self._erase(owner, ids, sorted(everywhere))
            await self._rows.update_one(
                {"_id": job["_id"]}, {"$inc": {"events": erased.events, "deliveries": erased.deliveries}}
            )
        now = self._clock.now()
        if goes_on is not None:
            await self._rows.update_one(mine, {"$set": {"cursor": goes_on, "claim": None, "next_at": now}})
        elif len(job["left"]) > 1:
            await self._rows.update_one(mine, {"$set": {**_anew(job["left"][1:], self._start(job)), "next_at": now}})
        else:
            await self._come_back(job, mine, now)

    async def _events_of(self, owner: Owner, job: "Document") -> tuple[list[str], datetime | None]:
        """Events of the next ten minutes that hold any, and from where it goes on; None at the end."""
        until: datetime = job["requested_at"]
        begins = await self._events.first_since(job["cursor"])
        if begins is None or begins > until:
            return [], None
        # Beyond the moment itself: what was stored in that very millisecond was there.
        ends = min(begins + STEP, until + timedelta(milliseconds=1))
        ids = await self._events.ids_between(begins, ends, owner=owner, account_id=job["of_account"], limit=AT_ONCE)
        return ids, begins if len(ids) == AT_ONCE else ends

    async def _events_delivered_to(self, subscription_id: str, job: "Document") -> tuple[list[str], datetime | None]:
        """The next events of which the subscription has a delivery that still holds something."""
        rows = await self._deliveries.unexpunged(
            subscription_id, since=job["cursor"], until=job["requested_at"], limit=AT_ONCE
        )
        return [event_id for _, event_id in rows], rows[-1][0] if len(rows) == AT_ONCE else None

    def _start(self, job: "Document") -> datetime:
        return job["requested_at"] - self._late if job.get("came_back") else BEGINNING

    async def _come_back(self, job: "Document", mine: "Document", now: datetime) -> None:
        """At the end, once more over the last moments, when no write can be under way any more that came behind us."""
        if not job.get("came_back"):
            job["came_back"] = True
            again = {**_anew(job["walks"], self._start(job)), "came_back": True}
            await self._rows.update_one(mine, {"$set": {**again, "next_at": job["requested_at"] + self._late}})
            return
        await self._rows.update_one(mine, {"$set": {"ended_at": now}, "$unset": {"next_at": "", "claim": ""}})
        log.info("expunge.ended", expunge_id=job["_id"], events=job["events"], deliveries=job["deliveries"])

    async def _all_of(self, owner: Owner) -> list[str]:
        found, after = [], None
        while page := await self._subscriptions.list_of(owner, after=after, limit=AT_ONCE):
            found += [subscription.id for subscription in page]
            after = page[-1].id
        return found

    async def _erase(self, owner: Owner, event_ids: Sequence[str], subscription_ids: Sequence[str]) -> Expunged:
        """Deliveries first: none that is still to be sent may find its event empty."""
        deliveries = 0
        for subscription_id in subscription_ids:
            ids = [delivery_id(event_id, subscription_id) for event_id in event_ids]
            deliveries += await self._deliveries.expunge(ids, now=self._clock.now())
        return Expunged(events=await self._events.erase(event_ids, owner), deliveries=deliveries)


def _anew(left: Sequence[str | None], cursor: datetime) -> dict[str, Any]:
    return {"left": left, "cursor": cursor, "claim": None}


def _owned_by(owner: Owner) -> dict[str, Any]:
    return {"app_id": owner.app_id, "account_id": owner.account_id}


def _expunge(row: "Document") -> Expunge:
    return Expunge(
        id=row["_id"],
        subscription_id=row["subscription_id"],
        account_id=row["of_account"],
        requested_at=row["requested_at"],
        ended_at=row.get("ended_at"),
        events=row["events"],
        deliveries=row["deliveries"],
    )
