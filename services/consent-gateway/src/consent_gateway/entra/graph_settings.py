"""Additional settings as Microsoft Graph shows them: the directory roles of our service principals, and licences."""

from urllib.parse import quote

from consent_gateway.entra.graph_reads import GraphReads

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


class GraphSettings:
    """Reads, each with the token of one tenant. None is "not readable", which is not "not there"."""

    def __init__(self, reads: GraphReads) -> None:
        self._reads = reads

    async def directory_roles(self, token: str, client_id: str) -> frozenset[str] | None:
        """Template ids of the roles that the app's service principal holds in the tenant, by itself or by a group.

        Raises:
            Later: Graph throttled, failed or didn't answer.
        """
        path = f"/v1.0/servicePrincipals(appId='{quote(client_id)}')/transitiveMemberOf"
        entries = await self._reads.all(path, token)
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
        entries = await self._reads.all("/v1.0/subscribedSkus?$select=capabilityStatus,servicePlans", token)
        if entries is None:
            return None
        working = [entry for entry in entries if entry.get("capabilityStatus") in {"Enabled", "Warning"}]
        plans = [plan for entry in working for plan in entry.get("servicePlans") or [] if isinstance(plan, dict)]
        return frozenset(
            plan["servicePlanName"]
            for plan in plans
            if isinstance(plan.get("servicePlanName"), str) and plan.get("provisioningStatus") != "Disabled"
        )
