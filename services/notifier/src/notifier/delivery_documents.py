"""The documents of deliveries: how each change of state is written, and what is read back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pymongo import UpdateMany

from notifier.deliveries import Attempt, DeadReason, Delivery, Result, Status

if TYPE_CHECKING:
    from shared.mongo import Document

_NO_LONGER_QUEUED = {"queue": "", "next_at": "", "claim": ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDelivery:
    """A row to be made. ``claim`` is None when it is left to whoever takes it first; ``event_at``: kept since then.

    ``made_at`` is when it was made, where that is a while before it is written; its first attempt may have succeeded by
    then: ``delivered``.
    """

    id: str
    event_id: str
    event_at: datetime
    type: str
    subscription_id: str
    claim: str | None
    next_at: datetime
    made_at: datetime | None = None
    delivered: Attempt | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A row that is ours until the lease ends."""

    id: str
    event_id: str
    subscription_id: str
    tries: int
    event_at: datetime
    started_at: datetime


def row_of(new: NewDelivery, *, now: datetime) -> "Document":
    """A new row: pending, or delivered already."""
    made_at = new.made_at or now
    row: Document = {
        "_id": new.id,
        "event_id": new.event_id,
        "event_at": new.event_at,
        "type": new.type,
        "subscription_id": new.subscription_id,
        "created_at": made_at,
        "started_at": made_at,
    }
    if new.delivered is not None:
        attempts = [_attempt_document(new.delivered)]
        return row | {"status": "delivered", "ended_at": now, "tries": 1, "attempts": attempts}
    queued = {"queue": new.subscription_id, "next_at": new.next_at, "claim": new.claim}
    return row | {"status": "pending", "tries": 0, **queued}


def recording_delivered(claim: str, results: Sequence[Result], now: datetime, kept: int) -> UpdateMany:
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


def recording(result: Result, now: datetime, kept: int) -> UpdateMany:
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
        change = ending(verdict.status, verdict.reason, now)
    change["$inc"] = {"tries": 1}
    change["$push"] = {"attempts": {"$each": [_attempt_document(result.attempt)], "$slice": -kept}}
    return UpdateMany(mine, change)


def ending(status: Status, reason: DeadReason | None, now: datetime) -> dict[str, Any]:
    """The change by which a row ends."""
    fields: dict[str, Any] = {"status": status, "ended_at": now}
    if reason is not None:
        fields["reason"] = reason
    return {"$set": fields, "$unset": _NO_LONGER_QUEUED}


def beginning(subscription_id: str, now: datetime) -> dict[str, Any]:
    """The change by which a row begins anew, due at once, with the whole schedule before it."""
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


def claimed(row: "Document") -> Claimed:
    """A row that was just claimed."""
    created_at = row.pop("created_at")
    return Claimed(id=row.pop("_id"), **{"event_at": created_at, **row})


def delivery_in(row: "Document") -> Delivery:
    """The delivery that a row holds."""
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
        expunged_at=row.get("expunged_at"),
        attempts=tuple(Attempt(**attempt) for attempt in row.get("attempts", ())),
    )


def expunging(now: datetime) -> "list[Document]":
    """The change by which a row loses what endpoints have answered; ids, times and outcomes stay."""
    bare: Document | str = "$$this"
    for field in ("response_body", "truncated"):
        bare = {"$unsetField": {"field": field, "input": bare}}
    attempts = {"$map": {"input": {"$ifNull": ["$attempts", []]}, "in": bare}}
    return [{"$set": {"expunged_at": now, "attempts": attempts}}]
