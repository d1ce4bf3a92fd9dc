"""The use cases of the consent flow: start, callback, proof, and how a run ended.

The callback of Entra's admin consent proves nothing: its parameters are unsigned. What counts is the proof, a sign-in
of the same browser on that very tenant.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import (
    Asked,
    Attempt,
    AttemptView,
    Browser,
    Ended,
    Leg,
    LinkView,
    Person,
    Phase,
    Proven,
    Redirect,
    Requester,
)
from consent_gateway.consent.endings import Endings
from consent_gateway.consent.legs import ORGANIZATIONS, Legs, hashed
from consent_gateway.consent.neighbours import Neighbours
from consent_gateway.consent.outcome import view_of
from consent_gateway.consent.parameters import claimed_tenant, parse
from consent_gateway.consent.proof import (
    CONSUMER_TENANT,
    Administrator,
    Expected,
    key_id,
    require_role,
    tenant_of,
    validate,
)
from consent_gateway.consent.starts import Starts
from consent_gateway.entra.answers import EntraFailed, Stage, redirect_answer
from consent_gateway.entra.consequences import CONSEQUENCE
from consent_gateway.entra.consequences import Leg as About
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Grant

Again = Callable[[], Awaitable[Person | None]]


@dataclass(frozen=True)
class _Visitor:
    """Who came back from Entra: the sessions that the browser has, and where it is."""

    person: Person | None
    session_hash: str | None
    guest: str | None
    browser: Browser | None


class Consent:
    """The consent flow. Refusals are ``errors.Refused``; they leave every grant, link and slot as it was."""

    def __init__(self, catalog: Catalog, starts: Starts, legs: Legs, neighbours: Neighbours) -> None:
        self._catalog = catalog
        self._starts = starts
        self._legs = legs
        self._rules = legs.rules
        self._attempts = neighbours.attempts
        self._entra = neighbours.entra
        self._near = neighbours
        self._endings = Endings(legs, neighbours)

    async def start(
        self,
        person: Person,
        *,
        permission_set_ids: Sequence[str],
        tenant_id: str | None = None,
        return_url: str | None = None,
    ) -> str:
        """Begin a run at the screen; as ``Starts.start``."""
        return await self._starts.start(
            person, permission_set_ids=permission_set_ids, tenant_id=tenant_id, return_url=return_url
        )

    async def create_link(
        self,
        requester: Requester,
        *,
        permission_set_ids: Sequence[str],
        tenant_id: str | None = None,
        return_url: str | None = None,
    ) -> tuple[AttemptView, str]:
        """Make a link over the API; as ``Starts.create_link``, with the view of the new attempt."""
        attempt, token = await self._starts.create_link(
            requester, permission_set_ids=permission_set_ids, tenant_id=tenant_id, return_url=return_url
        )
        return replace(await self._view(attempt), consent_url=f"{self._rules.public_url}/connect/{token}"), token

    async def open_link(self, token: str, person: Person) -> LinkView:
        """What a link asks for; as ``Starts.open_link``."""
        return await self._starts.open_link(token, person)

    async def follow_link(self, token: str, person: Person) -> str:
        """Begin the run of a link; as ``Starts.follow_link``."""
        return await self._starts.follow_link(token, person)

    async def callback(
        self,
        params: Sequence[tuple[str, str]],
        *,
        person: Person | None,
        session_hash: str | None,
        guest: str | None = None,
        browser: Browser | None = None,
    ) -> Redirect | Ended:
        """Entra's answer to the admin-consent page; ``params`` are the decoded query pairs, in order.

        ``session_hash`` names the browser's console session, ``guest`` the one it has from an invitation. A success is
        only a claim: the browser goes on to prove it.

        Raises:
            Refused: missing, unknown, expired, used, malformed, other_browser, not_signed_in; nothing was written.
        """
        query = parse(params)
        tenant_id = claimed_tenant(query)
        attempt, _ = await self._take(query["state"], Phase.CONSENT, _Visitor(person, session_hash, guest, browser))
        if tenant_id is None:
            sets = [self._catalog.sets[one] for one in attempt.remaining if one in self._catalog.sets]
            resources = [resource for one in sets for resource in one.resources]
            return await self._endings.answered(attempt, redirect_answer(Stage.CONSENT, query, resources=resources))
        if tenant_id == CONSUMER_TENANT:
            return await self._endings.refuse(attempt, Kind.PERSONAL_ACCOUNT, Stage.CONSENT)
        if attempt.tenant_id not in {None, tenant_id}:
            return await self._endings.refuse(attempt, Kind.OTHER_TENANT, Stage.CONSENT)
        return await self._sign_in(attempt, tenant_id, silent=True)

    async def prove(
        self,
        params: Sequence[tuple[str, str]],
        *,
        person: Person | None,
        session_hash: str | None,
        guest: str | None = None,
        again: Again | None = None,
        browser: Browser | None = None,
    ) -> Redirect | Ended | Asked:
        """The administrator's sign-in came back. Returns when the grant is verified, or was waited for long enough.

        Redeeming the code takes its time: ``again`` says who is at the browser right before the commit. Without it,
        ``person`` is taken to be still there.

        Raises:
            Refused: as ``callback``.
        """
        query = parse(params)
        if not query.get("error" if "error" in query else "code"):
            raise Refused(Kind.MALFORMED)
        attempt, leg = await self._take(query["state"], Phase.PROOF, _Visitor(person, session_hash, guest, browser))
        if "error" in query:
            answer = redirect_answer(Stage.SIGN_IN, query)
            follows = CONSEQUENCE[About.SILENT if leg.silent else About.SIGN_IN, answer.klass]
            if follows.with_pages and leg.tenant_id is not None:
                return await self._sign_in(attempt, leg.tenant_id, silent=False, choose_account=follows.choose_account)
            return await self._endings.answered(attempt, answer)
        return await self._proved(attempt, leg, query, again or (lambda: _still(person)))

    async def _proved(
        self, attempt: Attempt, leg: Leg, query: dict[str, str], again: Again
    ) -> Redirect | Ended | Asked:
        try:
            # An invitation's first proof is for all that it asks for, each later one for what was just accepted.
            first = attempt.invitation_id is not None and attempt.proven is None
            permission_sets = self._legs.all_sets(attempt) if first else self._legs.next_sets(attempt)
            administrator = await self._administrator(leg, query)
            require_role(administrator, permission_sets)
        except EntraFailed as failed:
            return await self._endings.answered(attempt, failed.answer)
        except Refused as refused:
            return await self._endings.refuse(attempt, refused.kind, Stage.REDEEM, detail=refused.detail or None)
        proven = Proven(tenant_id=administrator.tenant_id, object_id=administrator.object_id, at=self._near.clock())
        if attempt.invitation_id is None and not _same(await again(), attempt):
            return await self._endings.refuse(attempt, Kind.SESSION_CHANGED, Stage.REDEEM, proven=proven)
        if first:
            if not await self._near.attempts.identify(attempt, proven=proven):
                raise Refused(Kind.USED)
            await self._near.records.remember(administrator)
            return Asked(attempt.id)
        return await self._endings.commit(attempt, permission_sets, administrator)

    async def attempt(self, attempt_id: str, *, session_hash: str | None, guest: str | None = None) -> AttemptView:
        """The run, for the browser session that made it.

        Raises:
            Refused: not_found, also for a session other than the attempt's.
        """
        attempt = await self._attempts.get(attempt_id)
        if attempt is None or attempt.session_hash is None:
            raise Refused(Kind.NOT_FOUND)
        if attempt.session_hash != (session_hash if attempt.invitation_id is None else guest):
            raise Refused(Kind.NOT_FOUND)
        return await self._view(attempt)

    async def consent_of(self, attempt_id: str, *, account_id: str | None, app_id: str | None) -> AttemptView:
        """The run, for a reader of that account or the app that asked for it; None reads over all of them.

        Raises:
            Refused: not_found, also for what belongs to another account or app.
        """
        attempt = await self._attempts.get(attempt_id)
        if attempt is None or attempt.account_id != (account_id or attempt.account_id):
            raise Refused(Kind.NOT_FOUND)
        if app_id is not None and attempt.app_id != app_id:
            raise Refused(Kind.NOT_FOUND)
        return await self._view(attempt)

    async def _take(self, state: str, phase: Phase, by: "_Visitor") -> tuple[Attempt, Leg]:
        now, state_hash = self._near.clock(), hashed(state)
        attempt = None
        if by.person is not None and by.session_hash == by.person.session_hash:
            attempt = await self._attempts.take(
                state_hash=state_hash,
                session_hash=by.person.session_hash,
                account_id=by.person.account_id,
                phase=phase,
                now=now,
                browser=by.browser,
            )
        if attempt is None and by.guest is not None:
            attempt = await self._attempts.take(
                state_hash=state_hash, session_hash=by.guest, account_id=None, phase=phase, now=now, browser=by.browser
            )
        if attempt is None or attempt.leg is None:
            bindings = frozenset(one for one in (by.session_hash, by.guest) if one is not None)
            kind = await self._attempts.why_not(state_hash=state_hash, bindings=bindings, phase=phase, now=now)
            raise Refused(kind or (Kind.NOT_SIGNED_IN if by.person is None else Kind.USED))
        return attempt, attempt.leg

    async def _sign_in(
        self, attempt: Attempt, tenant_id: str, *, silent: bool, choose_account: bool = False
    ) -> Redirect | Ended:
        """Send the browser to prove who accepted, on that very tenant."""
        try:
            url, leg = await self._legs.proof(attempt, tenant_id, silent=silent, choose_account=choose_account)
        except EntraFailed as failed:
            return await self._endings.answered(attempt, failed.answer)
        except Refused as refused:
            return await self._endings.refuse(attempt, refused.kind, Stage.SIGN_IN, detail=refused.detail or None)
        if not await self._attempts.send(attempt, phase=Phase.PROOF, leg=leg, expires_at=attempt.expires_at):
            raise Refused(Kind.USED)
        return Redirect(url)

    async def _administrator(self, leg: Leg, query: dict[str, str]) -> Administrator:
        if leg.nonce is None:
            raise Refused(Kind.PROOF_FAILED)
        at = replace(leg, tenant_id=leg.tenant_id or ORGANIZATIONS)
        id_token = await self._entra.redeem(
            at, redirect_uri=self._rules.proof_uri, code=query["code"], state=query["state"]
        )
        # Without a tenant named, the token is held against the keys and the issuer of the one that it says it is of.
        tenant_id = leg.tenant_id or tenant_of(id_token)
        key, issuer = await self._entra.signing_key(tenant_id=tenant_id, key_id=key_id(id_token))
        expected = Expected(client_id=leg.client_id, tenant_id=tenant_id, issuer=issuer, nonce=leg.nonce)
        return validate(id_token, key=key, expected=expected, now=self._near.clock())

    async def _view(self, attempt: Attempt) -> AttemptView:
        grants: Sequence[Grant] = ()
        label: tuple[str | None, str | None] = (None, None)
        if attempt.tenant_id is not None and attempt.done:
            grants = await self._near.grants.grants_on(attempt.account_id, attempt.tenant_id)
            label = await self._near.grants.label(attempt.account_id, attempt.tenant_id)
        return view_of(attempt, grants, catalog=self._catalog, label=label, now=self._near.clock())


async def _still(person: Person | None) -> Person | None:
    return person


def _same(person: Person | None, attempt: Attempt) -> bool:
    """Whether the person who began is still signed in at the browser, to the account, in a role that may consent."""
    return (
        person is not None
        and person.session_hash == attempt.session_hash
        and person.account_id == attempt.account_id
        and person.may_consent
    )
