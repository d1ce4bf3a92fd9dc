"""Microsoft Graph: what a tenant says of itself, and which permissions it granted."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from consent_gateway.checks.checks import Delegated, Organization
from consent_gateway.entra.discovery import seconds_of
from shared.events import canonical_tenant_id

# https://learn.microsoft.com/graph/api/organization-get
ORGANIZATION = "/v1.0/organization?$select=id,displayName,verifiedDomains"
# Background reads give way to the customer's own (https://learn.microsoft.com/graph/throttling-limits).
PRIORITY = {"x-ms-throttle-priority": "Low"}
PAGES = 20


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


class _Later(Exception):
    """Graph could not answer just now; nothing follows from that."""

    def __init__(self, retry_after: float | None = None) -> None:
        super().__init__("later")
        self.retry_after = retry_after


class Graph:
    """Reads, each with the token of one tenant. Redirects aren't followed: a token goes to Graph only."""

    def __init__(self, graph_url: str, client: httpx.AsyncClient, *, deadline_seconds: float) -> None:
        self._url = graph_url
        self._client = client
        self._deadline = deadline_seconds

    async def organization(self, token: str) -> Described:
        """The tenant of the token. A refusal isn't a fault: not every set may read it."""
        try:
            body = await self._get(f"{self._url}{ORGANIZATION}", token)
        except _Later as later:
            return Described(organization=None, later=True, retry_after=later.retry_after)
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
        except _Later as later:
            return Scopes(granted=Delegated.LATER, retry_after=later.retry_after)

    async def app_roles(self, token: str, client_id: str) -> Mapping[str, frozenset[str]] | None:
        """The application permissions granted to the app, by resource app id; None where they can't be read now.

        https://learn.microsoft.com/graph/api/serviceprincipal-list-approleassignments
        """
        try:
            path = f"/v1.0/servicePrincipals(appId='{quote(client_id)}')/appRoleAssignments"
            assigned = await self._all(path, token)
            if assigned is None:
                return None
            found: dict[str, set[str]] = {}
            for resource_id in {str(entry.get("resourceId")) for entry in assigned}:
                path = f"/v1.0/servicePrincipals/{quote(resource_id)}?$select=appId,appRoles"
                resource = await self._get(f"{self._url}{path}", token)
                if resource is None or not isinstance(resource.get("appId"), str):
                    return None
                roles = resource.get("appRoles")
                names = {role.get("id"): role.get("value") for role in roles or [] if isinstance(role, dict)}
                here = {entry.get("appRoleId") for entry in assigned if entry.get("resourceId") == resource_id}
                granted = [value for one in here if isinstance(value := names.get(one), str)]
                found.setdefault(resource["appId"].lower(), set()).update(granted)
        except _Later:
            return None
        return {app_id: frozenset(values) for app_id, values in found.items()}

    async def _scopes(self, token: str, client_id: str) -> frozenset[tuple[str, str]] | Delegated:
        path = f"/v1.0/servicePrincipals(appId='{quote(client_id)}')?$select=id"
        principal = await self._get(f"{self._url}{path}", token)
        if principal is None or not isinstance(principal.get("id"), str):
            return Delegated.UNREADABLE
        condition = quote(f"clientId eq '{principal['id']}' and consentType eq 'AllPrincipals'")
        granted = await self._all(f"/v1.0/oauth2PermissionGrants?$filter={condition}", token)
        if granted is None:
            return Delegated.UNREADABLE
        found: set[tuple[str, str]] = set()
        for entry in granted:
            path = f"/v1.0/servicePrincipals/{quote(str(entry.get('resourceId')))}?$select=appId"
            resource = await self._get(f"{self._url}{path}", token)
            if resource is None or not isinstance(resource.get("appId"), str):
                return Delegated.UNREADABLE
            found |= {(resource["appId"].lower(), scope) for scope in str(entry.get("scope", "")).split()}
        return frozenset(found)

    async def _all(self, path: str, token: str) -> list[dict[str, Any]] | None:
        """All entries of a collection, page by page; None where they can't be read to the end."""
        found: list[dict[str, Any]] = []
        url: object = f"{self._url}{path}"
        for _ in range(PAGES):
            # A token goes to Graph only, wherever an answer points.
            if not isinstance(url, str) or not url.startswith(f"{self._url}/"):
                return None
            body = await self._get(url, token)
            values = body.get("value") if body is not None else None
            if body is None or not isinstance(values, list):
                return None
            found += [entry for entry in values if isinstance(entry, dict)]
            url = body.get("@odata.nextLink")
            if url is None:
                return found
        return None

    async def _get(self, url: str, token: str) -> dict[str, Any] | None:
        """The body of a success, None for a refusal.

        Raises:
            _Later: asking again may help.
        """
        try:
            async with asyncio.timeout(self._deadline):
                answer = await self._client.get(url, headers={"Authorization": f"Bearer {token}", **PRIORITY})
            body = answer.json() if answer.status_code == 200 else None
        except (TimeoutError, httpx.HTTPError, ValueError):
            raise _Later from None
        # A token that was made a moment ago may be refused for a moment.
        if answer.status_code in {401, 429} or answer.status_code >= 500:
            raise _Later(seconds_of(answer.headers.get("retry-after")))
        return body if isinstance(body, dict) else None


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
