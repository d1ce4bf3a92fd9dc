"""One check of one tenant: a fresh token per resource, their roles, and the tenant's description."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import jwt
import structlog

from consent_gateway.answers import GONE, Answer, Class, EntraFailed, Stage
from consent_gateway.catalog import MICROSOFT_GRAPH, Resource
from consent_gateway.checks import Finding
from consent_gateway.entra_tokens import EntraTokens
from consent_gateway.graph import Described, Graph
from consent_gateway.registrations import Home
from shared.events import canonical_tenant_id

log = structlog.get_logger(__name__)

# Any of these lets an app read delegated grants (https://learn.microsoft.com/graph/api/oauth2permissiongrant-list).
READS_DELEGATED = frozenset({"Directory.Read.All", "Directory.ReadWrite.All", "DelegatedPermissionGrant.Read.All"})


@dataclass(frozen=True, kw_only=True)
class _Roles:
    """The application permissions in a token, and the token for what else is to be read with it."""

    token: str
    roles: frozenset[str]


class Probe:
    """Asks Entra. Costs one token request per resource, one Graph read, and three more for delegated permissions."""

    def __init__(self, tokens: EntraTokens, graph: Graph, *, home_tenant_id: str) -> None:
        self._tokens = tokens
        self._graph = graph
        self._home_tenant_id = home_tenant_id

    async def find(self, *, tenant_id: str, client_id: str, resources: Sequence[Resource], delegated: bool) -> Finding:
        """What Entra says of the registration on the tenant. Never raises for an answer."""
        answers = await asyncio.gather(*(self._roles(tenant_id, client_id, resource) for resource in resources))
        by_resource = dict(zip((resource.app_id for resource in resources), answers, strict=True))
        refusals = [answer for answer in answers if isinstance(answer, Answer)]
        # One token is proof that the registration is still there, and one open question leaves everything open.
        all_refused = len(refusals) == len(answers)
        all_definite = all(one.klass in GONE or one.klass is Class.SERVICE_MISSING for one in refusals)
        gone = next((GONE[one.klass] for one in refusals if one.klass in GONE), None)
        gone = gone if all_refused and all_definite else None
        absent = frozenset(
            app_id
            for app_id, one in by_resource.items()
            if isinstance(one, Answer) and one.klass is Class.SERVICE_MISSING
        )
        unclear = next(
            (
                one
                for one in refusals
                if one.klass is not Class.SERVICE_MISSING and (gone is None or one.klass not in GONE)
            ),
            None,
        )
        described, scopes = await self._describe(by_resource.get(MICROSOFT_GRAPH), client_id, delegated=delegated)
        organization = described.organization
        if organization is not None and organization.tenant_id != tenant_id:
            log.error("entra.token_of_another_tenant", tenant_id=tenant_id, client_id=client_id)
            return Finding(roles={}, unanswered="token_of_another_tenant")
        return Finding(
            roles={app_id: one.roles for app_id, one in by_resource.items() if isinstance(one, _Roles)},
            absent=absent,
            gone=gone,
            unanswered=f"{unclear.klass}: {unclear.name}" if unclear is not None else None,
            ours=any(one.klass in {Class.OURS, Class.CONFIG} for one in refusals),
            delegated=scopes,
            organization=organization,
            organization_later=described.later,
            retry_after=max((one.retry_after for one in refusals if one.retry_after is not None), default=None),
        )

    async def home(self, client_id: str, resource: Resource) -> Home:
        """Whether our own tenant gives the registration a token."""
        answer = await self._roles(self._home_tenant_id, client_id, resource)
        if isinstance(answer, _Roles):
            return Home.WORKS
        ours = answer.klass in GONE or answer.klass in {Class.OURS, Class.CONFIG}
        return Home.OURS if ours else Home.UNKNOWN

    async def _describe(
        self, graph: _Roles | Answer | None, client_id: str, *, delegated: bool
    ) -> tuple[Described, frozenset[tuple[str, str]] | None]:
        if not isinstance(graph, _Roles):
            return Described(organization=None), None
        if not delegated or not graph.roles & READS_DELEGATED:
            return await self._graph.organization(graph.token), None
        return await asyncio.gather(
            self._graph.organization(graph.token), self._graph.delegated(graph.token, client_id)
        )

    async def _roles(self, tenant_id: str, client_id: str, resource: Resource) -> _Roles | Answer:
        try:
            token = await self._tokens.app_token(tenant_id=tenant_id, client_id=client_id, scope=resource.scope)
        except EntraFailed as failed:
            return failed.answer
        return _read(token, tenant_id, client_id)


def _read(token: str, tenant_id: str, client_id: str) -> _Roles | Answer:
    """The roles in a token that came straight from Entra over TLS. Formally it is opaque to us, so nothing is assumed.

    A token without `roles` is an answer: nothing was granted. One that can't be read, or is another's, is none.
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return Answer(stage=Stage.TOKEN, klass=Class.UNKNOWN, error="opaque_token")
    roles = claims.get("roles", [])
    ours = claims.get("appid", claims.get("azp")) == client_id
    theirs = canonical_tenant_id(str(claims.get("tid", ""))) == tenant_id
    if not ours or not theirs or not isinstance(roles, list):
        return Answer(stage=Stage.TOKEN, klass=Class.UNKNOWN, error="token_of_another_kind")
    return _Roles(token=token, roles=frozenset(role for role in roles if isinstance(role, str)))
