"""What the consent flow reaches the world by: narrow interfaces, filled in by the composition root."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from consent_gateway.catalog.model import PermissionSet
from consent_gateway.consent.attempts import Attempt, Browser, Leg, Phase, Proven
from consent_gateway.consent.proof import Administrator, SigningKey
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Grant


class Attempts(Protocol):
    """Attempts, each of whose states can be taken once."""

    async def insert(self, attempt: Attempt, *, link_hash: str | None = None) -> None:
        """Keep a new attempt."""

    async def open_of_session(self, session_hash: str, *, now: datetime) -> int:
        """How many attempts of the browser session wait for something."""
        raise NotImplementedError

    async def open_of_invitation(self, invitation_id: str, *, now: datetime) -> int:
        """How many runs of an invitation wait for something."""
        raise NotImplementedError

    async def awaiting_yes(self, session_hash: str, *, now: datetime) -> Attempt | None:
        """The attempt of an invited browser that waits for the person's yes."""

    async def take_awaiting(self, attempt_id: str, *, follower: str, now: datetime) -> Attempt | None:
        """Take an attempt that waits for an operator, for that operator; at most one caller ever gets it."""

    async def take(
        self,
        *,
        state_hash: str,
        session_hash: str,
        account_id: str | None,
        phase: Phase,
        now: datetime,
        browser: Browser | None = None,
    ) -> Attempt | None:
        """Consume the state; at most one caller ever gets the attempt. Without an account: one of an invitation."""

    async def why_not(self, *, state_hash: str, bindings: Collection[str], phase: Phase, now: datetime) -> Kind | None:
        """Why the state can't be taken; None where it is good. ``bindings`` are the browser's sessions."""

    async def send(self, attempt: Attempt, *, phase: Phase, leg: Leg, expires_at: datetime) -> bool:
        """Give a taken attempt its next leg; False when it isn't the caller's any more."""
        raise NotImplementedError

    async def identify(self, attempt: Attempt, *, proven: Proven) -> bool:
        """Have a taken attempt wait for the invited person's yes; False when it isn't the caller's any more."""
        raise NotImplementedError

    async def follow(
        self,
        *,
        link_hash: str,
        account_id: str,
        session_hash: str,
        subject: str,
        leg: Leg,
        expires_at: datetime,
        now: datetime,
        browser: Browser | None = None,
    ) -> bool:
        """Bind a link's attempt to a browser session, once."""
        raise NotImplementedError

    async def of_link(self, link_hash: str) -> Attempt | None:
        """The attempt of a link."""

    async def get(self, attempt_id: str) -> Attempt | None:
        """The attempt."""


class Records(Protocol):
    """The transactions that end a step of an attempt."""

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
        """The first commit of a proven consent; raises ``Refused`` (tenant_taken, used) with nothing written."""
        raise NotImplementedError

    async def hold_consent(
        self,
        attempt: Attempt,
        permission_sets: Sequence[PermissionSet],
        *,
        administrator: Administrator,
        now: datetime,
    ) -> None:
        """Keep what an invited person accepted and proved, without a grant; raises ``Refused`` (withdrawn, used)."""
        raise NotImplementedError

    async def remember(self, administrator: Administrator) -> None:
        """Keep the administrator's name, for the pages."""

    async def fail_attempt(
        self,
        attempt: Attempt,
        *,
        kind: Kind,
        stage: str,
        error_code: str | None,
        detail: str | None,
        tenant_id: str | None,
        proven: Proven | None,
    ) -> bool:
        """End a taken attempt, with its event; False when it isn't the caller's any more."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A sign-in that was begun: where to send the browser, and what redeeming its code needs."""

    url: str
    nonce: str
    verifier: str
    scope: tuple[str, ...]


class Entra(Protocol):
    """Entra's login endpoints. Every method raises ``EntraFailed`` when Entra gives no success."""

    async def authorization_origin(self) -> str:
        """The origin of the pages that a browser is sent to."""
        raise NotImplementedError

    async def begin_sign_in(
        self,
        *,
        tenant_id: str,
        client_id: str,
        redirect_uri: str,
        state: str,
        silent: bool,
        choose_account: bool = False,
    ) -> SignIn:
        """Begin an authorization-code flow with PKCE and nonce on the tenant; silently means without any page."""
        raise NotImplementedError

    async def redeem(self, leg: Leg, *, redirect_uri: str, code: str, state: str) -> str:
        """The ID token of the code; nothing of it has been checked but the nonce."""
        raise NotImplementedError

    async def signing_key(self, *, tenant_id: str, key_id: str) -> tuple[SigningKey, str]:
        """The tenant's key with this id, and the tenant's issuer."""
        raise NotImplementedError


class Grants(Protocol):
    """What became of the grants."""

    async def grants_on(self, account_id: str, tenant_id: str) -> list[Grant]:
        """The account's grants on a tenant."""
        raise NotImplementedError

    async def label(self, account_id: str, tenant_id: str) -> tuple[str | None, str | None]:
        """The tenant's name and primary domain, as far as they are known."""
        raise NotImplementedError


class Verifier(Protocol):
    """Verifies fresh grants for a bounded time."""

    async def settle(self, account_id: str, tenant_id: str, set_ids: Sequence[str], *, seconds: float) -> None:
        """Return when they are verified, or the time is over."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """All of them. ``committed`` wakes the relay."""

    attempts: Attempts
    records: Records
    entra: Entra
    grants: Grants
    verification: Verifier
    committed: Callable[[], None]
    clock: Callable[[], datetime]
