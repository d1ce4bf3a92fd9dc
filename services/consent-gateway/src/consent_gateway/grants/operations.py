"""What people do to grants without Entra: block, unblock, disconnect a tenant, move an app. One transaction each."""

from dataclasses import replace
from datetime import datetime

from consent_gateway.catalog.model import Catalog
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.change import Change
from consent_gateway.grants.grants import Grant, Reason, gone, with_app, without_app
from consent_gateway.grants.handover import point_to
from consent_gateway.grants.ledger import Books, Ledger
from shared.events import Actor, HeldApp


class Operations:
    """The operations. Doing one again changes nothing and emits nothing."""

    def __init__(self, ledger: Ledger, catalog: Catalog) -> None:
        self._ledger = ledger
        self._catalog = catalog

    async def block(
        self, account_id: str, tenant_id: str, permission_set_id: str, *, blocked: bool, actor: Actor, now: datetime
    ) -> Grant:
        """Stop (or resume) using a grant; Entra is untouched. Resuming makes it due for a check.

        Raises:
            Refused: not_found, there is no such grant; conflict, it is revoked.
        """

        async def work(books: Books) -> Grant:
            turn = await books.open(account_id, tenant_id)
            before = turn.grants.get(permission_set_id)
            if before is None:
                raise Refused(Kind.NOT_FOUND)
            if not before.live:
                raise Refused(Kind.CONFLICT, "The grant is revoked. Grant the permissions again.")
            if before.blocked is blocked:
                return before
            health = (
                before.health if blocked else replace(before.health, next_at=max(now, before.health.not_before or now))
            )
            after = replace(before, blocked=blocked, health=health)
            change = Change(grants=[after], cause="operator", actor=actor)
            return (await books.write(turn, change))[0]

        return await self._ledger.transact(account_id, work)

    async def disconnect(self, account_id: str, tenant_id: str, *, actor: Actor) -> tuple[Grant, ...]:
        """End every grant on the tenant, free its link and slots; a tenant without live grants is removed as well.

        Raises:
            Refused: not_found, the account has no such tenant.
        """

        async def work(books: Books) -> tuple[Grant, ...]:
            turn = await books.open(account_id, tenant_id)
            if turn.tenant is None:
                raise Refused(Kind.NOT_FOUND)
            ended = [gone(grant, Reason.DISCONNECTED) for grant in turn.grants.values() if grant.live]
            if turn.tenant.removed_at is not None:
                return ()
            change = Change(grants=ended, removed=str(Reason.DISCONNECTED), cause="operator", actor=actor)
            return await books.write(turn, change)

        return await self._ledger.transact(account_id, work)

    async def move_app(self, account_id: str, app_id: str, tenant_id: str, *, actor: Actor) -> tuple[Grant, ...]:
        """Let a limited app use this tenant instead of the one that it uses. Grants of both tenants change at once.

        Raises:
            Refused: not_found, there is no such app; invalid, it isn't limited to one tenant; conflict, the tenant has
                no grant for it.
        """
        app = self._catalog.apps.get(app_id)
        if app is None:
            raise Refused(Kind.NOT_FOUND)
        if app.tenant_limit is None:
            raise Refused(Kind.INVALID, "The app may use any number of tenants; there is nothing to move.")

        async def work(books: Books) -> tuple[Grant, ...]:
            slots = books.slots(account_id)
            target = await books.open(account_id, tenant_id)
            gaining = [grant for grant in target.grants.values() if grant.live and _serves(grant, app_id)]
            if not gaining:
                raise Refused(Kind.CONFLICT, "The tenant has no grant for the app. Grant one of its sets there first.")
            holder = await slots.holder(app_id)
            if holder == tenant_id:
                return ()
            epoch = await slots.take(app_id, tenant_id, move=True)
            if isinstance(epoch, HeldApp):
                raise TypeError("a move always takes the slot")
            cause = Change(cause="operator", actor=actor)
            changed: tuple[Grant, ...] = ()
            if holder is not None:
                source = await books.open(account_id, holder)
                held = HeldApp(app_id=app_id, tenant_id=tenant_id, epoch=epoch)
                losing = [without_app(g, held) for g in source.grants.values() if g.live and app_id in g.apps]
                changed = await books.write(source, replace(cause, grants=losing))
            gained = [with_app(grant, app_id, epoch) for grant in gaining]
            changed += await books.write(target, replace(cause, grants=gained))
            await point_to(books, HeldApp(app_id=app_id, tenant_id=tenant_id, epoch=epoch), account_id, cause)
            return changed

        return await self._ledger.transact(account_id, work)


def _serves(grant: Grant, app_id: str) -> bool:
    return app_id in grant.apps or any(held.app_id == app_id for held in grant.held_apps)
