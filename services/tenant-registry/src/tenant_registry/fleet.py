"""Counts over all tenants of an account, or over all accounts, at a price that does not depend on how often they ask.

Counting reads every tenant. What was counted is kept in this process; it is counted again when somebody asks, at most
so often that counting takes a fiftieth of the time, and nobody waits for it where it takes long: they read what was
counted before, with its time, and the next one reads the new counts.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog
from pymongo.errors import PyMongoError

from shared import mongo
from tenant_registry.access import Scope
from tenant_registry.queries import TenantQuery, tenant_filter

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

log = structlog.get_logger(__name__)

# Counts that take no longer are made while the caller waits.
QUICK_SECONDS = 0.02
# Between two counts passes so many times what one takes.
REST = 50
# Nobody is shown older counts than this; the caller waits for new ones.
STALEST_SECONDS = 300.0
MOST_KEPT = 1_000
# Of a list of accounts: counted up to here, and "more" from here on.
COUNTED_UP_TO = 1_000
ATTENTION = ("partial", "revoked", "update_available")


@dataclass(frozen=True, kw_only=True)
class SetCounts:
    """One permission set: tenants by the grant's status, and by its version where the grant is not revoked."""

    permission_set_id: str
    statuses: dict[str, int]
    versions: dict[int, int]
    not_consented: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """``statuses``: tenants with some grant of that status; a tenant with several counts for each."""

    account_id: str | None
    tenants: int
    statuses: dict[str, int]
    permission_sets: tuple[SetCounts, ...]
    counted_at: datetime


@dataclass(frozen=True, kw_only=True)
class AccountCounts:
    """An account that has tenants. Counts end at ``COUNTED_UP_TO`` + 1, which stands for more."""

    account_id: str
    tenants: int
    attention: int


@dataclass(frozen=True, kw_only=True)
class _Kept:
    counts: Counts
    at: float
    took: float


class Fleet:
    """Counts tenants. ``close`` ends what is still counting."""

    def __init__(self, database: "Database", *, clock: Callable[[], datetime]) -> None:
        self._tenants: Collection = database["tenants"]
        self._clock = clock
        self._kept: OrderedDict[str | None, _Kept] = OrderedDict()
        self._counting: dict[str | None, asyncio.Task[Counts]] = {}

    async def counts_of(self, account_id: str | None) -> Counts:
        """The counts of an account; of all accounts without one.

        Raises:
            PyMongoError: nothing was counted before, or only long ago, and MongoDB can't be asked.
        """
        kept = self._kept.get(account_id)
        if kept is None:
            return await self._recount(account_id)
        age = monotonic() - kept.at
        if age < kept.took * REST:
            return kept.counts
        if kept.took <= QUICK_SECONDS or age > STALEST_SECONDS:
            return await self._recount(account_id)
        self._start(account_id)
        return kept.counts

    async def accounts(self, *, after: str | None, limit: int) -> list[AccountCounts]:
        """The next accounts by id: each is one look into the index, however many tenants it has."""
        found: list[str] = []
        last = after
        while len(found) < limit:
            beyond = {"_id": {"$gt": f"{last};"}} if last is not None else {}
            document = await self._tenants.find_one(
                {**beyond, "removed": False}, projection={"account_id": 1}, sort=[("_id", 1)]
            )
            if document is None:
                break
            last = document["account_id"]
            found.append(document["account_id"])
        return list(await asyncio.gather(*map(self._bounded, found)))

    async def close(self) -> None:
        """End what is still counting; nobody waits for it any more."""
        tasks = list(self._counting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _recount(self, account_id: str | None) -> Counts:
        # Whoever gives up waiting doesn't end it for the others.
        return await asyncio.shield(self._start(account_id))

    def _start(self, account_id: str | None) -> asyncio.Task[Counts]:
        task = self._counting.get(account_id)
        if task is None:
            task = self._counting[account_id] = asyncio.create_task(self._count(account_id))
            task.add_done_callback(lambda done: self._ended(account_id, done))
        return task

    def _ended(self, account_id: str | None, task: asyncio.Task[Counts]) -> None:
        self._counting.pop(account_id, None)
        # Read here, for perhaps nobody waits; whoever does gets the error too.
        error = None if task.cancelled() else task.exception()
        if isinstance(error, PyMongoError):
            log.warning("fleet.not_counted", account_id=account_id, error=type(error).__name__)

    async def _count(self, account_id: str | None) -> Counts:
        began = monotonic()
        now = self._clock()
        rows = await mongo.aggregate(self._tenants, _pipeline(account_id))
        counts = _counts(account_id, rows, now)
        self._kept[account_id] = _Kept(counts=counts, at=monotonic(), took=monotonic() - began)
        self._kept.move_to_end(account_id)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return counts

    async def _bounded(self, account_id: str) -> AccountCounts:
        everything = tenant_filter(TenantQuery(scope=Scope(account_id=account_id)))
        attention = everything | {"facets": {"$in": [f"status:{status}" for status in ATTENTION]}}
        tenants, troubled = await asyncio.gather(
            self._tenants.count_documents(everything, limit=COUNTED_UP_TO + 1),
            self._tenants.count_documents(attention, limit=COUNTED_UP_TO + 1),
        )
        return AccountCounts(account_id=account_id, tenants=tenants, attention=troubled)


_GRANTS = {"$objectToArray": {"$ifNull": ["$grants", {}]}}
_STATUSES = {"$setUnion": [{"$map": {"input": _GRANTS, "in": "$$this.v.status"}}]}
_OF_GRANT = {"set": "$$this.k", "status": "$$this.v.status", "version": "$$this.v.version"}


def _pipeline(account_id: str | None) -> "list[Document]":
    """One row for each tenant, for each status that it has, and for each of its grants; the same ones counted."""
    rows: Any = {
        "$concatArrays": [
            [{"set": None, "status": None}],
            {"$map": {"input": _STATUSES, "in": {"set": None, "status": "$$this"}}},
            {"$map": {"input": _GRANTS, "in": _OF_GRANT}},
        ]
    }
    return [
        {"$match": tenant_filter(TenantQuery(scope=Scope(account_id=account_id)))},
        {"$project": {"_id": 0, "rows": rows}},
        {"$unwind": "$rows"},
        {"$group": {"_id": "$rows", "count": {"$sum": 1}}},
    ]


def _counts(account_id: str | None, rows: "list[Document]", now: datetime) -> Counts:
    tenants, overall = 0, Counter[str]()
    statuses: dict[str, Counter[str]] = {}
    versions: dict[str, Counter[int]] = {}
    for row in rows:
        kind, count = row["_id"], int(row["count"])
        if kind["set"] is not None:
            statuses.setdefault(kind["set"], Counter())[kind["status"]] += count
            if kind["status"] != "revoked":
                versions.setdefault(kind["set"], Counter())[kind["version"]] += count
        elif kind["status"] is not None:
            overall[kind["status"]] += count
        else:
            tenants = count
    return Counts(
        account_id=account_id,
        tenants=tenants,
        statuses=dict(sorted(overall.items())),
        permission_sets=tuple(
            SetCounts(
                permission_set_id=set_id,
                statuses=dict(sorted(of_set.items())),
                versions=dict(sorted(versions.get(set_id, {}).items())),
                not_consented=tenants - sum(count for status, count in of_set.items() if status != "revoked"),
            )
            for set_id, of_set in sorted(statuses.items())
        ),
        counted_at=now,
    )
