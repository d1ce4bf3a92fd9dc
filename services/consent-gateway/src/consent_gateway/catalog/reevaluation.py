"""Grants follow the active catalogue: one paced, leased job over all replicas, which any of them resumes.

A grant remembers the edition by which it was last looked at, and whatever remembers an older one is still to be done:
there is no other bookmark to lose, and a consent that was committed by an older edition meanwhile is found as well.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import Counter
from pymongo import ASCENDING
from pymongo.errors import PyMongoError

from consent_gateway.catalog.change import apps_differ, reevaluate
from consent_gateway.checks.verification import SYSTEM
from consent_gateway.errors import CatalogError
from consent_gateway.grants.change import Change
from consent_gateway.grants.events import same_to_readers
from consent_gateway.grants.ledger import Books, Ledger
from shared.backoff import Backoff
from shared.lease import Lease

if TYPE_CHECKING:
    from consent_gateway.catalog.model import ActiveCatalog
    from consent_gateway.catalog.versions import CatalogVersions
    from shared.mongo import Collection, Database

log = structlog.get_logger(__name__)

REEVALUATED = Counter("catalog_reevaluated_tenants_total", "Tenants looked at for another catalogue.", ["outcome"])

CAUSE = "catalog"
PAGE = 100
LEASE_SECONDS = 30.0
# Also how soon a replica follows another one's newer file, and how late a planned version takes its place.
POLL_SECONDS = 5.0


class _Superseded(Exception):
    """Another edition became active: what was decided by this one is for whoever follows that one."""


class Reevaluation:
    """Follows the active version in every replica, and does the job in the one that holds the lease."""

    def __init__(
        self,
        database: "Database",
        ledger: Ledger,
        catalog: "ActiveCatalog",
        versions: "CatalogVersions",
        *,
        owner: str,
        per_second: float,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._grants: Collection = database["grants"]
        self._lease = Lease(database["leases"], "catalog", owner=owner, seconds=LEASE_SECONDS)
        self._ledger = ledger
        self._catalog = catalog
        self._versions = versions
        self._pause = 1.0 / per_second
        self._committed = committed
        self._clock = clock

    async def create_indexes(self) -> None:
        """How what is still to be done is found."""
        await self._grants.update_many({"catalog_edition": None}, {"$set": {"catalog_edition": 0}})
        await self._grants.create_index([("catalog_edition", ASCENDING), ("_id", ASCENDING)], name="by_edition")

    async def start(self) -> None:
        """Bring this replica's catalogue in and take over the active one, before anything relies on it.

        Raises:
            CatalogError: this replica's file must not be used.
            PyMongoError: the database is away.
        """
        await self._versions.bring(now=self._clock())
        await self._versions.follow()

    async def run(self) -> None:
        """Follow and re-evaluate until cancelled; a database that is away is waited for."""
        backoff = Backoff()
        while True:
            try:
                await self.step()
                backoff.reset()
                await asyncio.sleep(POLL_SECONDS)
            except (PyMongoError, CatalogError) as error:
                delay = backoff.next()
                log.warning("catalog.failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                await asyncio.sleep(delay)

    async def step(self) -> int:
        """Follow what is active and, where this replica is the one to do it, bring every grant up to it.

        Returns the number of tenants that were looked at.
        """
        await self._versions.follow()
        if not self._versions.leads:
            return 0
        if await self._versions.bring_due(now=self._clock()):
            await self._versions.follow()
        if not await self._pending(()):
            return 0
        token = await self._lease.acquire()
        if token is None:
            return 0
        try:
            return await self._all(token)
        finally:
            await asyncio.shield(self._lease.release(token))

    async def _all(self, token: int) -> int:
        """Every tenant with a grant that is behind, once; one that fails is left for the next time."""
        failed: list[str] = []
        looked = changed = 0
        edition = self._catalog.edition
        while len(failed) < PAGE and (page := await self._pending(failed)):
            if not await self._lease.renew(token):
                break
            for grant_id, account_id, tenant_id in page:
                try:
                    changed += await self._tenant(account_id, tenant_id)
                except _Superseded:
                    return looked
                except Exception as error:  # noqa: BLE001 - one tenant's trouble never delays another's
                    failed.append(grant_id)
                    log.warning("catalog.tenant_failed", tenant_id=tenant_id, error=type(error).__name__)
                looked += 1
                await asyncio.sleep(self._pause)
        log.info(
            "catalog.reevaluated",
            version=self._catalog.version,
            edition=edition,
            tenants=looked,
            changed=changed,
            failed=len(failed),
        )
        return looked

    async def _pending(self, failed: Sequence[str]) -> list[tuple[str, str, str]]:
        """Grants that are behind, one of each tenant: (id, account, tenant)."""
        query: dict[str, Any] = {"catalog_edition": {"$lt": self._catalog.edition}}
        if failed:
            query["_id"] = {"$nin": list(failed)}
        found = self._grants.find(query, projection={"account_id": 1, "tenant_id": 1})
        documents = await found.sort([("catalog_edition", ASCENDING), ("_id", ASCENDING)]).to_list(PAGE)
        tenants = {(one["account_id"], one["tenant_id"]): one["_id"] for one in reversed(documents)}
        return [(grant_id, account_id, tenant_id) for (account_id, tenant_id), grant_id in reversed(tenants.items())]

    async def _tenant(self, account_id: str, tenant_id: str) -> int:
        """One transaction: what is asked for, and then the apps, each with events of its own; 1 if anything changed."""
        catalog, edition = self._catalog, self._catalog.edition

        async def work(books: Books) -> int:
            if await self._versions.edition(books.session) != edition:
                raise _Superseded
            turn = await books.open(account_id, tenant_id)
            seen = [(grant, reevaluate(grant, catalog)) for grant in turn.grants.values()]
            asked = [after for before, after in seen if not same_to_readers(before, after)]
            if asked:
                await books.write(turn, Change(grants=asked, cause=CAUSE, actor=SYSTEM))
                turn = await books.open(account_id, tenant_id)
            moved = [grant for grant in turn.grants.values() if apps_differ(grant, catalog)]
            if moved:
                names = frozenset(grant.permission_set_id for grant in moved)
                await books.write(turn, Change(grants=moved, reassigned=names, cause=CAUSE, actor=SYSTEM))
            await self._grants.update_many(
                {"account_id": account_id, "tenant_id": tenant_id},
                {"$set": {"catalog_edition": edition}},
                session=books.session,
            )
            return int(bool(asked or moved))

        changed = await self._ledger.transact(account_id, work)
        REEVALUATED.labels("changed" if changed else "same").inc()
        if changed:
            self._committed()
        return changed
