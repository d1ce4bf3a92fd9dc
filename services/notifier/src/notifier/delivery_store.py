"""Deliveries in MongoDB. The collection is the queue: what is written here can't be forgotten.

A pending row has ``queue`` (its subscription) and ``next_at``; both go when it ends. Whoever works on a row holds it by
moving ``next_at`` to the end of a lease and leaving a ``claim`` that nobody else has: a row whose holder died is due
again by itself, and a holder that came too late finds another claim and changes nothing (a fencing token).
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pymongo import ASCENDING, DESCENDING, UpdateMany

from notifier.deliveries import DeadReason, Delivery, Result, Status
from notifier.delivery_documents import (
    Claimed,
    NewDelivery,
    beginning,
    claimed,
    delivery_in,
    ending,
    expunging,
    recording,
    recording_delivered,
    row_of,
)
from notifier.store import expire_after, insert_absent
from shared.mongo import aggregate

if TYPE_CHECKING:
    from shared.mongo import Collection as MongoCollection
    from shared.mongo import Database

ATTEMPTS_KEPT = 20
# Of the rows in one statement that several finds are under way for.
FINDS_AT_ONCE = 16


class DeliveryStore:
    """The rows and every change of their state."""

    def __init__(self, database: "Database", *, retention_seconds: float, attempts_kept: int = ATTEMPTS_KEPT) -> None:
        self._rows: MongoCollection = database["deliveries"]
        self._attempts_kept = attempts_kept
        self._retention_seconds = retention_seconds

    async def create_indexes(self) -> None:
        """Make the indexes; idempotent. Only rows that ended expire."""
        await self._rows.create_index(
            [("queue", ASCENDING), ("next_at", ASCENDING)], name="due", partialFilterExpression={"queue": {"$gte": ""}}
        )
        newest_first = [("subscription_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)]
        await self._rows.create_index(newest_first, name="newest")
        await self._rows.create_index(newest_first, name="dead", partialFilterExpression={"status": "dead"})
        await expire_after(self._rows, "ended_at", self._retention_seconds)

    async def insert(self, deliveries: Sequence[NewDelivery], *, now: datetime) -> set[int]:
        """Write those rows that aren't there yet; the indexes of those that were."""
        return await insert_absent(self._rows, [row_of(new, now=now) for new in deliveries])

    async def due(self) -> dict[str, datetime]:
        """When the earliest pending delivery of each subscription is due; one index seek per subscription."""
        rows = await aggregate(
            self._rows,
            [
                {"$match": {"queue": {"$gte": ""}}},
                {"$sort": {"queue": 1, "next_at": 1}},
                {"$group": {"_id": "$queue", "next_at": {"$first": "$next_at"}}},
            ],
        )
        return {row["_id"]: row["next_at"] for row in rows}

    async def claim(
        self, rooms: Mapping[str, int], *, claim: str, now: datetime, until: datetime
    ) -> tuple[list[Claimed], bool]:
        """Take due rows, at most so many of each subscription, the longest due first; and whether more were due."""
        ids: list[str] = []
        more = False
        wanted = list(rooms.items())
        for start in range(0, len(wanted), FINDS_AT_ONCE):
            some = wanted[start : start + FINDS_AT_ONCE]
            found = await asyncio.gather(*(self._due_of(key, room + 1, now) for key, room in some))
            for (_, room), due in zip(some, found, strict=True):
                more = more or len(due) > room
                ids.extend(due[:room])
        if not ids:
            return [], more
        await self._rows.update_many(
            {"_id": {"$in": ids}, "queue": {"$gte": ""}, "next_at": {"$lte": now}},
            {"$set": {"claim": claim, "next_at": until}},
        )
        fields = ("event_id", "subscription_id", "tries", "event_at", "created_at", "started_at")
        rows = await self._rows.find({"_id": {"$in": ids}, "claim": claim}, fields).to_list(None)
        return [claimed(row) for row in rows], more

    async def _due_of(self, subscription_id: str, limit: int, now: datetime) -> list[str]:
        query = {"queue": subscription_id, "next_at": {"$lte": now}}
        return [row["_id"] for row in await self._rows.find(query, {"_id": 1}).sort("next_at", 1).to_list(limit)]

    async def record(self, results: Sequence[Result], *, now: datetime) -> int:
        """Write attempts and the states they lead to, each pair in one step; the number whose claim still held."""
        delivered: dict[str, list[Result]] = {}
        changes: list[UpdateMany] = []
        for result in results:
            if result.verdict.status == "delivered":
                delivered.setdefault(result.claim, []).append(result)
            else:
                changes.append(recording(result, now, self._attempts_kept))
        changes += [recording_delivered(claim, group, now, self._attempts_kept) for claim, group in delivered.items()]
        outcome = await self._rows.bulk_write(changes, ordered=False)
        return outcome.matched_count

    async def release(self, claims: Mapping[str, str], *, now: datetime) -> None:
        """Give up rows that were not tried, by id and claim, so that others need not wait for the lease to end."""
        if claims:
            await self._rows.update_many(
                {"_id": {"$in": list(claims)}, "claim": {"$in": list(set(claims.values()))}, "queue": {"$gte": ""}},
                {"$set": {"claim": None, "next_at": now}},
            )

    async def end(self, ids: Collection[str], *, claim: str, reason: DeadReason, now: datetime) -> None:
        """Declare claimed rows dead without an attempt."""
        await self._rows.update_many(
            {"_id": {"$in": list(ids)}, "claim": claim, "queue": {"$gte": ""}}, ending("dead", reason, now)
        )

    async def end_all(self, subscription_id: str, *, reason: DeadReason, before: datetime, now: datetime) -> int:
        """Declare dead those pending rows of a subscription that were begun before a time; how many there were.

        Rows that were begun later belong to a time at which it may have been enabled again. A row that is being tried
        keeps its claim: if the endpoint has taken it, that will be on record.
        """
        change = ending("dead", reason, now)
        change["$unset"] = {"queue": "", "next_at": ""}
        result = await self._rows.update_many({"queue": subscription_id, "started_at": {"$lt": before}}, change)
        return result.modified_count

    async def revive(self, subscription_id: str, ids: Collection[str], *, before: datetime, now: datetime) -> int:
        """Make those dead rows pending and due that were begun before a time, with the whole schedule; how many.

        What was erased stays dead.
        """
        result = await self._rows.update_many(
            {
                "_id": {"$in": list(ids)},
                "subscription_id": subscription_id,
                "status": "dead",
                "started_at": {"$lt": before},
                "expunged_at": None,
            },
            beginning(subscription_id, now),
        )
        return result.modified_count

    async def resend(self, delivery_id: str, subscription_id: str, *, now: datetime) -> bool:
        """Make an ended row pending and due, or a waiting one due; False while it is being tried at this moment."""
        result = await self._rows.update_one(
            {"_id": delivery_id, "$or": [{"status": {"$ne": "pending"}}, {"claim": None}, {"next_at": {"$lte": now}}]},
            beginning(subscription_id, now),
        )
        return bool(result.matched_count)

    async def get(self, delivery_id: str) -> Delivery | None:
        """One delivery with its attempts."""
        row = await self._rows.find_one({"_id": delivery_id})
        return delivery_in(row) if row is not None else None

    async def list_of(
        self, subscription_id: str, *, status: Status | None, after: tuple[datetime, str] | None, limit: int
    ) -> list[Delivery]:
        """Deliveries of a subscription, newest first, beyond the one given."""
        # Each status is found by an index that holds little else, so that a page costs a page.
        query: dict[str, Any] = {"subscription_id": subscription_id}
        if status is not None:
            query["status"] = status
        if status == "pending":
            query["queue"] = subscription_id
        if after is not None:
            created_at, last_id = after
            query["$or"] = [{"created_at": {"$lt": created_at}}, {"created_at": created_at, "_id": {"$lt": last_id}}]
        order = [("created_at", DESCENDING), ("_id", DESCENDING)]
        return [delivery_in(row) for row in await self._rows.find(query).sort(order).to_list(limit)]

    async def unexpunged(
        self, subscription_id: str, *, since: datetime, until: datetime, limit: int
    ) -> list[tuple[datetime, str]]:
        """Deliveries of a subscription made in [since, until] that still hold something, oldest first: when, event."""
        query = {
            "subscription_id": subscription_id,
            "created_at": {"$gte": since, "$lte": until},
            "expunged_at": None,
        }
        order = [("created_at", ASCENDING), ("_id", ASCENDING)]
        rows = await self._rows.find(query, {"created_at": 1, "event_id": 1}).sort(order).to_list(limit)
        return [(row["created_at"], row["event_id"]) for row in rows]

    async def expunge(self, ids: Collection[str], *, now: datetime) -> int:
        """End those of the deliveries that are pending, and forget what endpoints answered; how many there were.

        An attempt that is under way loses its claim, so that its answer is not written down afterwards.
        """
        mine = {"_id": {"$in": list(ids)}}
        await self._rows.update_many({**mine, "queue": {"$gte": ""}}, ending("dead", "payload_expunged", now))
        result = await self._rows.update_many({**mine, "expunged_at": None}, expunging(now))
        return result.modified_count
