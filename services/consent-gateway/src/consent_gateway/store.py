"""The transactions of the use cases, on top of the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from consent_gateway.catalog.model import Catalog, PermissionSet
from consent_gateway.checks.checks import Judgement, Organization
from consent_gateway.consent.attempt_events import failure_of
from consent_gateway.consent.attempt_records import AttemptRecords
from consent_gateway.consent.attempt_store import AttemptStore
from consent_gateway.consent.attempts import Attempt, Proven
from consent_gateway.consent.invitation_records import InvitationRecords
from consent_gateway.consent.invitation_store import InvitationStore
from consent_gateway.consent.origins import Origins
from consent_gateway.consent.proof import Administrator
from consent_gateway.consent.transfer_records import TransferRecords
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.asked_store import AskedStore
from consent_gateway.grants.change import Change, Turn
from consent_gateway.grants.grants import Grant, Tenant, accept
from consent_gateway.grants.ledger import Books, Ledger
from consent_gateway.grants.store import GrantStore
from consent_gateway.people import People, administrator_id
from shared.events import Actor

if TYPE_CHECKING:
    from shared.mongo import Database, Session

# How long a proof that nobody has confirmed is kept.
CONFIRM_WITHIN = timedelta(days=7)


class Store:
    """The gateway's truth. Each method is one transaction: all of it happens, or nothing does."""

    def __init__(self, database: "Database", catalog: Catalog, ledger: Ledger) -> None:
        self.attempts = AttemptStore(database)
        self._steps = AttemptRecords(database)
        self.grants = GrantStore(database)
        self.asked = AskedStore(database)
        self.people = People(database)
        self.origins = Origins(database)
        self.invitations = InvitationStore(database)
        self.invited = InvitationRecords(ledger, catalog, self.attempts, self._steps, self.invitations)
        self.transfers = TransferRecords(database, catalog, ledger)
        self._ledger = ledger
        self._catalog = catalog

    async def create_indexes(self) -> None:
        """All indexes; again and again without harm."""
        await self.attempts.create_indexes()
        await self.grants.create_indexes()
        await self.asked.create_indexes()
        await self.invitations.create_indexes()
        await self.transfers.create_indexes()
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
            Refused: tenant_taken; withdrawn, the invitation was taken back; used, when the attempt isn't the caller's
                any more. Nothing was written.
        """
        accepted = tuple(permission_set.id for permission_set in permission_sets)
        tenant_id = administrator.tenant_id

        async def work(books: Books) -> tuple[Grant, ...]:
            await self._progress(attempt, accepted, administrator, session=books.session, now=now)
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

    async def hold_consent(
        self,
        attempt: Attempt,
        permission_sets: Sequence[PermissionSet],
        *,
        administrator: Administrator,
        now: datetime,
    ) -> None:
        """Keep what an invited person accepted and proved, without a grant, until an operator confirms it.

        Raises:
            Refused: withdrawn, used; as ``commit_consent``.
        """
        accepted = tuple(permission_set.id for permission_set in permission_sets)

        async def work(books: Books) -> None:
            await self._progress(
                attempt, accepted, administrator, session=books.session, now=now, held_until=now + CONFIRM_WITHIN
            )

        await self._ledger.transact(attempt.account_id, work)

    async def _progress(
        self,
        attempt: Attempt,
        accepted: tuple[str, ...],
        administrator: Administrator,
        *,
        session: "Session",
        now: datetime,
        held_until: datetime | None = None,
    ) -> None:
        remaining = tuple(one for one in attempt.remaining if one not in accepted)
        proven = Proven(tenant_id=administrator.tenant_id, object_id=administrator.object_id, at=now)
        if not await self._steps.progress(
            attempt, remaining=remaining, proven=proven, session=session, now=now, held_until=held_until
        ):
            raise Refused(Kind.USED)
        await self.invited.advance(attempt, session=session, proven=proven, ended=not remaining, held_until=held_until)

    async def remember(self, administrator: Administrator) -> None:
        """Keep the administrator's name, for the pages."""
        await self.people.remember(
            administrator_id(administrator.tenant_id, administrator.object_id), administrator.name
        )

    async def fail_attempt(
        self,
        attempt: Attempt,
        *,
        kind: Kind,
        stage: str,
        error_code: str | None,
        detail: str | None = None,
        tenant_id: str | None,
        proven: Proven | None = None,
    ) -> bool:
        """End a taken attempt, with its event; False when it isn't the caller's any more.

        ``tenant_id`` is one that was proven, or None; ``proven`` keeps that proof with the attempt.
        """
        now = datetime.now(UTC)
        event = failure_of(
            attempt,
            catalog=self._catalog,
            kind=kind,
            stage=stage,
            error_code=error_code,
            detail=detail,
            tenant_id=tenant_id,
            now=now,
        )

        async def work(books: Books) -> bool:
            closed = await self._steps.close(
                attempt,
                now=now,
                session=books.session,
                tenant_id=tenant_id or attempt.tenant_id,
                failure=kind,
                stage=stage,
                error_code=error_code,
                detail=detail,
                proven=proven or attempt.proven,
            )
            if closed:
                await self.invited.fail(attempt, kind, session=books.session)
                await self._ledger.tell(books.session, event)
            return closed

        return await self._ledger.transact(attempt.account_id, work)

    async def expire_attempt(self, attempt: Attempt) -> bool:
        """End an attempt whose time is over, with its event; False when it moved on meanwhile."""
        now = datetime.now(UTC)
        event = failure_of(
            attempt,
            catalog=self._catalog,
            kind=Kind.EXPIRED,
            stage=str(attempt.phase),
            error_code=None,
            detail=None,
            tenant_id=attempt.proven.tenant_id if attempt.proven is not None else None,
            now=now,
        )

        async def work(books: Books) -> bool:
            expired = await self._steps.expire(attempt, session=books.session, now=now)
            if expired:
                await self.invited.fail(attempt, Kind.EXPIRED, session=books.session)
                await self._ledger.tell(books.session, event)
            return expired

        return await self._ledger.transact(attempt.account_id, work)

    async def commit_checks(
        self,
        account_id: str,
        tenant_id: str,
        judged: Sequence[Judgement],
        *,
        tokens: Mapping[str, int] | None = None,
        organization: Organization | None,
        cause: str,
        actor: Actor,
    ) -> tuple[Grant, ...]:
        """Write changes that were decided by an outside answer, those whose grant is still the one that was judged.

        That is: it has the revision, and the last check, that were read before asking, and where it was checked under
        a lease, that lease (``tokens``, by permission set). Returns the grants that changed.
        """

        async def work(books: Books) -> tuple[Grant, ...]:
            turn = await books.open(account_id, tenant_id)
            current = [_asked_for(turn, one) for one in judged if _unchanged(turn, one, tokens or {})]
            if not current and (turn.tenant is None or not _renames(organization, turn.tenant)):
                return ()
            change = Change(grants=current, organization=organization, cause=cause, actor=actor)
            return await books.write(turn, change)

        return await self._ledger.transact(account_id, work)


def _unchanged(turn: Turn, judged: Judgement, tokens: Mapping[str, int]) -> bool:
    before, now = judged.before, turn.grants.get(judged.before.permission_set_id)
    if now is None or now.revision != before.revision:
        return False
    # Another check may have said something else meanwhile, and a good one raises no revision.
    if (now.health.last_at, now.health.negatives) != (before.health.last_at, before.health.negatives):
        return False
    return now.health.token == tokens.get(before.permission_set_id, now.health.token)


def _asked_for(turn: Turn, judged: Judgement) -> Grant:
    """The grant to write: who asked for a check while this one was under way is to get it."""
    grant, was = judged.grant, judged.before.health.next_at
    wanted = turn.grants[grant.permission_set_id].health.next_at
    if wanted is None or wanted == was or grant.health.next_at is None or grant.health.next_at <= wanted:
        return grant
    return replace(grant, health=replace(grant.health, next_at=wanted))


def _renames(organization: Organization | None, tenant: Tenant) -> bool:
    if organization is None:
        return False
    return (organization.name or tenant.tenant_name, organization.primary_domain or tenant.primary_domain) != (
        tenant.tenant_name,
        tenant.primary_domain,
    )
