"""Microsoft Graph: what a tenant says of itself, and which delegated permissions it granted."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from consent_gateway.checks import Organization
from shared.events import canonical_tenant_id

# https://learn.microsoft.com/graph/api/organization-get
ORGANIZATION = "/v1.0/organization?$select=id,displayName,verifiedDomains"


@dataclass(frozen=True, kw_only=True)
class Described:
    """What Graph said of the tenant: the organization, or that it should be asked again, or that it never will say."""

    organization: Organization | None
    later: bool = False


class Graph:
    """Reads, each with the token of one tenant. Redirects aren't followed: a token goes to Graph only."""

    def __init__(self, graph_url: str, client: httpx.AsyncClient) -> None:
        self._url = graph_url
        self._client = client

    async def organization(self, token: str) -> Described:
        """The tenant of the token. A refusal isn't a fault: not every set may read it."""
        body, later = await self._get(ORGANIZATION, token)
        values = body.get("value") if body is not None else None
        if not isinstance(values, list) or len(values) != 1 or not isinstance(values[0], dict):
            return Described(organization=None, later=later)
        entry: dict[str, Any] = values[0]
        tenant_id = canonical_tenant_id(str(entry.get("id", "")))
        if tenant_id is None:
            return Described(organization=None)
        return Described(
            organization=Organization(
                tenant_id=tenant_id, name=_text(entry.get("displayName")), primary_domain=_primary(entry)
            )
        )

    async def delegated(self, token: str, client_id: str) -> frozenset[tuple[str, str]] | None:
        """(resource app id, scope) of what an administrator granted for everybody; None where it can't be read.

        None as well where nothing at all is shown: an Accept always leaves some scope, so that isn't an answer yet.
        """
        principal, _ = await self._get(f"/v1.0/servicePrincipals(appId='{quote(client_id)}')?$select=id", token)
        if principal is None or not isinstance(principal.get("id"), str):
            return None
        condition = quote(f"clientId eq '{principal['id']}' and consentType eq 'AllPrincipals'")
        grants, _ = await self._get(f"/v1.0/oauth2PermissionGrants?$filter={condition}", token)
        values = grants.get("value") if grants is not None else None
        if not isinstance(values, list) or (grants or {}).get("@odata.nextLink"):
            return None
        found: set[tuple[str, str]] = set()
        for entry in values:
            resource, _ = await self._get(
                f"/v1.0/servicePrincipals/{quote(str(entry.get('resourceId')))}?$select=appId", token
            )
            if resource is None or not isinstance(resource.get("appId"), str):
                return None
            found |= {(resource["appId"].lower(), scope) for scope in str(entry.get("scope", "")).split()}
        return frozenset(found) or None

    async def _get(self, path: str, token: str) -> tuple[dict[str, Any] | None, bool]:
        """The body of a success, and whether asking again may help."""
        try:
            answer = await self._client.get(f"{self._url}{path}", headers={"Authorization": f"Bearer {token}"})
            body = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None, True
        if not isinstance(body, dict):
            return None, answer.status_code == 429 or answer.status_code >= 500 or answer.status_code == 401
        return body, False


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
