"""Puts the issuer together."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from platform_idp import endpoints, sign_in
from platform_idp.clients import Clients
from platform_idp.codes import AuthorizationCodes
from platform_idp.errors import AuthorizationRefused, OAuthError, UntrustedRequest
from platform_idp.grants import Grants
from platform_idp.keys import KeyRing
from platform_idp.logs import AccessLog
from platform_idp.pages import Pages
from platform_idp.settings import Settings
from platform_idp.tokens import Tokens

_logger = logging.getLogger(__name__)


def key_ring(settings: Settings, *, now: Callable[[], float] = time.time) -> KeyRing:
    """The key ring of these settings; the server and the rotation command use the same."""
    longest_life = max(settings.tokens.access_seconds, settings.tokens.session_seconds)
    return KeyRing(settings.data_dir, longest_life=longest_life, now=now)


def create_app(settings: Settings, *, now: Callable[[], float] = time.time) -> FastAPI:
    """The issuer as an ASGI application. ``now`` gives unix seconds."""
    keys = key_ring(settings, now=now)
    clients = Clients(settings)
    codes = AuthorizationCodes(life=settings.tokens.code_seconds, now=now)
    tokens = Tokens(settings, keys, now=now)
    sign_in_pages = sign_in.SignInPages(settings, codes, tokens, Pages(), now=now)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        keys.ensure()
        _logger.info("issuer ready", extra={"fields": {"issuer": settings.issuer, "keys": len(keys.keys())}})
        yield

    app = FastAPI(title="Platform issuer (stand-in)", version="0.1.0", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(AccessLog)
    app.include_router(endpoints.router(settings, keys, clients, Grants(clients, codes, tokens)))
    app.include_router(sign_in.router(sign_in_pages))

    @app.exception_handler(OAuthError)
    async def on_oauth_error(_request: Request, error: OAuthError) -> Response:
        headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
        if error.challenge:
            headers["WWW-Authenticate"] = 'Basic realm="platform-idp", charset="UTF-8"'
        body = {"error": error.error, "error_description": error.description}
        return JSONResponse(body, error.status, headers=headers)

    @app.exception_handler(AuthorizationRefused)
    async def on_refusal(_request: Request, refusal: AuthorizationRefused) -> Response:
        return sign_in_pages.refused(refusal)

    @app.exception_handler(UntrustedRequest)
    async def on_untrusted(_request: Request, error: UntrustedRequest) -> Response:
        return sign_in_pages.untrusted(str(error))

    return app
