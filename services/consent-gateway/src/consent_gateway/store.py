"""The transactions of the use cases, on top of the ledger."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consent_gateway.attempt_store import AttemptStore
from consent_gateway.attempts import Attempt
from consent_gateway.catalog import Catalog, PermissionSet
from consent_gateway.checks import Judgement, Organization
from consent_gateway.errors import Kind, Refused
from consent_gateway.grant_store import GrantStore
from consent_gateway.grants import Grant, Tenant, accept
from consent_gateway.ledger import Books, Change, Ledger, Turn
from consent_gateway.people import People, administrator_id
from consent_gateway.proof import Administrator
from shared.events import GATEWAY, Actor, ConsentFailed, new_event
from shared.topics import CONSENT_EVENTS

if TYPE_CHECKING:
    from shared.mongo import Database


class Store:
    """The gateway's truth. Each method is one transaction: all of it happens, or nothing does."""

    def __init__(self, database: "Database", catalog: Catalog, ledger: Ledger) -> None:
        self.attempts = AttemptStore(database)
        self.grants = GrantStore(database)
        self.people = People(database)
        self._ledger = ledger
        self._catalog = catalog

    async def create_indexes(self) -> None:
        """All indexes; again and again without harm."""
        await self.attempts.create_indexes()
        await self.grants.create_indexes()
        await self._ledger.outbox.create_indexes()

    async def commit_consent(
        self,
        attempt: Attempt,
        permission_sets: Sequence[PermissionSet],
        *,
        administrator: Administrator,
        now: datetime,
        verify_until: datetime,
        first_check_at: datetime,
    ) -> tuple[Grant, ...]:
        """The first commit of a proven consent: grants that are `verifying`, link, slots, events, the attempt's step.

        Raises:
            Refused: tenant_taken; used, when the attempt isn't the caller's any more. Nothing was written.
        """
        accepted = tuple(permission_set.id for permission_set in permission_sets)
        remaining = tuple(one for one in attempt.remaining if one not in accepted)
        tenant_id = administrator.tenant_id

        async def work(books: Books) -> tuple[Grant, ...]:
            if not await self.attempts.progress(
                attempt, remaining=remaining, tenant_id=tenant_id, session=books.session, now=now
            ):
                raise Refused(Kind.USED)
            turn = await books.open(attempt.account_id, tenant_id)
            grants = [
                accept(
                    turn.grants.get(permission_set.id),
                    permission_set,
                    account_id=attempt.account_id,
                    tenant_id=tenant_id,
                    administrator=administrator.object_id,
                    attempt_id=attempt.id,
                    now=now,
                    verify_until=verify_until,
                    first_check_at=first_check_at,
                )
                for permission_set in permission_sets
            ]
            person = administrator_id(tenant_id, administrator.object_id)
            await self.people.remember(person, administrator.name, session=books.session)
            change = Change(
                grants=grants,
                accepted=frozenset(accepted),
                cause="consent",
                actor=Actor(kind="administrator", id=administrator.object_id),
            )
            return await books.write(turn, change)

        return await self._ledger.transact(attempt.account_id, work)

    async def fail_attempt(
        self,
        attempt: Attempt,
        *,
        kind: Kind,
        stage: str,
        error_code: str | None,
        tenant_id: str | None,
    ) -> bool:
        """End a taken attempt, with its event; False when it isn't the caller's any more.

        ``tenant_id`` is one that was proven, or None.
        """
        now = datetime.now(UTC)
        event = ConsentFailed(
            account_id=attempt.account_id,
            tenant_id=tenant_id,
            permission_set_ids=attempt.remaining,
            apps=self._catalog.apps_of(attempt.remaining),
            attempt_id=attempt.id,
            stage=stage,
            reason=str(kind),
            error_code=error_code,
            actor=Actor(kind="user", id=attempt.subject),
            occurred_at=now,
        )

        async def work(books: Books) -> bool:
            closed = await self.attempts.close(
                attempt,
                now=now,
                session=books.session,
                tenant_id=tenant_id or attempt.tenant_id,
                failure=kind,
                stage=stage,
                error_code=error_code,
            )
            if closed:
                # It carries no revision of the tenant: the clock puts it in its place among the account's rows.
                revision = int(now.timestamp() * 1000)
                await self._ledger.outbox.add(
                    books.session, CONSENT_EVENTS, new_event(GATEWAY, event), revision=revision
                )
            return closed

        return await self._ledger.transact(attempt.account_id, work)

    async def commit_checks(
        self,
        account_id: str,
        tenant_id: str,
        judged: Sequence[Judgement],
        *,
        organization: Organization | None,
        cause: str,
        actor: Actor,
    ) -> tuple[Grant, ...]:
        """Write changes that were decided by an outside answer, those whose grant is still the one that was judged.

        A judgement's grant carries the revision that was read before asking. Returns the grants that changed.
        """

        async def work(books: Books) -> tuple[Grant, ...]:
            turn = await books.open(account_id, tenant_id)
            current = [one.grant for one in judged if _unchanged(turn, one.grant)]
            if not current and (turn.tenant is None or not _renames(organization, turn.tenant)):
                return ()
            change = Change(grants=current, organization=organization, cause=cause, actor=actor)
            return await books.write(turn, change)

        return await self._ledger.transact(account_id, work)


def _unchanged(turn: Turn, judged: Grant) -> bool:
    now = turn.grants.get(judged.permission_set_id)
    return now is not None and now.revision == judged.revision


def _renames(organization: Organization | None, tenant: Tenant) -> bool:
    if organization is None:
        return False
    return (organization.name or tenant.tenant_name, organization.primary_domain or tenant.primary_domain) != (
        tenant.tenant_name,
        tenant.primary_domain,
    )
