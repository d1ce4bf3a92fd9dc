"""Apps in tenants over the admin API."""

from fastapi import APIRouter

from entra_sandbox.admin import inputs
from entra_sandbox.admin.app_operations import AppOperations
from entra_sandbox.admin.tenant_operations import TenantOperations
from entra_sandbox.admin.views import Items, PrincipalView, principal_view
from entra_sandbox.sandbox import Sandbox


def app_routes(sandbox: Sandbox, operations: AppOperations, tenants: TenantOperations) -> APIRouter:
    """Routes of apps in tenants."""
    routes, directory = APIRouter(prefix="/tenants/{tenant_id}/apps"), sandbox.directory

    @routes.get("")
    async def apps(tenant_id: str) -> Items[PrincipalView]:
        """The apps that are present in a tenant, with what they hold."""
        tenant = tenants.tenant(tenant_id)
        return Items(items=[principal_view(directory, item) for item in directory.principals_of(tenant.id)])

    @routes.get("/{client_id}")
    async def app(tenant_id: str, client_id: str) -> PrincipalView:
        """One app in a tenant."""
        return principal_view(directory, operations.principal(tenant_id, client_id))

    @routes.patch("/{client_id}")
    async def change_app(tenant_id: str, client_id: str, change: inputs.PrincipalChange) -> PrincipalView:
        """Enables or disables an app, or gives it directory roles."""
        return principal_view(directory, operations.change_principal(tenant_id, client_id, change))

    @routes.delete("/{client_id}", status_code=204)
    async def delete_app(tenant_id: str, client_id: str) -> None:
        """Deletes an app from a tenant."""
        operations.delete_principal(tenant_id, client_id)

    @routes.post("/{client_id}/consent")
    async def consent(tenant_id: str, client_id: str) -> PrincipalView:
        """Consents as an administrator of the tenant would."""
        return principal_view(directory, operations.consent(tenant_id, client_id))

    @routes.put("/{client_id}/app-roles/{resource_app_id}/{value}")
    async def add_app_role(tenant_id: str, client_id: str, resource_app_id: str, value: str) -> PrincipalView:
        """Grants one application permission."""
        role = inputs.AppRole(resource_app_id=resource_app_id, value=value)
        return principal_view(directory, operations.add_app_role(tenant_id, client_id, role))

    @routes.delete("/{client_id}/app-roles/{resource_app_id}/{value}")
    async def remove_app_role(tenant_id: str, client_id: str, resource_app_id: str, value: str) -> PrincipalView:
        """Revokes one application permission."""
        role = inputs.AppRole(resource_app_id=resource_app_id, value=value)
        return principal_view(directory, operations.remove_app_role(tenant_id, client_id, role))

    @routes.delete("/{client_id}/grants")
    async def remove_grants(tenant_id: str, client_id: str) -> PrincipalView:
        """Revokes all delegated permissions."""
        return principal_view(directory, operations.remove_grants(tenant_id, client_id))

    return routes
