"""Our own client registrations as the home tenant shows them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from consent_gateway.entra.graph_reads import GraphReads

APPLICATION = "signInAudience,groupMembershipClaims,web,passwordCredentials,keyCredentials,requiredResourceAccess"


class GraphRegistrations:
    """Reads with a token of the home tenant."""

    def __init__(self, reads: GraphReads) -> None:
        self._reads = reads

    async def application(self, token: str, client_id: str) -> dict[str, Any] | None:
        """The registration. An app may read its own without any permission; None where Graph refuses.

        Raises:
            Later: Graph throttled, failed or didn't answer.
        """
        return await self._reads.one(f"/v1.0/applications(appId='{quote(client_id)}')?$select={APPLICATION}", token)

    async def permission_names(self, token: str, resource_app_id: str) -> Mapping[str, str] | None:
        """The names of an API's permissions by id; None where they can't be read (Application.Read.All).

        Raises:
            Later: Graph throttled, failed or didn't answer.
        """
        select = "$select=appRoles,oauth2PermissionScopes"
        found = await self._reads.one(f"/v1.0/servicePrincipals(appId='{quote(resource_app_id)}')?{select}", token)
        if found is None:
            return None
        offered = [*(found.get("appRoles") or []), *(found.get("oauth2PermissionScopes") or [])]
        return {one["id"]: one["value"] for one in offered if isinstance(one, dict) and one.get("value")}
