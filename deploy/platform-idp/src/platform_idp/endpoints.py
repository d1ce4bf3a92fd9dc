"""The routes that programs call: discovery, keys, tokens, health."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from platform_idp.clients import Clients
from platform_idp.errors import OAuthError
from platform_idp.forms import read_form
from platform_idp.grants import Grants
from platform_idp.keys import KeyRing
from platform_idp.settings import Settings

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def routes(settings: Settings, keys: KeyRing, clients: Clients, grants: Grants) -> list[Route]:
    """All routes that answer in JSON."""

    async def discovery(_request: Request) -> JSONResponse:
        return JSONResponse(discovery_document(settings))

    async def jwks(_request: Request) -> JSONResponse:
        return JSONResponse(keys.jwks(), headers={"Cache-Control": "public, max-age=60"})

    async def token(request: Request) -> JSONResponse:
        form = await read_form(request)
        client = clients.authenticate(request.headers.get("authorization"), form)
        return JSONResponse(grants.exchange(client, form), headers=_NO_STORE)

    async def dev_token(request: Request) -> JSONResponse:
        if "origin" in request.headers:
            # A page in a developer's browser, even one that rebinds its name to this host, must not get a token.
            raise OAuthError("access_denied", "this route is for programs, not for browsers", status=403)
        return JSONResponse(grants.for_development(await read_form(request)), headers=_NO_STORE)

    async def livez(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(_request: Request) -> JSONResponse:
        try:
            keys.keys()
        except (OSError, ValueError):
            return JSONResponse({"status": "unavailable", "checks": {"signing_keys": "unreadable"}}, 503)
        return JSONResponse({"status": "ok", "checks": {"signing_keys": "ok"}})

    return [
        Route("/.well-known/openid-configuration", discovery),
        Route("/.well-known/jwks.json", jwks),
        Route("/token", token, methods=["POST"]),
        Route("/dev/token", dev_token, methods=["POST"]),
        Route("/livez", livez),
        Route("/readyz", readyz),
    ]


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


async def on_oauth_error(_request: Request, error: Exception) -> Response:
    """The JSON of an ``OAuthError`` (RFC 6749, section 5.2)."""
    assert isinstance(error, OAuthError)  # noqa: S101 (registered for this class only)
    headers = dict(_NO_STORE)
    if error.challenge:
        headers["WWW-Authenticate"] = 'Basic realm="platform-idp", charset="UTF-8"'
    return JSONResponse({"error": error.error, "error_description": error.description}, error.status, headers=headers)
