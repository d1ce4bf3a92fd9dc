"""Deliveries in MongoDB. The collection is the queue: what is written here can't be forgotten.

A pending row has ``queue`` (its subscription) and ``next_at``; both go when it ends. Whoever works on a row holds it by
moving ``next_at`` to the end of a lease and leaving a ``claim`` that nobody else has: a row whose holder died is due
again by itself, and a holder that came too late finds another claim and changes nothing (a fencing token).
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pymongo import ASCENDING, DESCENDING, UpdateMany

from notifier.deliveries import Attempt, DeadReason, Delivery, Result, Status
from notifier.store import expire_after, insert_absent
from shared.mongo import aggregate

if TYPE_CHECKING:
    from shared.mongo import Collection as MongoCollection
    from shared.mongo import Database, Document

ATTEMPTS_KEPT = 20
# Of the rows in one statement that several finds are under way for.
FINDS_AT_ONCE = 16
_NO_LONGER_QUEUED = {"queue": "", "next_at": "", "claim": ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDelivery:
    """A row to be made. ``claim`` is None when it is left to whoever takes it first; ``event_at``: kept since then."""

    id: str
    event_id: str
    event_at: datetime
    type: str
    subscription_id: str
    claim: str | None
    next_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A row that is ours until the lease ends."""

    id: str
    event_id: str
    subscription_id: str
    tries: int
    event_at: datetime
    started_at: datetime


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
        return await insert_absent(
            self._rows,
            [
                {
                    "_id": new.id,
                    "event_id": new.event_id,
                    "event_at": new.event_at,
                    "type": new.type,
                    "subscription_id": new.subscription_id,
                    "status": "pending",
                    "created_at": now,
                    "started_at": now,
                    "tries": 0,
                    "queue": new.subscription_id,
                    "next_at": new.next_at,
                    "claim": new.claim,
                }
                for new in deliveries
            ],
        )

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
        return [_claimed(row) for row in rows], more

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
                changes.append(_recording(result, now, self._attempts_kept))
        changes += [_recording_delivered(claim, group, now, self._attempts_kept) for claim, group in delivered.items()]
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
            {"_id": {"$in": list(ids)}, "claim": claim, "queue": {"$gte": ""}}, _ending("dead", reason, now)
        )

    async def end_all(self, subscription_id: str, *, reason: DeadReason, before: datetime, now: datetime) -> int:
        """Declare dead those pending rows of a subscription that were begun before a time; how many there were.

        Rows that were begun later belong to a time at which it may have been enabled again. A row that is being tried
        keeps its claim: if the endpoint has taken it, that will be on record.
        """
        ending = _ending("dead", reason, now)
        ending["$unset"] = {"queue": "", "next_at": ""}
        result = await self._rows.update_many({"queue": subscription_id, "started_at": {"$lt": before}}, ending)
        return result.modified_count

    async def revive(self, subscription_id: str, ids: Collection[str], *, before: datetime, now: datetime) -> int:
        """Make those dead rows pending and due that were begun before a time, with the whole schedule; how many."""
        result = await self._rows.update_many(
            {
                "_id": {"$in": list(ids)},
                "subscription_id": subscription_id,
                "status": "dead",
                "started_at": {"$lt": before},
            },
            _beginning(subscription_id, now),
        )
        return result.modified_count

    async def resend(self, delivery_id: str, subscription_id: str, *, now: datetime) -> bool:
        """Make an ended row pending and due, or a waiting one due; False while it is being tried at this moment."""
        result = await self._rows.update_one(
            {"_id": delivery_id, "$or": [{"status": {"$ne": "pending"}}, {"claim": None}, {"next_at": {"$lte": now}}]},
            _beginning(subscription_id, now),
        )
        return bool(result.matched_count)

    async def get(self, delivery_id: str) -> Delivery | None:
        """One delivery with its attempts."""
        row = await self._rows.find_one({"_id": delivery_id})
        return _delivery(row) if row is not None else None

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
        return [_delivery(row) for row in await self._rows.find(query).sort(order).to_list(limit)]


def _recording_delivered(claim: str, results: Sequence[Result], now: datetime, kept: int) -> UpdateMany:
    """One statement for all rows of a claim, each with its own attempt: a third of what one statement per row costs."""
    ids = [result.delivery_id for result in results]
    attempts = [_attempt_document(result.attempt) for result in results]
    mine = {"$arrayElemAt": [{"$literal": attempts}, {"$indexOfArray": [{"$literal": ids}, "$_id"]}]}
    history = {"$concatArrays": [{"$ifNull": ["$attempts", []]}, [mine]]}
    return UpdateMany(
        {"_id": {"$in": ids}, "claim": claim},
        [
            {
                "$set": {
                    "status": "delivered",
                    "ended_at": now,
                    "tries": {"$add": ["$tries", 1]},
                    "attempts": {"$slice": [history, -kept]},
                }
            },
            {"$unset": [*_NO_LONGER_QUEUED, "reason"]},
        ],
    )


def _recording(result: Result, now: datetime, kept: int) -> UpdateMany:
    """The statement for one row.

    Not an ``UpdateOne``, of which the server keeps a record for the driver's retry at twice the price: a statement that
    is repeated finds the claim gone.
    """
    verdict = result.verdict
    change: dict[str, Any]
    mine: dict[str, Any] = {"_id": result.delivery_id, "claim": result.claim}
    if verdict.status == "pending":
        change = {"$set": {"next_at": verdict.next_at, "claim": None}}
        mine["queue"] = {"$gte": ""}  # what ended meanwhile is not tried again
    else:
        change = _ending(verdict.status, verdict.reason, now)
    change["$inc"] = {"tries": 1}
    change["$push"] = {"attempts": {"$each": [_attempt_document(result.attempt)], "$slice": -kept}}
    return UpdateMany(mine, change)


def _ending(status: Status, reason: DeadReason | None, now: datetime) -> dict[str, Any]:
    fields: dict[str, Any] = {"status": status, "ended_at": now}
    if reason is not None:
        fields["reason"] = reason
    return {"$set": fields, "$unset": _NO_LONGER_QUEUED}


def _beginning(subscription_id: str, now: datetime) -> dict[str, Any]:
    pending = {"status": "pending", "queue": subscription_id, "next_at": now, "started_at": now, "tries": 0}
    return {"$set": {**pending, "claim": None}, "$unset": {"reason": "", "ended_at": ""}}


def _attempt_document(attempt: Attempt) -> "Document":
    document: dict[str, Any] = {"at": attempt.at, "duration_ms": attempt.duration_ms}
    if attempt.status_code is not None:
        document["status_code"] = attempt.status_code
    if attempt.error is not None:
        document["error"] = attempt.error
    if attempt.response_body:
        document["response_body"] = attempt.response_body
    if attempt.truncated:
        document["truncated"] = True
    return document


def _claimed(row: "Document") -> Claimed:
    created_at = row.pop("created_at")
    return Claimed(id=row.pop("_id"), **{"event_at": created_at, **row})


def _delivery(row: "Document") -> Delivery:
    return Delivery(
        id=row["_id"],
        event_id=row["event_id"],
        type=row["type"],
        subscription_id=row["subscription_id"],
        status=row["status"],
        reason=row.get("reason"),
        created_at=row["created_at"],
        next_at=row.get("next_at"),
        ended_at=row.get("ended_at"),
        attempts=tuple(Attempt(**attempt) for attempt in row.get("attempts", ())),
    )
