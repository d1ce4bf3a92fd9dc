"""Tenants and people over the admin API."""

from fastapi import APIRouter

from entra_sandbox.admin import inputs
from entra_sandbox.admin.tenant_operations import TenantOperations
from entra_sandbox.admin.views import Items
from entra_sandbox.model import Tenant, User
from entra_sandbox.sandbox import Sandbox


def tenant_routes(sandbox: Sandbox, operations: TenantOperations) -> APIRouter:
    """Routes of tenants and people."""
    routes, directory = APIRouter(), sandbox.directory

    @routes.get("/tenants")
    async def tenants() -> Items[Tenant]:
        """All tenants."""
        return Items(items=directory.tenants.values())

    @routes.post("/tenants", status_code=201)
    async def create_tenant(wanted: inputs.NewTenant) -> Tenant:
        """Makes a tenant."""
        return operations.create_tenant(wanted)

    @routes.post("/tenant-batches", status_code=201)
    async def create_tenants(wanted: inputs.TenantBatch) -> Items[str]:
        """Makes many tenants; answers with their ids."""
        return Items(items=operations.create_tenants(wanted))

    @routes.get("/tenants/{tenant_id}")
    async def tenant(tenant_id: str) -> Tenant:
        """One tenant."""
        return operations.tenant(tenant_id)

    @routes.patch("/tenants/{tenant_id}")
    async def change_tenant(tenant_id: str, change: inputs.TenantChange) -> Tenant:
        """Changes a tenant: names, licences, missing resources, propagation."""
        return operations.change_tenant(tenant_id, change)

    @routes.delete("/tenants/{tenant_id}", status_code=204)
    async def delete_tenant(tenant_id: str) -> None:
        """Deletes a tenant."""
        operations.delete_tenant(tenant_id)

    @routes.post("/tenants/{tenant_id}/release")
    async def release(tenant_id: str, wanted: inputs.Release) -> dict[str, int]:
        """Lets held-back app roles show up."""
        tenant = operations.tenant(tenant_id)
        return {"released": directory.release(tenant.id, count=wanted.count, client_id=wanted.client_id)}

    @routes.get("/tenants/{tenant_id}/users")
    async def users(tenant_id: str) -> Items[User]:
        """Members and guests of a tenant."""
        return Items(items=directory.people_of(operations.tenant(tenant_id).id))

    @routes.post("/tenants/{tenant_id}/users", status_code=201)
    async def create_user(tenant_id: str, wanted: inputs.NewUser) -> User:
        """Makes a person."""
        return operations.create_user(tenant_id, wanted)

    @routes.patch("/users/{object_id}")
    async def change_user(object_id: str, change: inputs.UserChange) -> User:
        """Changes a person: roles, password, guest accounts."""
        return operations.change_user(object_id, change)

    @routes.delete("/users/{object_id}", status_code=204)
    async def delete_user(object_id: str) -> None:
        """Deletes a person."""
        operations.delete_user(object_id)

    return routes
