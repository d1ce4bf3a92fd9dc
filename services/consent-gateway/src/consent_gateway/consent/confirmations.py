"""An operator's yes to a tenant that an invited administrator proved, and that nobody had named before."""

from datetime import timedelta
from typing import Protocol

import structlog

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Attempt, Proven
from consent_gateway.consent.endings import Endings
from consent_gateway.consent.invited import Invitation, InvitationStatus
from consent_gateway.consent.legs import Rules
from consent_gateway.consent.neighbours import Neighbours
from consent_gateway.consent.proof import Administrator
from consent_gateway.entra.answers import Stage
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Grant

log = structlog.get_logger(__name__)

PROOF_LASTS = timedelta(days=7)


class Store(Protocol):
    """Where invitations are."""

    async def get(self, account_id: str, invitation_id: str) -> Invitation | None:
        """An invitation of the account."""


class Confirmations:
    """Connects what waits for it."""

    def __init__(self, catalog: Catalog, rules: Rules, endings: Endings, store: Store, neighbours: Neighbours) -> None:
        self._catalog = catalog
        self._rules = rules
        self._endings = endings
        self._store = store
        self._near = neighbours

    async def confirm(self, account_id: str, invitation_id: str, *, subject: str) -> tuple[Grant, ...]:
        """Grant what was accepted on the tenant that was proven, and verify it at once. The caller checked the role.

        Raises:
            Refused: not_found; conflict, nothing waits for a confirmation; expired; tenant_taken, another account has
                connected the tenant meanwhile: that ends it.
        """
        invitation = await self._store.get(account_id, invitation_id)
        if invitation is None:
            raise Refused(Kind.NOT_FOUND, "There is no such invitation.")
        now = self._near.clock()
        if invitation.standing(now) is InvitationStatus.EXPIRED:
            raise Refused(Kind.EXPIRED, "The proof is older than seven days. Send a new invitation.")
        attempt = None
        if invitation.status is InvitationStatus.AWAITING_CONFIRMATION and invitation.attempt_id is not None:
            attempt = await self._near.attempts.take_awaiting(invitation.attempt_id, follower=subject, now=now)
        if attempt is None or attempt.proven is None or now - attempt.proven.at > PROOF_LASTS:
            raise Refused(Kind.CONFLICT, "Nothing waits for a confirmation here.")
        grants = await self._commit(attempt, attempt.proven)
        log.info("invitation.confirmed", invitation_id=invitation_id, account_id=account_id, attempt_id=attempt.id)
        return grants

    async def _commit(self, attempt: Attempt, proven: Proven) -> tuple[Grant, ...]:
        now = self._near.clock()
        administrator = Administrator(tenant_id=proven.tenant_id, object_id=proven.object_id, name=None, roles=None)
        sets = [self._catalog.sets[one] for one in attempt.permission_set_ids if one in self._catalog.sets]
        try:
            grants = await self._near.records.commit_consent(
                attempt,
                sets,
                administrator=administrator,
                now=now,
                verify_until=now + timedelta(seconds=self._rules.verify_deadline_seconds),
                first_check_at=now + timedelta(seconds=self._rules.wait_seconds + 2),
            )
        except Refused as refused:
            if refused.kind is not Kind.USED:
                await self._endings.refuse(attempt, refused.kind, Stage.CONSENT)
            raise
        self._near.committed()
        await self._near.verification.settle(
            attempt.account_id, proven.tenant_id, [one.id for one in sets], seconds=self._rules.wait_seconds
        )
        return grants
