"""One check of one tenant: a fresh token per resource, their roles, and the tenant's description."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jwt
import structlog

from consent_gateway.catalog.model import MICROSOFT_GRAPH, Resource
from consent_gateway.checks.checks import Delegated, Finding
from consent_gateway.checks.registrations import Home
from consent_gateway.entra.answers import Answer, Class, EntraFailed, Stage
from consent_gateway.entra.app_tokens import AppTokens
from consent_gateway.entra.consequences import CONSEQUENCE, Consequence, Leg
from consent_gateway.entra.graph import Described, Graph, Scopes
from consent_gateway.grants.grants import Reason
from shared.events import canonical_tenant_id

log = structlog.get_logger(__name__)

# Any of these lets an app read delegated grants (https://learn.microsoft.com/graph/api/oauth2permissiongrant-list).
READS_DELEGATED = frozenset({"Directory.Read.All", "Directory.ReadWrite.All", "DelegatedPermissionGrant.Read.All"})
# Every tenant has Graph, and every cloud knows it by this id.
AT_HOME = Resource(app_id=MICROSOFT_GRAPH, identifier=MICROSOFT_GRAPH, name="Microsoft Graph")


@dataclass(frozen=True, kw_only=True)
class _Roles:
    """The application permissions in a token, or None where it is opaque; the token itself, and whose it is."""

    token: str
    roles: frozenset[str] | None
    object_id: str | None = None


_Answers = Mapping[str, _Roles | Answer]


class Probe:
    """Asks Entra: one token request per resource; in full also for the tenant's name and delegated permissions."""

    def __init__(self, tokens: AppTokens, graph: Graph, *, home_tenant_id: str) -> None:
        self._tokens = tokens
        self._graph = graph
        self._home_tenant_id = home_tenant_id

    async def find(
        self, *, tenant_id: str, client_id: str, resources: Sequence[Resource], delegated: bool, full: bool = True
    ) -> Finding:
        """What Entra says of the registration on the tenant. Never raises for an answer."""
        found = await asyncio.gather(*(self._roles(tenant_id, client_id, resource) for resource in resources))
        answers: _Answers = dict(zip((resource.app_id for resource in resources), found, strict=True))
        answers = await self._without_opaque(answers, client_id)
        refusals = {app_id: one for app_id, one in answers.items() if isinstance(one, Answer)}
        follows = {app_id: CONSEQUENCE[Leg.CHECK, one.klass] for app_id, one in refusals.items()}
        absent = frozenset(app_id for app_id, one in follows.items() if one.absent)
        gone = _gone(follows, all_refused=len(refusals) == len(answers))
        unclear = _unclear(refusals, follows, gone) or (
            # A tenant that has none of the APIs says nothing of what was granted on them.
            next(iter(refusals.values())) if gone is None and len(absent) == len(answers) else None
        )
        described, scopes = await self._describe(
            answers.get(MICROSOFT_GRAPH), client_id, delegated=delegated, full=full
        )
        organization = described.organization
        if organization is not None and organization.tenant_id != tenant_id:
            log.error("entra.token_of_another_tenant", tenant_id=tenant_id, client_id=client_id)
            return Finding(roles={}, unanswered="token_of_another_tenant")
        waits = [described.retry_after, scopes.retry_after, *(one.retry_after for one in refusals.values())]
        return Finding(
            roles={app_id: one.roles or frozenset() for app_id, one in answers.items() if isinstance(one, _Roles)},
            absent=absent,
            gone=gone,
            unanswered=f"{unclear.klass}: {unclear.name}" if unclear is not None else None,
            ours=any(one.doubts_us for one in follows.values()),
            throttled=any(one.klass is Class.TRANSIENT for one in refusals.values()),
            delegated=scopes.granted,
            organization=organization,
            organization_later=described.later,
            retry_after=max((wait for wait in waits if wait is not None), default=None),
            full=full,
            service_principal_id=next(
                (one.object_id for one in answers.values() if isinstance(one, _Roles) and one.object_id), None
            ),
        )

    async def home(self, client_id: str) -> Home:
        """Whether our own tenant gives the registration a token."""
        answer = await self._roles(self._home_tenant_id, client_id, AT_HOME)
        if isinstance(answer, _Roles):
            return Home.WORKS
        return Home.OURS if CONSEQUENCE[Leg.HOME, answer.klass].refuses_us else Home.UNKNOWN

    async def _describe(
        self, graph: _Roles | Answer | None, client_id: str, *, delegated: bool, full: bool
    ) -> tuple[Described, Scopes]:
        nothing, unasked = Described(organization=None), Scopes(granted=Delegated.UNASKED)
        if not full:
            return nothing, unasked
        if not isinstance(graph, _Roles):
            return nothing, Scopes(granted=Delegated.UNREADABLE)
        if not delegated or not (graph.roles or frozenset()) & READS_DELEGATED:
            return await self._graph.organization(graph.token), Scopes(granted=Delegated.UNREADABLE)
        return await asyncio.gather(
            self._graph.organization(graph.token), self._graph.delegated(graph.token, client_id)
        )

    async def _without_opaque(self, answers: _Answers, client_id: str) -> _Answers:
        """The answers with the roles of opaque tokens read from Graph, where the app may; else they say nothing."""
        opaque = [app_id for app_id, one in answers.items() if isinstance(one, _Roles) and one.roles is None]
        if not opaque:
            return answers
        graph = answers.get(MICROSOFT_GRAPH)
        assigned = await self._graph.app_roles(graph.token, client_id) if isinstance(graph, _Roles) else None
        unreadable = Answer(stage=Stage.TOKEN, klass=Class.UNKNOWN, error="opaque_token")
        read = dict(answers)
        for app_id in opaque:
            one = answers[app_id]
            if assigned is None or not isinstance(one, _Roles):
                read[app_id] = unreadable
            else:
                read[app_id] = _Roles(token=one.token, roles=assigned.get(app_id, frozenset()))
        return read

    async def _roles(self, tenant_id: str, client_id: str, resource: Resource) -> _Roles | Answer:
        try:
            token = await self._tokens.app_token(tenant_id=tenant_id, client_id=client_id, scope=resource.scope)
        except EntraFailed as failed:
            return failed.answer
        return _read(token, tenant_id, client_id)


def _gone(follows: Mapping[str, Consequence], *, all_refused: bool) -> Reason | None:
    """Why everything is gone: one token proves that the registration is there, one open question leaves all open."""
    definite = all(one.absent or one.takes_away is not None for one in follows.values())
    if not all_refused or not definite:
        return None
    return next((one.takes_away for one in follows.values() if one.takes_away is not None), None)


def _unclear(refusals: Mapping[str, Answer], follows: Mapping[str, Consequence], gone: Reason | None) -> Answer | None:
    """A refusal that says neither that the API is absent nor that everything is gone."""
    for app_id, refusal in refusals.items():
        explained = follows[app_id].absent or (gone is not None and follows[app_id].takes_away is not None)
        if not explained:
            return refusal
    return None


def _read(token: str, tenant_id: str, client_id: str) -> _Roles | Answer:
    """The roles in a token that came straight from Entra over TLS. Formally it is opaque to us, so nothing is assumed.

    A token without `roles` is an answer: nothing was granted. One that is another's is none. The `oid` of an app-only
    token is the object id of the calling service principal in the tenant
    (https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference).
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return _Roles(token=token, roles=None)
    roles = claims.get("roles", [])
    ours = claims.get("appid", claims.get("azp")) == client_id
    theirs = canonical_tenant_id(str(claims.get("tid", ""))) == tenant_id
    if not ours or not theirs or not isinstance(roles, list):
        return Answer(stage=Stage.TOKEN, klass=Class.UNKNOWN, error="token_of_another_kind")
    return _Roles(
        token=token,
        roles=frozenset(role for role in roles if isinstance(role, str)),
        object_id=canonical_tenant_id(str(claims.get("oid", ""))),
    )
