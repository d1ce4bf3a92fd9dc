"""The pages that a browser visits, under the paths that Entra has them at."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from entra_sandbox.interaction import Interaction
from entra_sandbox.sandbox import Sandbox
from entra_sandbox.sessions import COOKIE


def browser_routes(sandbox: Sandbox) -> APIRouter:
    """Routes of the plain-http listener that Entra has under login.microsoftonline.com."""
    routes = APIRouter()
    interaction = Interaction(sandbox)

    @routes.api_route("/{tenant}/oauth2/v2.0/authorize", methods=["GET", "POST"])
    async def authorize(tenant: str, request: Request) -> Response:
        return await interaction.begin(request, "authorize", tenant)

    @routes.get("/{tenant}/v2.0/adminconsent")
    async def adminconsent(tenant: str, request: Request) -> Response:
        return await interaction.begin(request, "adminconsent", tenant)

    @routes.get("/{tenant}/adminconsent")
    async def adminconsent_v1(tenant: str, request: Request) -> Response:
        return await interaction.begin(request, "adminconsent_v1", tenant)

    @routes.post("/{tenant}/login")
    async def login(tenant: str, request: Request) -> Response:
        return await interaction.signed_in(request, tenant)

    @routes.post("/{tenant}/switch")
    async def switch(tenant: str, request: Request) -> Response:
        return await interaction.other_account(request, tenant)

    @routes.post("/{tenant}/consent")
    async def consent(tenant: str, request: Request) -> Response:
        return await interaction.decided(request, tenant)

    @routes.get("/{tenant}/oauth2/v2.0/logout")
    async def logout(tenant: str) -> Response:
        del tenant  # a browser signs out of everything at once
        response = sandbox.pages.render("signed_out.html")
        response.delete_cookie(COOKIE, path="/")
        return response

    return routes
