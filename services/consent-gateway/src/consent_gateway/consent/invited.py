"""The values of invitations: a link by which an operator asks somebody who is a Global Administrator."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from consent_gateway.consent.attempts import Proven


class InvitationStatus(StrEnum):
    """Where an invitation stands. It counts once: whoever says yes on its page has consumed it."""

    PENDING = "pending"
    OPENED = "opened"
    AWAITING_CONFIRMATION = "awaiting_confirmation"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """One invitation. ``tenant_id`` is the one that the operator named; ``proven`` what the invited person proved.

    ``attempt_id`` is the run that consumed it. ``reason`` says why it failed.
    """

    id: str
    account_id: str
    account_name: str | None
    created_by: str
    permission_set_ids: tuple[str, ...]
    tenant_id: str | None
    status: InvitationStatus
    attempt_id: str | None = None
    proven: Proven | None = None
    reason: str | None = None
    created_at: datetime
    expires_at: datetime

    def standing(self, now: datetime) -> InvitationStatus:
        """The status that readers are told: time ends what waits for somebody."""
        waiting = self.status in {InvitationStatus.PENDING, InvitationStatus.AWAITING_CONFIRMATION}
        return InvitationStatus.EXPIRED if waiting and now >= self.expires_at else self.status


@dataclass(frozen=True, kw_only=True)
class InvitationView:
    """An invitation as the account's operators see it. Names are known to the gateway only."""

    invitation: Invitation
    status: InvitationStatus
    set_titles: tuple[str, ...]
    inviter: str | None
    administrator: str | None
    tenant_name: str | None


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What the page of an invitation asks: to sign in first, then, with a ``proven`` tenant, whether to connect it."""

    invitation: Invitation
    inviter: str | None
    proven: Proven | None
    administrator: str | None
