"""The use cases of the consent flow: start, callback, proof, and how a run ended.

The callback of Entra's admin consent proves nothing: its parameters are unsigned. What counts is the proof, a sign-in
of the same browser on that very tenant.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog
from prometheus_client import Counter

from consent_gateway.answers import KINDS, Answer, Class, EntraFailed, Stage, redirect_answer
from consent_gateway.attempts import Attempt, AttemptView, Ended, Leg, LinkView, Person, Phase, Redirect, Requester
from consent_gateway.catalog import Catalog, PermissionSet
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants import Grant
from consent_gateway.neighbours import Neighbours
from consent_gateway.outcome import view_of
from consent_gateway.parameters import claimed_tenant, parse
from consent_gateway.proof import CONSUMER_TENANT, Administrator, Expected, key_id, require_role, validate
from consent_gateway.starts import Rules, Starts, hashed

log = structlog.get_logger(__name__)

ENDED = Counter("consents_total", "Permission sets granted, and attempts ended otherwise, by how.", ["outcome"])


class Consent:
    """The consent flow. Refusals are ``errors.Refused``; they leave every grant, link and slot as it was."""

    def __init__(self, catalog: Catalog, rules: Rules, starts: Starts, neighbours: Neighbours) -> None:
        self._catalog = catalog
        self._rules = rules
        self._starts = starts
        self._attempts = neighbours.attempts
        self._records = neighbours.records
        self._entra = neighbours.entra
        self._near = neighbours

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
        self, params: Sequence[tuple[str, str]], *, person: Person | None, session_hash: str | None
    ) -> Redirect | Ended:
        """Entra's answer to the admin-consent page; ``params`` are the decoded query pairs, in order.

        A success is only a claim: the browser goes on to prove it.

        Raises:
            Refused: missing, unknown, expired, used, malformed, other_browser, not_signed_in; nothing was written.
        """
        query = parse(params)
        tenant_id = claimed_tenant(query)
        attempt, _ = await self._take(query["state"], Phase.CONSENT, person, session_hash)
        if tenant_id is None:
            return await self._end_with(attempt, redirect_answer(Stage.CONSENT, query))
        if tenant_id == CONSUMER_TENANT:
            return await self._end(attempt, Kind.PERSONAL_ACCOUNT, Stage.CONSENT)
        if attempt.tenant_id not in {None, tenant_id}:
            return await self._end(attempt, Kind.OTHER_TENANT, Stage.CONSENT)
        return await self._sign_in(attempt, tenant_id, silent=True)

    async def prove(
        self, params: Sequence[tuple[str, str]], *, person: Person | None, session_hash: str | None
    ) -> Redirect | Ended:
        """The administrator's sign-in came back. Returns when the grant is verified, or was waited for long enough.

        Raises:
            Refused: as ``callback``.
        """
        query = parse(params)
        if not query.get("error" if "error" in query else "code"):
            raise Refused(Kind.MALFORMED)
        attempt, leg = await self._take(query["state"], Phase.PROOF, person, session_hash)
        if "error" in query:
            answer = redirect_answer(Stage.SIGN_IN, query)
            if answer.klass is Class.INTERACTION and leg.silent and leg.tenant_id is not None:
                return await self._sign_in(attempt, leg.tenant_id, silent=False)
            return await self._end_with(attempt, answer)
        permission_sets = self._starts.next_sets(attempt)
        try:
            administrator = await self._administrator(leg, query)
            require_role(administrator, permission_sets)
        except EntraFailed as failed:
            return await self._end_with(attempt, failed.answer)
        except Refused as refused:
            return await self._end(attempt, refused.kind, Stage.REDEEM)
        if person is None or person.account_id != attempt.account_id or not person.may_consent:
            return await self._end(attempt, Kind.SESSION_CHANGED, Stage.REDEEM)
        return await self._commit(attempt, permission_sets, administrator)

    async def attempt(self, attempt_id: str, *, session_hash: str | None) -> AttemptView:
        """The run, for the browser session that made it.

        Raises:
            Refused: not_found, also for a session other than the attempt's.
        """
        attempt = await self._attempts.get(attempt_id)
        if attempt is None or session_hash is None or attempt.session_hash != session_hash:
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

    async def _take(
        self, state: str, phase: Phase, person: Person | None, session_hash: str | None
    ) -> tuple[Attempt, Leg]:
        now, state_hash = self._near.clock(), hashed(state)
        attempt = None
        if person is not None and session_hash == person.session_hash:
            attempt = await self._attempts.take(
                state_hash=state_hash,
                session_hash=person.session_hash,
                account_id=person.account_id,
                phase=phase,
                now=now,
            )
        if attempt is None or attempt.leg is None:
            kind = await self._attempts.why_not(state_hash=state_hash, session_hash=session_hash, phase=phase, now=now)
            raise Refused(kind or (Kind.NOT_SIGNED_IN if person is None else Kind.USED))
        return attempt, attempt.leg

    async def _sign_in(self, attempt: Attempt, tenant_id: str, *, silent: bool) -> Redirect | Ended:
        """Send the browser to prove who accepted, on that very tenant; with a state, nonce and verifier of its own."""
        client_id = self._starts.next_sets(attempt)[0].client_id
        state = secrets.token_urlsafe(32)
        try:
            begun = await self._entra.begin_sign_in(
                tenant_id=tenant_id, client_id=client_id, redirect_uri=self._rules.proof_uri, state=state, silent=silent
            )
        except EntraFailed as failed:
            return await self._end_with(attempt, failed.answer)
        leg = Leg(
            state_hash=hashed(state),
            client_id=client_id,
            tenant_id=tenant_id,
            silent=silent,
            nonce=begun.nonce,
            verifier=begun.verifier,
            scope=begun.scope,
        )
        if not await self._attempts.send(attempt, phase=Phase.PROOF, leg=leg, expires_at=attempt.expires_at):
            raise Refused(Kind.USED)
        return Redirect(begun.url)

    async def _administrator(self, leg: Leg, query: dict[str, str]) -> Administrator:
        if leg.tenant_id is None or leg.nonce is None:
            raise Refused(Kind.PROOF_FAILED)
        id_token = await self._entra.redeem(
            leg, redirect_uri=self._rules.proof_uri, code=query["code"], state=query["state"]
        )
        key, issuer = await self._entra.signing_key(tenant_id=leg.tenant_id, key_id=key_id(id_token))
        expected = Expected(client_id=leg.client_id, tenant_id=leg.tenant_id, issuer=issuer, nonce=leg.nonce)
        return validate(id_token, key=key, expected=expected, now=self._near.clock())

    async def _commit(
        self, attempt: Attempt, permission_sets: tuple[PermissionSet, ...], administrator: Administrator
    ) -> Redirect | Ended:
        now = self._near.clock()
        try:
            grants = await self._records.commit_consent(
                attempt,
                permission_sets,
                administrator=administrator,
                now=now,
                verify_until=now + timedelta(seconds=self._rules.verify_deadline_seconds),
                # This request verifies first; the worker takes over from a process that died meanwhile.
                first_check_at=now + timedelta(seconds=self._rules.wait_seconds + 2),
            )
        except Refused as refused:
            return await self._end(attempt, refused.kind, Stage.REDEEM, tenant_id=administrator.tenant_id)
        self._near.committed()
        ENDED.labels("granted").inc(len(grants))
        log.info(
            "consent.proven",
            attempt_id=attempt.id,
            account_id=attempt.account_id,
            tenant_id=administrator.tenant_id,
            permission_sets=[grant.permission_set_id for grant in grants],
            held_apps=[held.app_id for grant in grants for held in grant.held_apps],
        )
        done = tuple(grant.permission_set_id for grant in grants)
        remaining = tuple(one for one in attempt.remaining if one not in done)
        if remaining:
            onward = replace(attempt, remaining=remaining, tenant_id=administrator.tenant_id)
            try:
                url, leg = await self._starts.consent_leg(onward)
            except Refused as refused:
                return await self._end(onward, refused.kind, Stage.CONSENT, tenant_id=administrator.tenant_id)
            expires_at = now + timedelta(seconds=self._rules.attempt_seconds)
            if not await self._attempts.send(onward, phase=Phase.CONSENT, leg=leg, expires_at=expires_at):
                raise Refused(Kind.USED)
            return Redirect(url)
        accepted = tuple(dict.fromkeys((*attempt.done, *done)))
        await self._near.verification.settle(
            attempt.account_id, administrator.tenant_id, accepted, seconds=self._rules.wait_seconds
        )
        return Ended(attempt.id)

    async def _end_with(self, attempt: Attempt, answer: Answer) -> Ended:
        return await self._end(attempt, KINDS[answer.klass], answer.stage, error_code=answer.name)

    async def _end(
        self,
        attempt: Attempt,
        kind: Kind,
        stage: Stage,
        *,
        error_code: str | None = None,
        tenant_id: str | None = None,
    ) -> Ended:
        closed = await self._records.fail_attempt(
            attempt, kind=kind, stage=str(stage), error_code=error_code, tenant_id=tenant_id
        )
        if not closed:
            raise Refused(Kind.USED)
        self._near.committed()
        ENDED.labels(str(kind)).inc()
        log.info(
            "consent.ended",
            attempt_id=attempt.id,
            account_id=attempt.account_id,
            tenant_id=tenant_id,
            stage=str(stage),
            reason=str(kind),
            answer=error_code,
        )
        return Ended(attempt.id)

    async def _view(self, attempt: Attempt) -> AttemptView:
        grants: Sequence[Grant] = ()
        label: tuple[str | None, str | None] = (None, None)
        if attempt.tenant_id is not None and attempt.done:
            grants = await self._near.grants.grants_on(attempt.account_id, attempt.tenant_id)
            label = await self._near.grants.label(attempt.account_id, attempt.tenant_id)
        return view_of(attempt, grants, catalog=self._catalog, label=label, now=self._near.clock())
