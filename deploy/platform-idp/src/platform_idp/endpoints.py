"""The routes that programs call: discovery, keys, tokens, health."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from platform_idp.clients import Clients
from platform_idp.errors import OAuthError
from platform_idp.forms import read_form
from platform_idp.grants import Grants
from platform_idp.keys import KeyRing
from platform_idp.settings import Settings

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def router(settings: Settings, keys: KeyRing, clients: Clients, grants: Grants) -> APIRouter:
    """All routes that answer in JSON."""
    routes = APIRouter()

    @routes.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, Any]:
        return discovery_document(settings)

    @routes.get("/.well-known/jwks.json")
    async def jwks() -> JSONResponse:
        return JSONResponse(keys.jwks(), headers={"Cache-Control": "public, max-age=60"})

    @routes.post("/token")
    async def token(request: Request) -> JSONResponse:
        form = await read_form(request)
        client = clients.authenticate(request.headers.get("authorization"), form)
        return JSONResponse(grants.exchange(client, form), headers=_NO_STORE)

    @routes.post("/dev/token")
    async def dev_token(request: Request) -> JSONResponse:
        if "origin" in request.headers:
            # A page in a developer's browser, even one that rebinds its name to this host, must not get a token.
            raise OAuthError("access_denied", "this route is for programs, not for browsers", status=403)
        return JSONResponse(grants.for_development(await read_form(request)), headers=_NO_STORE)

    @routes.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz")
    async def readyz() -> JSONResponse:
        try:
            keys.keys()
        except (OSError, ValueError):
            return JSONResponse({"status": "unavailable", "checks": {"signing_keys": "unreadable"}}, 503)
        return JSONResponse({"status": "ok", "checks": {"signing_keys": "ok"}})

    return routes


def discovery_document(settings: Settings) -> dict[str, Any]:
    """The provider metadata (OpenID Connect Discovery 1.0, RFC 8414, RFC 9207).

    What browsers visit stands under the issuer, what services call under ``BACKCHANNEL_URL``.
    """
    return {
        "issuer": settings.issuer,
        "authorization_endpoint": f"{settings.issuer}/authorize",
        "token_endpoint": f"{settings.backchannel}/token",
        "jwks_uri": f"{settings.backchannel}/.well-known/jwks.json",
        "end_session_endpoint": f"{settings.issuer}/logout",
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": ["openid", "profile", "offline_access"],
        "prompt_values_supported": ["none", "login", "select_account", "consent"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": [
            *("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "auth_time", "nonce", "name"),
            *("account_id", "account_name", "app_id", "roles"),
        ],
        "authorization_response_iss_parameter_supported": True,
    }
