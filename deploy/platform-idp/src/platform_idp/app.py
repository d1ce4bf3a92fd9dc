"""Puts the issuer together."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware

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


def create_app(settings: Settings, *, now: Callable[[], float] = time.time) -> Starlette:
    """The issuer as an ASGI application. ``now`` gives unix seconds."""
    keys = key_ring(settings, now=now)
    clients = Clients(settings)
    codes = AuthorizationCodes(life=settings.tokens.code_seconds, now=now)
    tokens = Tokens(settings, keys, now=now)
    sign_in_pages = sign_in.SignInPages(settings, codes, tokens, Pages(), now=now)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        keys.ensure()
        _logger.info("issuer ready", extra={"fields": {"issuer": settings.issuer, "keys": len(keys.keys())}})
        yield

    return Starlette(
        lifespan=lifespan,
        middleware=[Middleware(AccessLog)],
        routes=[
            *endpoints.routes(settings, keys, clients, Grants(clients, codes, tokens)),
            *sign_in.routes(sign_in_pages),
        ],
        exception_handlers={
            OAuthError: endpoints.on_oauth_error,
            AuthorizationRefused: sign_in_pages.on_refusal,
            UntrustedRequest: sign_in_pages.on_untrusted,
        },
    )
