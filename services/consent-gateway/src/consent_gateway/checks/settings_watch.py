"""Additional settings of connected tenants, read from Graph about once a day and after every change of a grant.

Every replica reads what is due, under a lease for each tenant. What can't be read stays as it was known.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import uniform
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from prometheus_client import Counter
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import PyMongoError

from consent_gateway.catalog.functions import clients_with_roles, missing_settings, needs_licences
from consent_gateway.catalog.model import MICROSOFT_GRAPH, Catalog
from consent_gateway.checks.verification import SYSTEM
from consent_gateway.entra.answers import EntraFailed
from consent_gateway.entra.graph_reads import Later
from consent_gateway.entra.graph_settings import READS_LICENCES, READS_ROLES, GraphSettings
from consent_gateway.grants.change import Change
from consent_gateway.grants.documents import facts_document, tenant_doc_id
from consent_gateway.grants.grants import Facts, Grant
from consent_gateway.grants.ledger import Books, Ledger
from shared.backoff import Backoff

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

log = structlog.get_logger(__name__)

READS = Counter("tenant_settings_reads_total", "Reads of a tenant's directory roles and licences.", ["outcome"])

CAUSE = "settings"
INTERVAL = timedelta(hours=24)
# After a failure; doubled up to the interval.
RETRY = timedelta(minutes=10)
# Longer than the longest read: a token, the licences, and the roles of every client.
LEASE_SECONDS = 300.0
LONGEST_SLEEP = 2.0
READERS = 4


class Tokens(Protocol):
    """Where app-only tokens come from."""

    async def app_token(self, *, tenant_id: str, client_id: str, scope: str) -> str:
        """A fresh token of the tenant; raises ``EntraFailed``."""
        raise NotImplementedError


class Grants(Protocol):
    """Where grants are read."""

    async def grants_on(self, account_id: str, tenant_id: str) -> list[Grant]:
        """The account's grants on a tenant."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class _Due:
    account_id: str
    tenant_id: str
    token: int
    revision: int
    failures: int


class SettingsWatch:
    """Reads what is due, and tells of a grant whose missing settings changed."""

    def __init__(
        self,
        database: "Database",
        ledger: Ledger,
        catalog: Catalog,
        *,
        grants: Grants,
        tokens: Tokens,
        graph: GraphSettings,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._tenants: Collection = database["tenants"]
        self._ledger = ledger
        self._grants = grants
        self._catalog = catalog
        self._tokens = tokens
        self._graph = graph
        self._committed = committed
        self._clock = clock

    async def create_indexes(self) -> None:
        """How what is due is found; tenants of before are due at once."""
        await self._tenants.create_index(
            [("settings.next_at", ASCENDING)], partialFilterExpression={"connected": True}, name="settings_due"
        )
        await self._tenants.update_many(
            {"connected": True, "settings.next_at": None}, {"$set": {"settings.next_at": self._clock()}}
        )

    async def run(self) -> None:
        """Read what is due until cancelled, a few tenants at once, so that a slow one holds up few."""
        async with asyncio.TaskGroup() as readers:
            for _ in range(READERS):
                readers.create_task(self._read_on())

    async def _read_on(self) -> None:
        backoff = Backoff()
        while True:
            try:
                if not await self.step():
                    await asyncio.sleep(LONGEST_SLEEP)
                backoff.reset()
            except PyMongoError as error:
                delay = backoff.next()
                log.warning("settings.failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                await asyncio.sleep(delay)

    async def step(self) -> bool:
        """Read one tenant that is due; False when there is none."""
        due = await self._claim()
        if due is None:
            return False
        try:
            facts = await self._facts(due)
            changed = await self._keep(due, facts)
            READS.labels("changed" if changed else "same").inc()
        except PyMongoError:
            raise
        except (EntraFailed, Later) as error:
            seconds = error.seconds if isinstance(error, Later) else error.answer.retry_after
            await self._later(due, seconds)
            READS.labels("later").inc()
        except Exception as error:  # noqa: BLE001 - one tenant's strange answer must not end the reading of all
            await self._later(due, None)
            READS.labels("failed").inc()
            log.warning("settings.read_failed", tenant_id=due.tenant_id, error=type(error).__name__)
        return True

    async def _claim(self) -> _Due | None:
        until = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}
        # The drivers' types don't say that there may be none.
        document: Any = await self._tenants.find_one_and_update(
            {"connected": True, "settings.next_at": {"$lte": self._clock()}},
            [
                {
                    "$set": {
                        "settings.next_at": until,
                        "settings.token": {"$add": [{"$ifNull": ["$settings.token", 0]}, 1]},
                    }
                }
            ],
            sort=[("settings.next_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            return None
        return _Due(
            account_id=document["account_id"],
            tenant_id=document["tenant_id"],
            token=int(document["settings"]["token"]),
            revision=int(document["revision"]),
            failures=int(document["settings"].get("failures", 0)),
        )

    async def _facts(self, due: _Due) -> Facts:
        """Ask with the token of a grant that may read it; what no grant may read is not known.

        Raises:
            EntraFailed, Later: no answer just now.
        """
        grants = await self._grants.grants_on(due.account_id, due.tenant_id)
        roles: dict[str, frozenset[str]] = {}
        plans: frozenset[str] | None = None
        clients = clients_with_roles(self._catalog, grants)
        reader = self._reader(grants, READS_ROLES)
        if clients and reader is not None:
            token = await self._token(due.tenant_id, reader)
            for client_id in sorted(clients):
                found = await self._graph.directory_roles(token, client_id)
                if found is not None:
                    roles[client_id] = found
        reader = self._reader(grants, READS_LICENCES)
        if needs_licences(self._catalog, grants) and reader is not None:
            plans = await self._graph.service_plans(await self._token(due.tenant_id, reader))
        return Facts(directory_roles=roles, service_plans=plans, read_at=self._clock())

    def _reader(self, grants: list[Grant], allowing: frozenset[str]) -> str | None:
        """The client id of a grant that holds one of these permissions of Graph."""
        for grant in grants:
            if not grant.usable or grant.permission_set_id not in self._catalog.sets:
                continue
            held = {p.value for p in grant.permissions if p.resource_app_id == MICROSOFT_GRAPH}
            if held & allowing:
                return self._catalog.sets[grant.permission_set_id].client_id
        return None

    async def _token(self, tenant_id: str, client_id: str) -> str:
        scopes = {r.app_id: r.scope for one in self._catalog.sets.values() for r in one.resources}
        scope = scopes.get(MICROSOFT_GRAPH, "https://graph.microsoft.com/.default")
        return await self._tokens.app_token(tenant_id=tenant_id, client_id=client_id, scope=scope)

    async def _keep(self, due: _Due, facts: Facts) -> bool:
        """Write what was read, and the grants for which it makes a difference, in one transaction."""

        async def work(books: Books) -> bool:
            where = {"_id": tenant_doc_id(due.account_id, due.tenant_id), "settings.token": due.token}
            fields: Document = {"facts": facts_document(facts), "settings.failures": 0}
            if not (await self._tenants.update_one(where, {"$set": fields}, session=books.session)).matched_count:
                return False  # somebody else reads it by now
            turn = await books.open(due.account_id, due.tenant_id)
            if turn.tenant is None:
                return False
            changed = [
                replace(grant, settings=settings)
                for grant in turn.grants.values()
                if (settings := missing_settings(self._catalog, grant, turn.tenant)) != grant.settings
            ]
            if changed:
                await books.write(turn, Change(grants=changed, cause=CAUSE, actor=SYSTEM))
            if turn.tenant.revision == due.revision:
                # Otherwise a grant changed while Graph was asked, and that made the tenant due again.
                next_at = self._clock() + INTERVAL * uniform(0.8, 1.2)  # noqa: S311 - a jitter
                await self._tenants.update_one(where, {"$set": {"settings.next_at": next_at}}, session=books.session)
            return bool(changed)

        changed = await self._ledger.transact(due.account_id, work)
        if changed:
            self._committed()
        return changed

    async def _later(self, due: _Due, seconds: float | None) -> None:
        pause = min(RETRY * 2 ** min(due.failures, 10), INTERVAL)
        pause = max(pause, timedelta(seconds=seconds or 0.0))
        where = {"_id": tenant_doc_id(due.account_id, due.tenant_id), "settings.token": due.token}
        fields = {"settings.next_at": self._clock() + pause, "settings.failures": due.failures + 1}
        await self._tenants.update_one(where, {"$set": fields})
