"""The composition root: what the service is made of, in the order in which it starts and, reversed, stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata

import httpx
import structlog
from fastapi import FastAPI
from pymongo.errors import PyMongoError

from consent_gateway import api, callbacks, console, signin
from consent_gateway.core import NAME, Core, utc_now
from consent_gateway.errors import Refused
from consent_gateway.guard import Gate
from consent_gateway.oidc import Provider
from consent_gateway.pages import Pages
from consent_gateway.security import FormTargets
from consent_gateway.sessions import Sessions
from consent_gateway.settings import Settings
from shared import mongo, web
from shared.auth import TokenVerifier, bearer
from shared.background import background
from shared.backoff import Backoff

log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The service. Nothing is connected before the lifespan starts, and HTTP answers before MongoDB or Kafka do.

    Raises:
        CatalogError, CredentialError: a file that a setting names can't be used; the message is one line.
    """
    core = Core.of(settings)
    issuer = httpx.AsyncClient(timeout=5.0, trust_env=False)
    sessions = Sessions(
        core.database,
        secret=settings.console.session_secret.get_secret_value(),
        seconds=settings.console.session_seconds,
        idle_seconds=settings.console.session_idle_seconds,
    )
    indexes = Indexes(core.store.create_indexes, sessions.create_indexes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(core.open())
            await stack.enter_async_context(issuer)
            await stack.enter_async_context(
                background(
                    relay=indexes.before(core.relay.run),
                    monitor=indexes.before(core.monitor.run),
                    changes=core.changes.run(),
                )
            )
            yield

    app = FastAPI(
        title=NAME,
        version=metadata.version(NAME),
        summary="Proves and records admin consent in Microsoft Entra ID; serves the console and the consent API.",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
    )
    # Open pages end when the signal comes: the server waits for them before it ends the lifespan.
    app.state.on_exit = core.changes.close
    app.add_exception_handler(Refused, api.on_refused)
    app.include_router(
        api.router(
            bearer(TokenVerifier.from_settings(settings.auth, issuer)),
            catalog=core.catalog,
            consent=core.consent,
            operations=core.operations,
            grants=core.store.grants,
            committed=core.relay.poke,
            clock=utc_now,
        )
    )
    _add_console(app, settings, core, sessions, issuer)
    checks = {
        "mongo": lambda: mongo.ping(core.database),
        "indexes": indexes.check,
        "relay": core.relay.check,
    }
    web.install(app, checks=checks)
    return app


def _add_console(app: FastAPI, settings: Settings, core: Core, sessions: Sessions, issuer: httpx.AsyncClient) -> None:
    """The pages: sign-in, the screens, and where Entra sends the browser back to."""
    provider = Provider(
        settings.console,
        redirect_uri=f"{settings.public_url}/auth/callback",
        client=issuer,
        metadata_url=settings.console.metadata_url,
    )
    pages = Pages(form_targets=FormTargets(provider.authorization_origin, core.entra.tokens.authorization_origin))
    gate = Gate(sessions, provider, pages, public_url=settings.public_url)
    catalog, consent, tenants_of = core.catalog, core.consent, core.store.grants.grants_of
    app.include_router(pages.router())
    app.include_router(signin.router(gate, provider, pages, public_url=settings.public_url))
    app.include_router(
        console.router(
            gate=gate, pages=pages, catalog=catalog, consent=consent, tenants_of=tenants_of, changes=core.changes
        )
    )
    app.include_router(
        callbacks.router(gate=gate, pages=pages, catalog=catalog, consent=consent, tenants_of=tenants_of)
    )


class Indexes:
    """Creates the indexes, however long MongoDB takes to come up; what relies on them starts after."""

    def __init__(self, *create: Callable[[], Awaitable[None]]) -> None:
        self._create = create
        self._creating = asyncio.Lock()
        self._created = False

    async def before(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run it once the indexes are there."""
        async with self._creating:
            backoff = Backoff()
            while not self._created:
                try:
                    for create in self._create:
                        await create()
                    self._created = True
                except PyMongoError as error:
                    delay = backoff.next()
                    log.warning("indexes.failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                    await asyncio.sleep(delay)
        await run()

    async def check(self) -> None:
        """Readiness: raise until they are there."""
        if not self._created:
            raise RuntimeError("not created yet")
