"""How a run through Entra's consent begins: at the screen, or by a link that an app or an operator made."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import uuid4

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Attempt, Channel, LinkView, Person, Phase, Requester
from consent_gateway.consent.invited import Invitation
from consent_gateway.consent.legs import Legs, hashed
from consent_gateway.consent.neighbours import Attempts
from consent_gateway.errors import Kind, Refused
from shared.events import canonical_tenant_id

# Runs that one browser session may have open, and links that one account may: more is somebody's mistake or mischief.
MOST_OPEN = 20


class Starts:
    """Begins runs. Refusals change nothing."""

    def __init__(
        self,
        catalog: Catalog,
        legs: Legs,
        *,
        attempts: Attempts,
        clock: Callable[[], datetime],
    ) -> None:
        self._catalog = catalog
        self._legs = legs
        self._seconds = legs.rules.attempt_seconds
        self._attempts = attempts
        self._clock = clock

    async def start(
        self,
        person: Person,
        *,
        permission_set_ids: Sequence[str],
        tenant_id: str | None = None,
        return_url: str | None = None,
    ) -> str:
        """Begin a run, bound to the person's account and session. Returns the URL to send the browser to.

        ``tenant_id`` may come straight from a form; another tenant in callback or proof is then refused.

        Raises:
            Refused: forbidden (role), invalid (an unknown set, a return URL that no app has), malformed (tenant id),
                entra_unavailable (no discovery document).
        """
        _require_role(person)
        attempt = self._new_attempt(
            account_id=person.account_id,
            account_name=person.account_name,
            subject=person.subject,
            app_id=None,
            channel=Channel.CONSOLE,
            permission_set_ids=permission_set_ids,
            tenant_id=tenant_id,
            return_url=return_url,
        )
        now = self._clock()
        if await self._attempts.open_of_session(person.session_hash, now=now) >= MOST_OPEN:
            raise Refused(Kind.TOO_MANY, "Finish one of the runs that are open, or wait until they have expired.")
        url, leg = await self._legs.consent(attempt)
        await self._attempts.insert(
            replace(
                attempt,
                phase=Phase.CONSENT,
                session_hash=person.session_hash,
                leg=leg,
                started_from=person.browser,
            )
        )
        return url

    async def create_link(
        self,
        requester: Requester,
        *,
        permission_set_ids: Sequence[str],
        tenant_id: str | None = None,
        return_url: str | None = None,
    ) -> tuple[Attempt, str]:
        """An attempt that an app or an operator makes over the API, and the token of its ``/connect/{token}`` link.

        The caller has checked the requester's role. The token is kept as a hash only.

        Raises:
            Refused: forbidden (an app, for a set that doesn't name it), invalid, malformed.
        """
        attempt = self._new_attempt(
            account_id=requester.account_id,
            account_name=requester.account_name,
            subject=requester.subject,
            app_id=requester.app_id,
            channel=Channel.APP if requester.app_id is not None else Channel.API,
            permission_set_ids=permission_set_ids,
            tenant_id=tenant_id,
            return_url=return_url,
        )
        if requester.app_id is not None and any(
            requester.app_id not in self._catalog.sets[one].apps for one in attempt.permission_set_ids
        ):
            raise Refused(Kind.FORBIDDEN, "An app can ask only for permission sets that name it.")
        token = secrets.token_urlsafe(32)
        await self._attempts.insert(attempt, link_hash=hashed(token))
        return attempt, token

    async def open_link(self, token: str, person: Person) -> LinkView:
        """What a link asks for. Changes nothing.

        Raises:
            Refused: unknown (also for another account's link), expired, used, forbidden.
        """
        _require_role(person)
        attempt = await self._attempts.of_link(hashed(token))
        if attempt is None or attempt.account_id != person.account_id:
            raise Refused(Kind.UNKNOWN)
        if attempt.phase is not Phase.LINK:
            raise Refused(Kind.USED)
        if self._clock() >= attempt.expires_at:
            raise Refused(Kind.EXPIRED)
        return LinkView(
            attempt_id=attempt.id,
            account_id=attempt.account_id,
            account_name=person.account_name or attempt.account_name,
            app_id=attempt.app_id,
            permission_set_ids=attempt.permission_set_ids,
            set_titles=tuple(
                self._catalog.sets[one].title for one in attempt.permission_set_ids if one in self._catalog.sets
            ),
            tenant_id=attempt.tenant_id,
            expires_at=attempt.expires_at,
        )

    async def follow_link(self, token: str, person: Person) -> str:
        """Bind the link's attempt to this browser session, once. Returns the URL to send the browser to.

        Raises:
            Refused: as ``open_link``, and as ``start``.
        """
        await self.open_link(token, person)
        attempt = await self._attempts.of_link(hashed(token))
        if attempt is None:
            raise Refused(Kind.UNKNOWN)
        url, leg = await self._legs.consent(attempt)
        now = self._clock()
        bound = await self._attempts.follow(
            link_hash=hashed(token),
            account_id=person.account_id,
            session_hash=person.session_hash,
            subject=person.subject,
            leg=leg,
            expires_at=now + timedelta(seconds=self._seconds),
            now=now,
            browser=person.browser,
        )
        if not bound:
            raise Refused(Kind.USED)
        return url

    def wanted(self, permission_set_ids: Sequence[str]) -> tuple[str, ...]:
        """The sets in the catalogue's order.

        Raises:
            Refused: invalid, there are none, or one isn't in the catalogue.
        """
        wanted = set(permission_set_ids)
        if not wanted or not wanted <= self._catalog.sets.keys():
            raise Refused(Kind.INVALID, "There is no such permission set.")
        return tuple(one for one in self._catalog.sets if one in wanted)

    def named_tenant(self, tenant_id: str | None) -> str | None:
        """The tenant that somebody named, or None; it may come straight from a form.

        Raises:
            Refused: malformed.
        """
        if not tenant_id or not tenant_id.strip():
            return None
        canonical = canonical_tenant_id(tenant_id.strip())
        if canonical is None:
            raise Refused(Kind.MALFORMED, "A tenant ID is a GUID, for example 8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10.")
        return canonical

    def invited(self, invitation: Invitation, *, guest: str) -> Attempt:
        """An attempt of the browser that follows an invitation."""
        attempt = self._new_attempt(
            account_id=invitation.account_id,
            account_name=invitation.account_name,
            subject=invitation.created_by,
            app_id=None,
            channel=Channel.INVITATION,
            permission_set_ids=[one for one in invitation.permission_set_ids if one in self._catalog.sets],
            tenant_id=invitation.tenant_id,
            return_url=None,
        )
        return replace(
            attempt,
            session_hash=guest,
            invitation_id=invitation.id,
            needs_confirmation=invitation.tenant_id is None,
        )

    def _returns_to(self, return_url: str, wanted: set[str], app_id: str | None) -> bool:
        """Whether the browser may be sent there in the end: an app names its own URLs only."""
        if app_id is not None and (
            app_id not in self._catalog.apps or return_url not in self._catalog.apps[app_id].return_urls
        ):
            return False
        return self._catalog.allows_return_to(return_url, wanted)

    def _new_attempt(
        self,
        *,
        account_id: str,
        account_name: str | None,
        subject: str,
        app_id: str | None,
        channel: Channel,
        permission_set_ids: Sequence[str],
        tenant_id: str | None,
        return_url: str | None,
    ) -> Attempt:
        ordered = self.wanted(permission_set_ids)
        if return_url and not self._returns_to(return_url, set(ordered), app_id):
            raise Refused(Kind.INVALID, "return_url is none of the return URLs of an app that uses these sets.")
        canonical = self.named_tenant(tenant_id)
        now = self._clock()
        return Attempt(
            id=uuid4().hex,
            account_id=account_id,
            account_name=account_name,
            subject=subject,
            app_id=app_id,
            channel=channel,
            permission_set_ids=ordered,
            remaining=ordered,
            tenant_id=canonical,
            session_hash=None,
            phase=Phase.LINK,
            return_url=return_url or None,
            created_at=now,
            expires_at=now + timedelta(seconds=self._seconds),
        )


def _require_role(person: Person) -> None:
    if not person.may_consent:
        raise Refused(Kind.FORBIDDEN, "Granting permissions needs the role operator or admin.")
