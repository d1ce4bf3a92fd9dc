"""Reading the registry: every query runs on an index, in the index's order, page by page from a key onwards."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from shared.events import TenantState, canonical_tenant_id, tenant_key
from tenant_registry.access import Scope
from tenant_registry.projection import PREFIX_LENGTH, state_of, version_facet, words_of

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

# The first character after ":", so that [account:, account;) holds exactly the documents of an account.
_AFTER_COLON = ";"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND = 253_402_300_799_999  # of the year 9999
_NEWEST_FIRST = [("occurred_at", -1), ("revision", -1), ("_id", -1)]


@dataclass(frozen=True, kw_only=True)
class TenantQuery:
    """Which tenants: conditions on a grant must hold for one and the same grant.

    ``version`` is that of the grant of ``permission_set_id``, and needs it. ``not_consented`` is a set of which the
    tenant has no grant, or only one that is revoked.
    """

    scope: Scope
    app_id: str | None = None
    permission_set_id: str | None = None
    status: str | None = None
    version: int | None = None
    not_consented: str | None = None
    usable: bool = False
    text: str | None = None
    after: str | None = None


@dataclass(frozen=True, kw_only=True)
class HistoryPosition:
    """Where a page of the history ended; the time is Unix milliseconds, which is all that MongoDB keeps of it."""

    milliseconds: Annotated[int, Field(ge=0, le=_LAST_MILLISECOND)]
    revision: Annotated[int, Field(ge=0, lt=2**63)]
    id: str

    @classmethod
    def of(cls, row: "Document") -> "HistoryPosition":
        """The position of a row."""
        milliseconds = (row["occurred_at"] - _EPOCH) // timedelta(milliseconds=1)
        return cls(milliseconds=milliseconds, revision=row["revision"], id=row["_id"])

    @property
    def occurred_at(self) -> datetime:
        """The time of the row."""
        return _EPOCH + timedelta(milliseconds=self.milliseconds)


@dataclass(frozen=True, kw_only=True)
class HistoryQuery:
    """Which rows. ``tenant_id`` needs ``account_id``; ``app_id`` keeps rows that name the app before or after.

    ``permission_set_id`` needs ``tenant_id``. ``since`` is in, ``until`` is not.
    """

    account_id: str | None
    tenant_id: str | None = None
    app_id: str | None = None
    type: str | None = None
    permission_set_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: HistoryPosition | None = None


class Queries:
    """The read side of the store."""

    def __init__(self, database: "Database") -> None:
        self.tenants: Collection = database["tenants"]
        self.history: Collection = database["history"]

    async def find_tenants(self, query: TenantQuery, *, limit: int) -> list[TenantState]:
        """The next tenants in the order of (account, tenant id), which no change of a tenant disturbs."""
        return [_visible(document, query.scope) for document in await self.find_documents(query, limit=limit)]

    async def find_documents(
        self, query: TenantQuery, *, limit: int, fields: Mapping[str, int] | None = None
    ) -> "list[Document]":
        """The same as they are stored, or some of their fields; of whoever reads all grants of a tenant."""
        combinations = await self._combinations(query.not_consented) if query.not_consented is not None else None
        cursor = self.tenants.find(tenant_filter(query, combinations), fields).sort("_id", 1).limit(limit)
        return list(await cursor.to_list(limit))

    async def _combinations(self, permission_set_id: str) -> list[str]:
        """What tenants have consented to, as far as this set isn't in it: few values, read from the index alone."""
        found = await self.tenants.distinct("consents")
        return [each for each in found if each is not None and permission_set_id not in each.split()]

    async def tenants_with_id(self, scope: Scope, tenant_id: str, *, limit: int = 10) -> list[TenantState]:
        """The tenant as each account in scope knows it; more than one only across accounts."""
        query: dict[str, Any] = {"tenant_id": tenant_id, "removed": False}
        if scope.account_id is not None:
            query = {"_id": tenant_key(scope.account_id, tenant_id), "removed": False}
        if scope.app_id is not None:
            query["facets"] = f"app:{scope.app_id}"
        cursor = self.tenants.find(query).sort("_id", 1).limit(limit)
        return [_visible(document, scope) for document in await cursor.to_list(limit)]

    async def find_history(self, query: HistoryQuery, *, limit: int) -> "list[Document]":
        """The next rows, newest first."""
        cursor = self.history.find(history_filter(query)).sort(_NEWEST_FIRST).limit(limit)
        return list(await cursor.to_list(limit))


def tenant_filter(query: TenantQuery, combinations: Sequence[str] | None = None) -> dict[str, Any]:
    """The filter; the indexes ``facets``, ``search``, ``consents`` and ``_id`` answer it in order of ``_id``.

    ``combinations`` are the values of ``consents`` that ``not_consented`` means.
    """
    result: dict[str, Any] = {"removed": False}
    app_id = query.scope.app_id or query.app_id
    permission_set_id, status = query.permission_set_id, query.status
    facets = []
    if permission_set_id:
        facets.append(f"set:{permission_set_id}:{status}" if status else f"set:{permission_set_id}")
        if app_id:
            # Facets say that some grant names the app; the set's own grant must.
            result[f"grants.{permission_set_id}.apps"] = app_id
        if query.version is not None:
            facets.append(version_facet(permission_set_id, query.version))
    elif status and not app_id:
        facets.append(f"status:{status}")
    if app_id:
        facets.append(f"app:{app_id}:{status}" if status else f"app:{app_id}")
        if query.usable:
            facets.append(f"usable:{app_id}")
    if facets:
        result["facets"] = facets[0] if len(facets) == 1 else {"$all": facets}
    if combinations is not None:
        result["consents"] = {"$in": list(combinations)}
    result |= _text_filter(query.text or "")
    position: dict[str, Any] = {}
    if query.scope.account_id is not None:
        position = {"$gte": f"{query.scope.account_id}:", "$lt": f"{query.scope.account_id}{_AFTER_COLON}"}
    if query.after is not None:
        position["$gt"] = query.after
    return result | ({"_id": position} if position else {})


def _text_filter(text: str) -> dict[str, Any]:
    tenant_id = canonical_tenant_id(text.strip())
    if tenant_id is not None:
        return {"tenant_id": tenant_id}
    words = words_of(text)
    if not words:
        return {}
    result: dict[str, Any] = {"$and": [{"profile.words": {"$regex": f"^{re.escape(word)}"}} for word in words]}
    longest = max(words, key=len)
    if len(longest) >= PREFIX_LENGTH:
        # An equality on the index keeps its order; the words themselves are compared in what it finds.
        result["profile.prefixes"] = longest[:PREFIX_LENGTH]
    return result


def history_filter(query: HistoryQuery) -> dict[str, Any]:
    """The filter of a query; the indexes ``tenant``, ``type``, ``account`` and ``newest`` answer it, newest first."""
    result: dict[str, Any] = {}
    if query.account_id is not None:
        result["account_id"] = query.account_id
    if query.tenant_id is not None:
        result["tenant_id"] = query.tenant_id
    if query.type is not None:
        result["type"] = query.type
    times: dict[str, Any] = {}
    if query.since is not None:
        times["$gte"] = query.since
    if query.until is not None:
        times["$lt"] = query.until
    alternatives: list[dict[str, Any]] = []
    if query.permission_set_id is not None:
        one, several = {"permission_set_id": query.permission_set_id}, {"permission_set_ids": query.permission_set_id}
        alternatives.append({"$or": [one, several]})
    if query.app_id is not None:
        alternatives.append({"$or": [{"apps": query.app_id}, {"previous_apps": query.app_id}]})
    if query.before is not None:
        at, revision, row_id = query.before.occurred_at, query.before.revision, query.before.id
        times["$lte"] = at
        older: list[dict[str, Any]] = [
            {"occurred_at": {"$lt": at}},
            {"revision": {"$lt": revision}},
            {"revision": revision, "_id": {"$lt": row_id}},
        ]
        alternatives.append({"$or": older})
    if times:
        result["occurred_at"] = times
    return result | ({"$and": alternatives} if alternatives else {})


def _visible(document: "Document", scope: Scope) -> TenantState:
    state = state_of(document)
    if state is None:
        raise ValueError("a tombstone was queried as a tenant")
    if scope.app_id is None:
        return state
    return state.model_copy(update={"grants": _of_app(state.grants, scope.app_id)})


def _of_app(grants: Sequence[Any], app_id: str) -> tuple[Any, ...]:
    return tuple(grant for grant in grants if app_id in grant.apps)
