"""Microsoft Graph: what a tenant says of itself, and which permissions it granted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from consent_gateway.checks.checks import Delegated, Organization
from consent_gateway.entra.graph_reads import GraphReads, Later
from shared.events import canonical_tenant_id

# https://learn.microsoft.com/graph/api/organization-get
ORGANIZATION = "/v1.0/organization?$select=id,displayName,verifiedDomains"


@dataclass(frozen=True, kw_only=True)
class Described:
    """What Graph said of the tenant: the organization, or that it should be asked again, or that it never will say."""

    organization: Organization | None
    later: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scopes:
    """The (resource app id, scope) pairs that an administrator granted for everybody, or why there is no such list."""

    granted: frozenset[tuple[str, str]] | Delegated
    retry_after: float | None = None


class Graph:
    """Reads, each with the token of one tenant. Redirects aren't followed: a token goes to Graph only."""

    def __init__(self, reads: GraphReads) -> None:
        self._reads = reads

    async def organization(self, token: str) -> Described:
        """The tenant of the token. A refusal isn't a fault: not every set may read it."""
        try:
            body = await self._reads.one(ORGANIZATION, token)
        except Later as later:
            return Described(organization=None, later=True, retry_after=later.seconds)
        values = body.get("value") if body is not None else None
        if not isinstance(values, list) or len(values) != 1 or not isinstance(values[0], dict):
            return Described(organization=None)
        entry: dict[str, Any] = values[0]
        tenant_id = canonical_tenant_id(str(entry.get("id", "")))
        if tenant_id is None:
            return Described(organization=None)
        return Described(
            organization=Organization(
                tenant_id=tenant_id, name=_text(entry.get("displayName")), primary_domain=_primary(entry)
            )
        )

    async def delegated(self, token: str, client_id: str) -> Scopes:
        """What an administrator granted for everybody. An empty list is an answer: nothing was."""
        try:
            return Scopes(granted=await self._scopes(token, client_id))
        except Later as later:
            return Scopes(granted=Delegated.LATER, retry_after=later.seconds)

    async def app_roles(self, token: str, client_id: str) -> Mapping[str, frozenset[str]] | None:
        """The application permissions granted to the app, by resource app id; None where they can't be read now.

        https://learn.microsoft.com/graph/api/serviceprincipal-list-approleassignments
        """
        try:
            path = f"/v1.0/servicePrincipals(appId='{quote(client_id)}')/appRoleAssignments"
            assigned = await self._reads.all(path, token)
            if assigned is None:
                return None
            found: dict[str, set[str]] = {}
            for resource_id in {str(entry.get("resourceId")) for entry in assigned}:
                path = f"/v1.0/servicePrincipals/{quote(resource_id)}?$select=appId,appRoles"
                resource = await self._reads.one(path, token)
                if resource is None or not isinstance(resource.get("appId"), str):
                    return None
                roles = resource.get("appRoles")
                names = {role.get("id"): role.get("value") for role in roles or [] if isinstance(role, dict)}
                here = {entry.get("appRoleId") for entry in assigned if entry.get("resourceId") == resource_id}
                granted = [value for one in here if isinstance(value := names.get(one), str)]
                found.setdefault(resource["appId"].lower(), set()).update(granted)
        except Later:
            return None
        return {app_id: frozenset(values) for app_id, values in found.items()}

    async def _scopes(self, token: str, client_id: str) -> frozenset[tuple[str, str]] | Delegated:
        path = f"/v1.0/servicePrincipals(appId='{quote(client_id)}')?$select=id"
        principal = await self._reads.one(path, token)
        if principal is None or not isinstance(principal.get("id"), str):
            return Delegated.UNREADABLE
        condition = quote(f"clientId eq '{principal['id']}' and consentType eq 'AllPrincipals'")
        granted = await self._reads.all(f"/v1.0/oauth2PermissionGrants?$filter={condition}", token)
        if granted is None:
            return Delegated.UNREADABLE
        found: set[tuple[str, str]] = set()
        for entry in granted:
            path = f"/v1.0/servicePrincipals/{quote(str(entry.get('resourceId')))}?$select=appId"
            resource = await self._reads.one(path, token)
            if resource is None or not isinstance(resource.get("appId"), str):
                return Delegated.UNREADABLE
            found |= {(resource["appId"].lower(), scope) for scope in str(entry.get("scope", "")).split()}
        return frozenset(found)


def _text(value: object) -> str | None:
    """A customer's own words, cut to what a screen shows."""
    return value.strip()[:256] or None if isinstance(value, str) else None


def _primary(entry: dict[str, Any]) -> str | None:
    domains = [domain for domain in entry.get("verifiedDomains") or [] if isinstance(domain, dict)]
    for mark in ("isDefault", "isInitial"):
        for domain in domains:
            if domain.get(mark) is True:
                return _text(domain.get("name"))
    return None
