"""The admin API: JSON under `/sandbox/api`, described at `/sandbox/openapi.json`."""

from fastapi import APIRouter, Depends

from entra_sandbox.admin.app_routes import app_routes
from entra_sandbox.admin.operations import Operations
from entra_sandbox.admin.origin import refuse_other_sites
from entra_sandbox.admin.registration_routes import registration_routes
from entra_sandbox.admin.tenant_routes import tenant_routes
from entra_sandbox.admin.trouble_routes import trouble_routes, whole_routes
from entra_sandbox.sandbox import Sandbox


def admin_api(sandbox: Sandbox, operations: Operations) -> APIRouter:
    """All routes of the admin API."""
    routes = APIRouter(dependencies=[Depends(refuse_other_sites)])
    routes.include_router(tenant_routes(sandbox, operations.tenants), tags=["tenants"])
    routes.include_router(app_routes(sandbox, operations.apps, operations.tenants), tags=["apps in tenants"])
    routes.include_router(registration_routes(sandbox, operations.registrations), tags=["registrations"])
    routes.include_router(trouble_routes(sandbox), tags=["troubles"])
    routes.include_router(whole_routes(sandbox), tags=["the whole"])
    return routes
