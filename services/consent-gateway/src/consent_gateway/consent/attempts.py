"""The values of the consent flow: who asks, what the browser does next, how a run ended."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from consent_gateway.errors import STATUS, Kind
from shared.events import HeldApp


@dataclass(frozen=True, kw_only=True)
class Browser:
    """Where a step of a run came from: the address, and a word for the kind of browser. Never part of an event."""

    address: str | None
    family: str


@dataclass(frozen=True, kw_only=True)
class Person:
    """A signed-in person of the console. ``session_hash`` names the browser session; it is never the cookie itself.

    It is empty for who comes with an access token instead of a browser.
    """

    account_id: str
    account_name: str | None
    subject: str
    name: str | None
    roles: frozenset[str]
    session_hash: str
    browser: Browser | None = None

    @property
    def may_consent(self) -> bool:
        """Whether the person may start and finish consents for the account."""
        return bool(self.roles & {"operator", "admin"})

    @property
    def may_administer(self) -> bool:
        """Whether the person may give tenants of the account away."""
        return "admin" in self.roles


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


class Channel(StrEnum):
    """Where a run was started."""

    CONSOLE = "console"
    API = "api"
    APP = "app"
    INVITATION = "invitation"


@dataclass(frozen=True)
class Asked:
    """The invited person is known now, and is asked whether to go on: send the browser back to the invitation."""

    attempt_id: str


class Phase(StrEnum):
    """What an attempt waits for. Whoever takes it out of a phase holds it alone; a new phase gives it back."""

    LINK = "link"
    CONSENT = "consent"
    PROOF = "proof"
    CONFIRM = "confirm"  # the invited person's explicit yes, after the first proof
    AWAITING = "awaiting"  # an operator's yes to a tenant that the invitation did not name
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
class Proven:
    """What a proof has shown: who signed in to which tenant, and when. The name is kept with other people's names."""

    tenant_id: str
    object_id: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One run through Entra's consent by one person, short-lived, each of its states good for one use.

    ``permission_set_ids`` is what was asked for; ``remaining`` what still waits for its Accept. ``tenant_id`` is the
    tenant that was named at the start, or the one proven since. ``run`` names who has taken it. ``subject`` is who made
    it; ``follower`` is the person of the console who followed its link. ``proven`` is what the last proof has shown.
    What was invited without naming a tenant ``needs_confirmation`` by an operator. ``started_from`` is the browser that
    began the run, ``last_from`` the one that brought Entra's last answer: where it succeeded, the one that accepted.
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
    detail: str | None = None
    return_url: str | None = None
    channel: Channel = Channel.CONSOLE
    follower: str | None = None
    invitation_id: str | None = None
    needs_confirmation: bool = False
    proven: Proven | None = None
    started_from: Browser | None = None
    last_from: Browser | None = None
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
            ends = {Kind.DECLINED: AttemptStatus.DECLINED, Kind.EXPIRED: AttemptStatus.EXPIRED}
            return ends.get(self.failure, AttemptStatus.FAILED)
        if now >= self.expires_at:
            return AttemptStatus.EXPIRED
        if self.phase is Phase.AWAITING:
            return AttemptStatus.AWAITING_CONFIRMATION
        return AttemptStatus.PROVING if self.phase in {Phase.PROOF, Phase.TAKEN} else AttemptStatus.PENDING


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
    CONTACT_INVITER = "contact_inviter"  # the invitation was taken back: ask whoever sent it
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
    """One run as its starter sees it. ``reference`` is what to quote to support.

    ``remaining`` are the sets that were not accepted, ``others`` those of them that a decline was not about: a person
    can go on with them. ``invited`` says that the person at the browser need not be one of the account's. ``services``
    names the API that the tenant lacks or, where Entra doesn't say which, those that the sets need;
    ``resource_app_id`` is the app id of the former. ``started_from``
    and ``last_from`` are for the account's own people.
    """

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
    remaining: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    invited: bool = False
    services: tuple[str, ...] = ()
    resource_app_id: str | None = None
    started_from: Browser | None = None
    last_from: Browser | None = None

    @property
    def done(self) -> int:
        """How many of the sets were accepted."""
        return len(self.permission_set_ids) - len(self.remaining)

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
