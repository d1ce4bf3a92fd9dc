"""The route of the token endpoint: reads the form, notes who asked, answers."""

import base64
from urllib.parse import unquote_plus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from entra_sandbox.errors import EntraError
from entra_sandbox.model import Tenant
from entra_sandbox.parameters import once
from entra_sandbox.sandbox import Sandbox
from entra_sandbox.token_endpoint import TokenEndpoint
from entra_sandbox.trouble import note, trip


def token_routes(sandbox: Sandbox) -> APIRouter:
    """The token endpoint of the https login listener."""
    routes = APIRouter()
    endpoint = TokenEndpoint(sandbox)

    @routes.post("/{tenant}/oauth2/v2.0/token")
    async def token(tenant: str, request: Request) -> Response:
        form = once((await request.form()).multi_items())
        _take_basic_credentials(request, form)
        authority = sandbox.directory.authority(tenant)
        tenant_id = authority.id if isinstance(authority, Tenant) else None
        client_id = form.get("client_id", "").lower()
        note(request, tenant_id=tenant_id, client_id=_known(sandbox, client_id), operation=_operation(form))
        await trip(sandbox, request, "token", tenant_id=tenant_id, client_id=client_id or None)
        body = endpoint.answer(authority, form)
        return JSONResponse(body, headers={"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"})

    return routes


def _known(sandbox: Sandbox, client_id: str) -> str | None:
    """Only ids of registrations are noted: anything else in that field may be a secret in the wrong place."""
    return client_id if sandbox.directory.registration(client_id) else None


def _operation(form: dict[str, str]) -> str:
    known = {"client_credentials", "authorization_code", "refresh_token"}
    return form.get("grant_type", "") if form.get("grant_type") in known else "other"


def _take_basic_credentials(request: Request, form: dict[str, str]) -> None:
    """`client_secret_basic` (RFC 6749, 2.3.1): name and secret are form-encoded before they are joined."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError as error:
        raise EntraError(7000215, client_id=form.get("client_id", "")) from error
    form.setdefault("client_id", unquote_plus(name))
    form.setdefault("client_secret", unquote_plus(secret))
