"""The transactions of invitations: the link, the run that uses it and its events change together."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consent_gateway.consent.attempt_events import failure_of
from consent_gateway.consent.attempts import Attempt, Leg, Proven
from consent_gateway.consent.invited import InvitationStatus
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.ledger import Books

if TYPE_CHECKING:
    from consent_gateway.catalog.model import Catalog
    from consent_gateway.consent.attempt_records import AttemptRecords
    from consent_gateway.consent.attempt_store import AttemptStore
    from consent_gateway.consent.invitation_store import InvitationStore
    from consent_gateway.grants.ledger import Ledger
    from shared.mongo import Session


class InvitationRecords:
    """Each public method is one transaction, but for ``advance`` and ``fail``, which are part of a run's."""

    def __init__(
        self,
        ledger: "Ledger",
        catalog: "Catalog",
        attempts: "AttemptStore",
        records: "AttemptRecords",
        invitations: "InvitationStore",
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._attempts = attempts
        self._records = records
        self._invitations = invitations

    async def consume(self, attempt: Attempt, *, leg: Leg, expires_at: datetime, now: datetime) -> bool:
        """Use the link for this run, which goes on to Entra's consent; False when either is over."""

        async def work(books: Books) -> bool:
            if not await self._invitations.consume(
                attempt.invitation_id or "", attempt_id=attempt.id, now=now, session=books.session
            ):
                return False
            if not await self._records.go_on(attempt, leg=leg, expires_at=expires_at, session=books.session, now=now):
                raise Refused(Kind.USED)
            return True

        return await self._ledger.transact(attempt.account_id, work)

    async def revoke(self, account_id: str, invitation_id: str) -> bool:
        """Take an invitation back, and end the run that uses it; False when there is nothing to take back."""
        now = datetime.now(UTC)

        async def work(books: Books) -> bool:
            invitation = await self._invitations.get(account_id, invitation_id)
            if invitation is None or not await self._invitations.revoke(
                account_id, invitation_id, session=books.session
            ):
                return False
            attempt = await self._attempts.get(invitation.attempt_id) if invitation.attempt_id is not None else None
            if attempt is not None and await self._records.withdraw(attempt, session=books.session, now=now):
                event = failure_of(
                    attempt,
                    catalog=self._catalog,
                    kind=Kind.WITHDRAWN,
                    stage=str(attempt.phase),
                    error_code=None,
                    detail=None,
                    tenant_id=attempt.proven.tenant_id if attempt.proven is not None else None,
                    now=now,
                )
                await self._ledger.tell(books.session, event)
            return True

        return await self._ledger.transact(account_id, work)

    async def advance(
        self, attempt: Attempt, *, session: "Session", proven: Proven, ended: bool, held_until: datetime | None
    ) -> None:
        """Note that sets of the run were accepted; nothing where no invitation stands behind it.

        Raises:
            Refused: withdrawn, the invitation was taken back meanwhile.
        """
        if attempt.invitation_id is None:
            return
        status = InvitationStatus.OPENED
        if ended:
            status = InvitationStatus.SUCCEEDED if held_until is None else InvitationStatus.AWAITING_CONFIRMATION
        came_from = (InvitationStatus.OPENED, InvitationStatus.AWAITING_CONFIRMATION)
        if not await self._invitations.advance(
            attempt.invitation_id,
            attempt_id=attempt.id,
            status=status,
            session=session,
            proven=proven,
            expires_at=held_until,
            came_from=came_from,
        ):
            raise Refused(Kind.WITHDRAWN)

    async def fail(self, attempt: Attempt, kind: Kind, *, session: "Session") -> None:
        """Note that the run ended; a link that it had not consumed stays good for another one."""
        if attempt.invitation_id is None:
            return
        status = InvitationStatus.FAILED
        if attempt.done and not attempt.needs_confirmation:
            status = InvitationStatus.SUCCEEDED
        elif kind is Kind.EXPIRED and not attempt.remaining:
            status = InvitationStatus.EXPIRED
        came_from = (InvitationStatus.OPENED, InvitationStatus.AWAITING_CONFIRMATION)
        await self._invitations.advance(
            attempt.invitation_id,
            attempt_id=attempt.id,
            status=status,
            session=session,
            reason=str(kind),
            came_from=came_from,
        )
