"""The pages of the sandbox, under `/sandbox`: what the admin API can do, as forms."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from entra_sandbox.admin.changes import AdminForms
from entra_sandbox.admin.operations import Operations
from entra_sandbox.admin.views import principal_view
from entra_sandbox.flaws import DESCRIPTIONS
from entra_sandbox.model import Behaviour
from entra_sandbox.request_log import RequestQuery
from entra_sandbox.roles import TEMPLATE_IDS
from entra_sandbox.sandbox import Sandbox

_SHOWN_REQUESTS = 200
_SHOWN_TENANTS = 100


def admin_pages(sandbox: Sandbox, operations: Operations) -> APIRouter:
    """Routes under `/sandbox`."""
    routes = APIRouter(include_in_schema=False)
    forms = AdminForms(sandbox, operations)

    @routes.get("")
    async def overview(done: str = "", problem: str = "") -> Response:
        tenants = sandbox.directory.tenants.values()
        return sandbox.pages.render(
            "admin/overview.html",
            tenants=tenants[:_SHOWN_TENANTS],
            total=len(tenants),
            directory=sandbox.directory,
            registrations=sandbox.directory.registrations.values(),
            urls=sandbox.urls,
            done=done,
            problem=problem,
        )

    @routes.get("/tenants/{tenant_id}")
    async def tenant(tenant_id: str, done: str = "", problem: str = "") -> Response:
        found = operations.tenants.tenant(tenant_id)
        principals = sandbox.directory.principals_of(found.id)
        return sandbox.pages.render(
            "admin/tenant.html",
            tenant=found,
            people=sandbox.directory.people_of(found.id),
            apps=[principal_view(sandbox.directory, item) for item in principals],
            absent=[
                item
                for item in sandbox.directory.registrations.values()
                if item.client_id not in {principal.client_id for principal in principals}
            ],
            resources=sandbox.directory.resources.values(),
            roles=list(TEMPLATE_IDS),
            done=done,
            problem=problem,
        )

    @routes.get("/registrations/{client_id}")
    async def registration(client_id: str, done: str = "", problem: str = "") -> Response:
        found = operations.registrations.registration(client_id)
        return sandbox.pages.render(
            "admin/registration.html",
            registration=found,
            redirect_uris=sandbox.directory.redirect_uris,
            resources=sandbox.directory.resources,
            now=sandbox.directory.clock,
            done=done,
            problem=problem,
        )

    @routes.get("/troubles")
    async def troubles(done: str = "", problem: str = "") -> Response:
        tenants = sandbox.directory.tenants.values()[:_SHOWN_TENANTS]
        return sandbox.pages.render(
            "admin/troubles.html",
            faults=sandbox.faults.faults.values(),
            flaws=sandbox.faults.flaws.values(),
            descriptions=DESCRIPTIONS,
            behaviour=sandbox.directory.behaviour,
            fields=Behaviour.model_fields,
            tenant_options=[(item.id, item.display_name) for item in tenants],
            client_options=[(item.client_id, item.display_name) for item in sandbox.directory.registrations.values()],
            done=done,
            problem=problem,
        )

    @routes.get("/requests")
    async def requests(done: str = "", problem: str = "") -> Response:
        found = list(sandbox.requests.find(RequestQuery()))
        return sandbox.pages.render(
            "admin/requests.html",
            requests=found[-_SHOWN_REQUESTS:][::-1],
            total=len(found),
            done=done,
            problem=problem,
        )

    @routes.post("/do/{change}")
    async def do(change: str, request: Request) -> Response:
        return forms.answer(change, request, await request.form())

    return routes
