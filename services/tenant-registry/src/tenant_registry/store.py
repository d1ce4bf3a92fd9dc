"""The registry's documents in MongoDB: how a change is written, and which states wait to be published.

``tenants``: one document per (account, tenant), ``_id`` = ``{account_id}:{tenant_id}``, grants keyed by permission set.
``history``: one row per event, ``_id`` = the event's id; only ever added to.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import bson
from bson import ObjectId
from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from shared.events import TenantState, tenant_key
from tenant_registry.merging import FOUND_BY, VERSIONED, pipeline_of
from tenant_registry.projection import Projected, TenantChange, state_of

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

DUPLICATE_KEY = 11000
# BSONObjectTooLarge, and what the server answers where an update would make a document of more than 16 MB.
TOO_LARGE = frozenset({10334, 17419, 17420})

TENANT_INDEXES = [
    IndexModel([("facets", ASCENDING), ("_id", ASCENDING)], name="facets"),
    IndexModel([("profile.prefixes", ASCENDING), ("_id", ASCENDING)], name="search"),
    IndexModel([("tenant_id", ASCENDING), ("_id", ASCENDING)], name="tenant"),
    # No index finds what is absent: who has not consented to a set is found by what each tenant has consented to.
    IndexModel([("consents", ASCENDING), ("_id", ASCENDING)], name="consents"),
    # Since when a state waits. A further change leaves it as it is, so the index isn't touched by each write.
    IndexModel([("state_pending", ASCENDING)], name="state_pending", sparse=True),
]
_NEWEST_FIRST = [("occurred_at", DESCENDING), ("revision", DESCENDING), ("_id", DESCENDING)]
HISTORY_INDEXES = [
    IndexModel(_NEWEST_FIRST, name="newest"),
    IndexModel([("account_id", ASCENDING), *_NEWEST_FIRST], name="account"),
    IndexModel([("account_id", ASCENDING), ("type", ASCENDING), *_NEWEST_FIRST], name="type"),
    IndexModel([("account_id", ASCENDING), ("tenant_id", ASCENDING), *_NEWEST_FIRST], name="tenant"),
]


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
        # Tenants were not found by version or by what they lack at first.
        await self.tenants.update_many({"consents": {"$exists": False}}, [VERSIONED, {"$set": FOUND_BY}])

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
