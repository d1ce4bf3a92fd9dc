"""The values of the consent flow: who asks, what the browser does next, how a run ended."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from consent_gateway.errors import STATUS, Kind
from shared.events import HeldApp


@dataclass(frozen=True, kw_only=True)
class Person:
    """A signed-in person of the console. ``session_hash`` names the browser session; it is never the cookie itself."""

    account_id: str
    account_name: str | None
    subject: str
    name: str | None
    roles: frozenset[str]
    session_hash: str

    @property
    def may_consent(self) -> bool:
        """Whether the person may start and finish consents for the account."""
        return bool(self.roles & {"operator", "admin"})


@dataclass(frozen=True, kw_only=True)
class Requester:
    """Who asks for a link over the API: a person of the account, or an app that acts for it (``app_id``)."""

    account_id: str
    account_name: str | None
    subject: str
    app_id: str | None


@dataclass(frozen=True)
class Redirect:
    """Send the browser to this URL (303)."""

    url: str


@dataclass(frozen=True)
class Ended:
    """The run is over: send the browser to ``/consent/attempts/{attempt_id}`` (303)."""

    attempt_id: str


class Phase(StrEnum):
    """What an attempt waits for. Whoever takes it out of a phase holds it alone; a new phase gives it back."""

    LINK = "link"
    CONSENT = "consent"
    PROOF = "proof"
    TAKEN = "taken"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One trip to Entra: its own state, and for a sign-in its own nonce and PKCE verifier (never logged)."""

    state_hash: str
    client_id: str
    tenant_id: str | None
    silent: bool = False
    nonce: str | None = field(default=None, repr=False)
    verifier: str | None = field(default=None, repr=False)
    scope: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run through Entra's consent by one person, short-lived, each of its states good for one use.

    ``permission_set_ids`` is what was asked for; ``remaining`` what still waits for its Accept. ``tenant_id`` is the
    tenant that was named at the start, or the one proven since. ``run`` names who has taken it.
    """

    id: str
    account_id: str
    account_name: str | None
    subject: str
    app_id: str | None
    permission_set_ids: tuple[str, ...]
    remaining: tuple[str, ...]
    tenant_id: str | None
    session_hash: str | None
    phase: Phase
    leg: Leg | None = None
    run: str | None = None
    failure: Kind | None = None
    stage: str | None = None
    error_code: str | None = None
    return_url: str | None = None
    created_at: datetime
    expires_at: datetime

    @property
    def done(self) -> tuple[str, ...]:
        """The sets whose grants were committed."""
        return tuple(one for one in self.permission_set_ids if one not in self.remaining)

    def status(self, now: datetime) -> "AttemptStatus":
        """What readers are told."""
        if self.phase is Phase.CLOSED:
            if self.failure is None:
                return AttemptStatus.SUCCEEDED
            return AttemptStatus.DECLINED if self.failure is Kind.DECLINED else AttemptStatus.FAILED
        if now >= self.expires_at:
            return AttemptStatus.EXPIRED
        return AttemptStatus.PENDING if self.phase in {Phase.LINK, Phase.CONSENT} else AttemptStatus.PROVING


class AttemptStatus(StrEnum):
    """Where a run through Entra's consent stands (design: ``GET /v1/consents/{id}``)."""

    PENDING = "pending"
    PROVING = "proving"
    AWAITING_CONFIRMATION = "awaiting_confirmation"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    FAILED = "failed"
    EXPIRED = "expired"


class NextStep(StrEnum):
    """What the person can do now; the console has a text and a link for each."""

    NONE = "none"  # granted: nothing is left to do
    WAIT = "wait"  # accepted, Entra does not show it everywhere yet: the status changes by itself
    TRY_AGAIN = "try_again"
    TRY_AGAIN_LATER = "try_again_later"
    TRY_WITHOUT_TENANT = "try_without_tenant"  # another tenant than expected: start without naming one
    USE_ADMINISTRATOR = "use_administrator"  # sign in to Entra with an account that has the role
    ASK_ADMINISTRATOR = "ask_administrator"  # an approval or a policy of the customer stands in the way
    USE_WORK_ACCOUNT = "use_work_account"
    CONTACT_SUPPORT = "contact_support"
    MOVE_APP = "move_app"  # granted, but a limited app uses another tenant


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """How one permission set of an attempt ended; ``status`` is the grant's status now, None without a grant."""

    permission_set_id: str
    title: str
    outcome: AttemptStatus
    status: str | None = None
    held_apps: tuple[HeldApp, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AttemptView:
    """One run as its starter sees it. ``reference`` is what to quote to support."""

    id: str
    account_id: str
    status: AttemptStatus
    permission_set_ids: tuple[str, ...]
    set_titles: tuple[str, ...]
    results: tuple[SetResult, ...]
    tenant_id: str | None
    tenant_name: str | None
    primary_domain: str | None
    failure: Kind | None
    error_code: str | None
    next_step: NextStep
    reference: str
    return_url: str | None
    consent_url: str | None
    created_at: datetime
    expires_at: datetime

    @property
    def http_status(self) -> int:
        """The status of the page that shows it."""
        return STATUS[self.failure] if self.failure is not None else 200


@dataclass(frozen=True, kw_only=True)
class LinkView:
    """What an app's link would do, for the page that asks before it does."""

    attempt_id: str
    account_id: str
    account_name: str | None
    app_id: str | None
    permission_set_ids: tuple[str, ...]
    set_titles: tuple[str, ...]
    tenant_id: str | None
    expires_at: datetime
