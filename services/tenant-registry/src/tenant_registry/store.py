"""The registry's documents in MongoDB: how a change is written, and which states wait to be published.

``tenants``: one document per (account, tenant), ``_id`` = ``{account_id}:{tenant_id}``, grants keyed by permission set.
``history``: one row per event, ``_id`` = the event's id; only ever added to.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import bson
from bson import ObjectId
from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from shared.events import TenantState, tenant_key
from tenant_registry.projection import PREFIX_LENGTH, Profile, Projected, TenantChange, facets_of, state_of, words_of

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

DUPLICATE_KEY = 11000
# BSONObjectTooLarge, and what the server answers where an update would make a document of more than 16 MB.
TOO_LARGE = frozenset({10334, 17419, 17420})

TENANT_INDEXES = [
    IndexModel([("facets", ASCENDING), ("_id", ASCENDING)], name="facets"),
    IndexModel([("profile.prefixes", ASCENDING), ("_id", ASCENDING)], name="search"),
    IndexModel([("tenant_id", ASCENDING), ("_id", ASCENDING)], name="tenant"),
    # Since when a state waits. A further change leaves it as it is, so the index isn't touched by each write.
    IndexModel([("state_pending", ASCENDING)], name="state_pending", sparse=True),
]
_NEWEST_FIRST = [("occurred_at", DESCENDING), ("revision", DESCENDING), ("_id", DESCENDING)]
HISTORY_INDEXES = [
    IndexModel(_NEWEST_FIRST, name="newest"),
    IndexModel([("account_id", ASCENDING), *_NEWEST_FIRST], name="account"),
    IndexModel([("account_id", ASCENDING), ("tenant_id", ASCENDING), *_NEWEST_FIRST], name="tenant"),
]

Expression = Any


class Unstorable(ValueError):
    """MongoDB will never take some of this: ``keys`` are the tenants whose document would become too large."""

    def __init__(self, keys: frozenset[str] = frozenset()) -> None:
        super().__init__(f"{len(keys)} documents too large" if keys else "not representable in BSON")
        self.keys = keys


@dataclass(frozen=True, kw_only=True)
class PendingState:
    """A document whose present state may not be on Kafka yet; ``mark`` names this state of it.

    ``defect`` says why it can never be: the document is not one that this version can read.
    """

    key: str
    mark: ObjectId | None
    state: TenantState | None = None
    defect: str | None = None


class Store:
    """Writes of the projection and of the state publisher. All are idempotent."""

    def __init__(self, database: "Database") -> None:
        self.tenants: Collection = database["tenants"]
        self.history: Collection = database["history"]

    async def create_indexes(self) -> None:
        """Create what is missing, and bring documents of earlier versions to the form of this one."""
        await self.tenants.create_indexes(TENANT_INDEXES)
        await self.history.create_indexes(HISTORY_INDEXES)
        # The mark of a waiting state was once what is now the time since when it waits.
        await self.tenants.update_many(
            {"state_pending": {"$type": "objectId"}},
            [{"$set": {"state_mark": "$state_pending", "state_pending": "$$NOW"}}],
        )

    async def write(self, changes: Sequence[TenantChange], rows: Sequence[Mapping[str, Any]]) -> None:
        """Make changes and history rows durable, at most one change per tenant.

        A change that is older than what is stored, and a row that is already there, alter nothing.

        Raises:
            Unstorable: some can never be written; others may have been.
            PyMongoError: not everything was written; write it again.
        """
        try:
            await asyncio.gather(self._write_changes(changes), self._write_rows(rows))
        except (BSONError, OverflowError, UnicodeError) as error:
            raise Unstorable from error

    async def _write_changes(self, changes: Sequence[TenantChange]) -> None:
        if not changes:
            return
        updates = [UpdateOne({"_id": change.key}, pipeline_of(change), upsert=True) for change in changes]
        try:
            await self.tenants.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            too_large = [item["index"] for item in _errors(error) if item.get("code") in TOO_LARGE]
            if too_large:
                raise Unstorable(frozenset(changes[index].key for index in too_large)) from error
            raise

    async def _write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        try:
            await self.history.insert_many([dict(row) for row in rows], ordered=False)
        except BulkWriteError as error:
            # A duplicate is a row that is already there. A failed write concern says nothing about any row.
            if error.details.get("writeConcernErrors") or any(e.get("code") != DUPLICATE_KEY for e in _errors(error)):
                raise

    @staticmethod
    def storable(projected: Projected) -> bool:
        """Whether the outcomes of one event can be represented at all."""
        try:
            if projected.history is not None:
                bson.encode(projected.history)
            if projected.change is not None:
                bson.encode({"pipeline": pipeline_of(projected.change)})
        except (BSONError, OverflowError, UnicodeError):
            return False
        return True

    async def pending_states(self, limit: int) -> list[PendingState]:
        """Documents that changed since their state was last published, as they are now, the longest waiting first."""
        cursor = self.tenants.find({"state_pending": {"$exists": True}}, {"facets": 0}).sort("state_pending", ASCENDING)
        return [_pending(document) for document in await cursor.limit(limit).to_list(limit)]

    async def states_published(self, published: Sequence[PendingState]) -> None:
        """Take the mark from documents that are still what was published; all others stay, or become, pending."""
        # Whoever finds that it published something else than what is there now has it published again: a publisher that
        # was held up must not leave its older state as the last one. It waits behind all others then, however often it
        # changes.
        is_published = {"$in": [{"$ifNull": ["$state_mark", None]}, [item.mark for item in published]]}
        await self.tenants.update_many(
            {"_id": {"$in": [item.key for item in published]}},
            [
                {
                    "$set": {
                        "state_pending": {"$cond": [is_published, "$$REMOVE", "$$NOW"]},
                        "state_refused": "$$REMOVE",
                    }
                }
            ],
        )

    async def state_refused(self, item: PendingState) -> None:
        """Kafka never takes this state: wait for the document's next change instead of trying for ever."""
        await self.tenants.update_one(
            {"_id": item.key, "state_mark": item.mark},
            {"$unset": {"state_pending": ""}, "$set": {"state_refused": True}},
        )

    async def document(self, account_id: str, tenant_id: str) -> "Document | None":
        """The document as it is stored, tombstones included."""
        return await self.tenants.find_one({"_id": tenant_key(account_id, tenant_id)})


def _pending(document: "Document") -> PendingState:
    key, mark = document["_id"], document.get("state_mark")
    try:
        return PendingState(key=key, mark=mark, state=state_of(document))
    except (ValueError, KeyError, TypeError) as error:
        return PendingState(key=key, mark=mark, defect=type(error).__name__)


def _errors(error: BulkWriteError) -> "list[Document]":
    return list(error.details.get("writeErrors", ()))


def pipeline_of(change: TenantChange) -> list[dict[str, Any]]:
    """The update that merges a change into a document, whatever the document is.

    A missing field compares as smaller than any number, so a new document needs no case of its own.
    """
    newer = {"$lt": ["$revision", change.revision]}
    applies: list[Expression] = [newer]
    head: dict[str, Expression] = {
        "account_id": change.account_id,
        "tenant_id": change.tenant_id,
        "revision": {"$max": ["$revision", change.revision]},
        "updated_at": {"$cond": [newer, change.updated_at, "$updated_at"]},
        "cloud": {"$cond": [newer, {"$literal": change.cloud}, "$cloud"]},
    }
    parts: dict[str, Expression] = {}
    if change.profile is not None:
        guard = {"$lt": [{"$max": ["$profile.revision", "$removed_revision"]}, change.profile.revision]}
        applies.append(guard)
        parts["profile"] = _choose(guard, _profile(change.profile), "$profile")
    guards: list[Expression] = []
    for permission_set_id, grant in change.grants.items():
        path = f"grants.{permission_set_id}"
        guard = {"$lt": [{"$max": [f"${path}.revision", "$removed_revision"]}, grant["revision"]]}
        guards.append(guard)
        parts[path] = _choose(guard, {**grant, "facets": facets_of(grant)}, f"${path}")
    applies += guards
    removed = {"$ifNull": ["$removed", False]}
    if change.removed_revision:
        applies.append({"$lt": ["$removed_revision", change.removed_revision]})
        head["removed_revision"] = {"$max": ["$removed_revision", change.removed_revision]}
    else:
        head["removed"] = {"$cond": [{"$or": guards}, False, removed]} if guards else removed
    changed = {"$or": applies}
    head["state_pending"] = {"$cond": [changed, {"$ifNull": ["$state_pending", "$$NOW"]}, "$state_pending"]}
    head["state_mark"] = {"$cond": [changed, ObjectId(), "$state_mark"]}
    if change.removed_revision:
        return [{"$set": head}, *_REMOVAL, {"$set": parts}, {"$set": {"facets": _FACETS, "removed": _NO_GRANTS}}]
    return [{"$set": {**head, **parts}}, *([{"$set": {"facets": _FACETS}}] if guards else [])]


def _choose(guard: Expression, new: object, old: str) -> Expression:
    return {"$cond": [guard, {"$literal": new}, old]}


# A tenant's events come together, and all bring its name. What callers search for is never kept.
_words = lru_cache(maxsize=4_096)(words_of)


def _profile(profile: Profile) -> "Document":
    words = _words(profile.tenant_name, profile.primary_domain)
    return {
        "revision": profile.revision,
        "tenant_name": profile.tenant_name,
        "primary_domain": profile.primary_domain,
        "words": words,
        "prefixes": sorted({word[:PREFIX_LENGTH] for word in words}),
    }


_GRANTS = {"$objectToArray": {"$ifNull": ["$grants", {}]}}
_REMOVAL: list[dict[str, Any]] = [
    {
        "$set": {
            "grants": {
                "$arrayToObject": {
                    "$filter": {"input": _GRANTS, "cond": {"$gt": ["$$this.v.revision", "$removed_revision"]}}
                }
            },
            "profile": {"$cond": [{"$gt": ["$profile.revision", "$removed_revision"]}, "$profile", "$$REMOVE"]},
        }
    }
]
_FACETS = {"$reduce": {"input": _GRANTS, "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this.v.facets"]}}}
_NO_GRANTS = {"$eq": [{"$ifNull": ["$grants", {}]}, {}]}
