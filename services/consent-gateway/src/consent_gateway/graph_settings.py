"""Additional settings as Microsoft Graph shows them: the directory roles of our service principals, and licences."""

from typing import Any
from urllib.parse import quote

import httpx

# Any of these application permissions lets an app list what a service principal is a member of, and the licences
# (https://learn.microsoft.com/graph/api/serviceprincipal-list-transitivememberof,
# https://learn.microsoft.com/graph/api/subscribedsku-list).
READS_ROLES = frozenset(
    {"Application.Read.All", "Application.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"}
)
READS_LICENCES = frozenset(
    {
        "LicenseAssignment.Read.All",
        "Organization.Read.All",
        "Organization.ReadWrite.All",
        "Directory.Read.All",
        "Directory.ReadWrite.All",
    }
)
PAGES = 20


class Later(Exception):
    """Graph could not answer just now; nothing follows from that. ``seconds`` is how long it asked to wait."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__("later")
        self.seconds = seconds


class GraphSettings:
    """Reads, each with the token of one tenant. None is "not readable", which is not "not there"."""

    def __init__(self, graph_url: str, client: httpx.AsyncClient) -> None:
        self._url = graph_url
        self._client = client

    async def directory_roles(self, token: str, client_id: str) -> frozenset[str] | None:
        """Template ids of the roles that the app's service principal holds in the tenant, by itself or by a group.

        Raises:
            Later: Graph throttled, failed or didn't answer.
        """
        path = f"/v1.0/servicePrincipals(appId='{quote(client_id)}')/transitiveMemberOf"
        entries = await self._all(path, token)
        if entries is None:
            return None
        roles = [entry for entry in entries if entry.get("@odata.type") == "#microsoft.graph.directoryRole"]
        # Without the permission to read a type, Graph shows its members by id alone.
        if any(not isinstance(role.get("roleTemplateId"), str) for role in roles):
            return None
        return frozenset(role["roleTemplateId"].lower() for role in roles)

    async def service_plans(self, token: str) -> frozenset[str] | None:
        """Names of the service plans that the tenant has a working subscription of.

        Raises:
            Later: Graph throttled, failed or didn't answer.
        """
        entries = await self._all("/v1.0/subscribedSkus?$select=capabilityStatus,servicePlans", token)
        if entries is None:
            return None
        working = [entry for entry in entries if entry.get("capabilityStatus") in {"Enabled", "Warning"}]
        plans = [plan for entry in working for plan in entry.get("servicePlans") or [] if isinstance(plan, dict)]
        return frozenset(
            plan["servicePlanName"]
            for plan in plans
            if isinstance(plan.get("servicePlanName"), str) and plan.get("provisioningStatus") != "Disabled"
        )

    async def _all(self, path: str, token: str) -> list[dict[str, Any]] | None:
        """All entries of a collection, page by page; None where they can't be read to the end."""
        found: list[dict[str, Any]] = []
        url: str | None = f"{self._url}{path}"
        for _ in range(PAGES):
            body = await self._get(url, token) if url is not None else None
            values = body.get("value") if body is not None else None
            if body is None or not isinstance(values, list):
                return None
            found += [entry for entry in values if isinstance(entry, dict)]
            url = body.get("@odata.nextLink")
            if url is None:
                return found
            # A token goes to Graph only, wherever an answer points.
            if not isinstance(url, str) or not url.startswith(f"{self._url}/"):
                return None
        return None

    async def _get(self, url: str, token: str) -> dict[str, Any] | None:
        try:
            answer = await self._client.get(url, headers={"Authorization": f"Bearer {token}"})
            body = answer.json() if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            raise Later from None
        if answer.status_code in {401, 429} or answer.status_code >= 500:
            seconds = answer.headers.get("retry-after", "")
            raise Later(float(seconds) if seconds.isdigit() else None)
        return body if isinstance(body, dict) else None
