"""The one way in which a tenant's grants change: one transaction for grants, link, slots, revision and events.

Every uniqueness rule is an ``_id``; every document that a decision relied on is written, so that two transactions whose
decisions touch can't both commit (no write skew under snapshot isolation).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from pymongo.errors import DuplicateKeyError

from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.change import Change, Turn
from consent_gateway.grants.documents import grant_fields, grant_id, grant_of, tenant_doc_id, tenant_of
from consent_gateway.grants.events import event_of
from consent_gateway.grants.grants import Grant, Tenant, with_app, without_app
from consent_gateway.grants.handover import hand_over
from consent_gateway.grants.slots import Slots
from consent_gateway.grants.tenants import described, next_revision, removed_at, tenant_events
from shared.events import GATEWAY, ConsentFailed, EventData, HeldApp, new_event
from shared.mongo import transaction
from shared.outbox import Outbox
from shared.topics import CONSENT_EVENTS

if TYPE_CHECKING:
    from consent_gateway.catalog.model import Catalog
    from shared.mongo import Collection, Database, Session

Result = TypeVar("Result")
# Losing the race for an `_id` that many times in a row doesn't happen; a bound keeps a defect from looping for ever.
RACES = 20


class Books:
    """A transaction's view of the ledger."""

    def __init__(self, ledger: "Ledger", session: "Session") -> None:
        self.session = session
        self._ledger = ledger

    def slots(self, account_id: str) -> Slots:
        """The account's slots."""
        return Slots(self._ledger.database, self.session, account_id)

    async def open(self, account_id: str, tenant_id: str) -> Turn:
        """Read a tenant of an account."""
        where = {"account_id": account_id, "tenant_id": tenant_id}
        document = await self._ledger.tenants.find_one({"_id": tenant_doc_id(**where)}, session=self.session)
        grants = [grant_of(one) for one in await self._ledger.grants.find(where, session=self.session).to_list(None)]
        return Turn(
            account_id=account_id,
            tenant_id=tenant_id,
            tenant=tenant_of(document, grants) if document is not None else None,
            grants={grant.permission_set_id: grant for grant in grants},
        )

    async def write(self, turn: Turn, change: Change) -> tuple[Grant, ...]:
        """Write the change and its events; returns the changed grants with their revisions.

        Raises:
            Refused: tenant_taken.
        """
        written, freed = await self._ledger.write(self.session, turn, change, self.slots(turn.account_id))
        for app_id in sorted(freed):
            await hand_over(self, turn.account_id, app_id, change)
        return written

    async def holders(self, tenant_id: str) -> list[str]:
        """The accounts that hold the tenant. Who gives it away or takes it by that writes the link, in ``write``."""
        link = await self._ledger.links.find_one({"_id": tenant_id}, session=self.session)
        return list(link["account_ids"]) if link is not None else []

    async def held(self, account_id: str, app_id: str) -> list[Turn]:
        """The account's tenants on which the limited app is held back, by tenant id."""
        where = {"account_id": account_id, "held_apps.app_id": app_id}
        found = await self._ledger.grants.find(where, {"tenant_id": 1}, session=self.session).to_list(None)
        return [await self.open(account_id, one) for one in sorted({each["tenant_id"] for each in found})]


class Ledger:
    """Grants, tenants, links and slots. All transactions on a tenant meet in its counter, one after another."""

    def __init__(self, database: "Database", catalog: "Catalog", *, cloud: str, exclusive: bool) -> None:
        self.database = database
        self.grants: Collection = database["grants"]
        self.tenants: Collection = database["tenants"]
        self.links: Collection = database["links"]
        self.outbox = Outbox(database)
        self._catalog = catalog
        self._cloud = cloud
        self._exclusive = exclusive
        # Whoever waits keeps the lock alive, so that memory doesn't grow with the accounts ever seen.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def transact(
        self, account_id: str, work: Callable[[Books], Awaitable[Result]], *, also: str | None = None
    ) -> Result:
        """Run ``work`` in one transaction on the account, and ``also`` on another one, again if any was in its way.

        Within this process an account's transactions wait for each other: what would conflict anyway, on its slots,
        is not tried in vain. Over processes the conflicts decide.

        Raises:
            PyMongoError: it could not be committed in time.
        """

        async def run(session: "Session") -> Result:
            return await work(Books(self, session))

        async with AsyncExitStack() as turns:
            # In the same order everywhere: two transfers between the same accounts don't wait for each other for ever.
            for one in sorted({account_id, also or account_id}):
                await turns.enter_async_context(self._turns.setdefault(one, asyncio.Lock()))
            for _ in range(RACES):
                try:
                    return await transaction(self.database, run)
                except DuplicateKeyError:
                    # Somebody made the document since our snapshot was taken: with a new snapshot it is there.
                    continue
            return await transaction(self.database, run)

    async def write(
        self, session: "Session", turn: Turn, change: Change, slots: Slots
    ) -> tuple[tuple[Grant, ...], frozenset[str]]:
        """As ``Books.write``; also returns the limited apps that no longer use this tenant, nor any other one."""
        now = datetime.now(UTC)
        after, freed = await self._settle_apps(turn, change, slots)
        connected = any(grant.live for grant in {**turn.grants, **after}.values())
        await self._settle_link(session, turn, takes=bool(change.accepted), connected=connected)
        before = turn.tenant
        told = described(turn, change.organization, cloud=self._cloud, now=now)
        tenant = replace(told, connected=connected, removed_at=removed_at(turn.tenant, change, now))
        previous = before.revision if before is not None else None
        numbered: list[Grant] = []
        for grant in after.values():
            revision = next_revision(previous, now)
            one = replace(grant, revision=revision)
            await self._put(session, one)
            event = event_of(
                turn.grants.get(one.permission_set_id),
                one,
                tenant=tenant,
                previous_revision=previous,
                cause=change.cause,
                actor=change.actor,
                occurred_at=now,
            )
            await self._emit(session, event, revision)
            numbered.append(one)
            previous = revision
        for kind in tenant_events(turn, change, tenant):
            revision = next_revision(previous, now)
            event_data = kind(tenant, revision, previous, now)
            await self._emit(session, event_data, revision)
            previous = revision
        revision = previous if previous is not None else next_revision(None, now)
        await self._put_tenant(session, turn, replace(tenant, revision=revision))
        return tuple(numbered), freed

    async def _settle_apps(self, turn: Turn, change: Change, slots: Slots) -> tuple[dict[str, Grant], frozenset[str]]:
        """The changed grants with the apps that their tenant gets, and others of the tenant that change with them."""
        after = {grant.permission_set_id: grant for grant in change.grants}
        won: dict[str, int] = {}
        for set_id in sorted(change.accepted | change.reassigned):
            after[set_id] = await self._with_apps(after[set_id], slots, won)
        for set_id, grant in turn.grants.items():
            held = {held.app_id for held in grant.held_apps} & won.keys()
            if set_id not in after and grant.live and held:
                after[set_id] = grant
                for app_id in sorted(held):
                    after[set_id] = with_app(after[set_id], app_id, won[app_id])
        live = [grant for grant in {**turn.grants, **after}.values() if grant.live]
        kept = {app_id for grant in live for app_id in grant.apps}
        had = {app_id for set_id in after if set_id in turn.grants for app_id in turn.grants[set_id].apps}
        # An app that had an epoch was limited, whatever the catalogue says of it now; one that goes on without an epoch
        # is limited no more, and must not keep a slot that nobody would ever free.
        limited = {app_id for grant in turn.grants.values() for app_id in grant.app_epochs}
        lost = limited - {app_id for grant in live for app_id in grant.app_epochs}
        freed: set[str] = set()
        for app_id in sorted(lost | set(self._catalog.limited_apps(had - kept))):
            if await slots.release(app_id, turn.tenant_id):
                freed.add(app_id)
        return after, frozenset(freed)

    async def _with_apps(self, grant: Grant, slots: Slots, won: dict[str, int]) -> Grant:
        wanted = self._catalog.sets.get(grant.permission_set_id)
        apps = wanted.apps if wanted is not None else ()
        grant = replace(grant, apps=apps, held_apps=(), app_epochs={})
        for app_id in sorted(self._catalog.limited_apps(apps)):
            answer = await slots.take(app_id, grant.tenant_id)
            if isinstance(answer, HeldApp):
                grant = without_app(grant, answer)
            else:
                grant = with_app(grant, app_id, answer)
                won[app_id] = answer
        return grant

    async def _settle_link(self, session: "Session", turn: Turn, *, takes: bool, connected: bool) -> None:
        link = await self.links.find_one({"_id": turn.tenant_id}, session=session)
        holders: list[str] = link["account_ids"] if link is not None else []
        if takes and self._exclusive and set(holders) - {turn.account_id}:
            raise Refused(Kind.TENANT_TAKEN)
        wanted = sorted({*holders, turn.account_id} if connected else {*holders} - {turn.account_id})
        if link is None:
            if wanted:
                await self.links.insert_one(
                    {"_id": turn.tenant_id, "account_ids": wanted, "counter": 1}, session=session
                )
            return
        await self.links.update_one(
            {"_id": turn.tenant_id}, {"$set": {"account_ids": wanted}, "$inc": {"counter": 1}}, session=session
        )

    async def _put(self, session: "Session", grant: Grant) -> None:
        key = grant_id(grant.account_id, grant.tenant_id, grant.permission_set_id)
        await self.grants.update_one({"_id": key}, {"$set": grant_fields(grant)}, upsert=True, session=session)

    async def _put_tenant(self, session: "Session", turn: Turn, tenant: Tenant) -> None:
        await self.tenants.update_one(
            {"_id": tenant_doc_id(turn.account_id, turn.tenant_id)},
            {
                "$set": {
                    "account_id": tenant.account_id,
                    "tenant_id": tenant.tenant_id,
                    "tenant_name": tenant.tenant_name,
                    "primary_domain": tenant.primary_domain,
                    "cloud": tenant.cloud,
                    "revision": tenant.revision,
                    "connected": tenant.connected,
                    "removed_at": tenant.removed_at,
                    "updated_at": tenant.updated_at,
                    # What the grants allow to be read of the tenant's settings may have changed with them.
                    "settings.next_at": tenant.updated_at,
                }
            },
            upsert=True,
            session=session,
        )

    async def tell(self, session: "Session", event: ConsentFailed) -> None:
        """Add the event of a run that ended; it has no revision of a tenant, so the clock orders it among the rows."""
        await self._emit(session, event, int(event.occurred_at.timestamp() * 1000))

    async def _emit(self, session: "Session", data: EventData, revision: int) -> None:
        await self.outbox.add(session, CONSENT_EVENTS, new_event(GATEWAY, data), revision=revision)
