"""The composition root: what the service is made of, in the order in which it starts and, reversed, stops."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata

import httpx
from fastapi import FastAPI

from consent_gateway.core import NAME, Core, utc_now
from consent_gateway.errors import Refused
from consent_gateway.settings import Settings
from consent_gateway.web import (
    api,
    api_checks,
    api_credentials,
    api_failures,
    api_functions,
    api_invitations,
    api_planned,
    api_transfers,
    callbacks,
    console,
    console_fleet,
    console_grants,
    console_history,
    console_invitations,
    console_many,
    console_planned,
    console_tenants,
    console_transfers,
    invite_pages,
    signin,
)
from consent_gateway.web.fleet_reader import FleetReader
from consent_gateway.web.guard import Gate
from consent_gateway.web.history_reader import HistoryReader
from consent_gateway.web.oidc import Provider
from consent_gateway.web.pages import Pages
from consent_gateway.web.registry import Registry
from consent_gateway.web.security import FormTargets, StrictTransport
from consent_gateway.web.sessions import Sessions
from shared import mongo, web
from shared.auth import TokenVerifier, bearer
from shared.background import background
from shared.indexes import Indexes


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
    # Nothing runs by a catalogue that isn't the active one.
    indexes = Indexes(
        core.store.create_indexes,
        sessions.create_indexes,
        core.reevaluation.create_indexes,
        core.settings_watch.create_indexes,
        core.tallies.create_indexes,
        core.reevaluation.start,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(core.open())
            await stack.enter_async_context(issuer)
            await stack.enter_async_context(
                background(
                    relay=indexes.before(core.relay.run),
                    monitor=indexes.before(core.monitor.run),
                    catalog=indexes.before(core.reevaluation.run),
                    settings=indexes.before(core.settings_watch.run),
                    credentials=indexes.before(core.credential_watch.run),
                    attempts=indexes.before(core.sweeper.run),
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
    app.state.core = core
    app.add_exception_handler(Refused, api.on_refused)
    caller = bearer(TokenVerifier.from_settings(settings.auth, issuer))
    app.include_router(api_planned.router(caller, catalog=core.catalog, asked=core.store.asked))
    app.include_router(api_checks.router(caller, grants=core.store.grants, clock=utc_now))
    app.include_router(api_credentials.router(caller, endings=core.credential_watch.ending_soon, clock=utc_now))
    app.include_router(api_failures.router(caller, core.flow.failures, clock=utc_now))
    app.include_router(api_functions.router(caller, catalog=core.catalog, tenants=core.store.grants))
    app.include_router(api_invitations.router(caller, core.flow.invitations, core.flow.confirmations))
    app.include_router(api_transfers.router(caller, core.flow.transfers))
    app.include_router(
        api.router(
            caller,
            catalog=core.catalog,
            consent=core.consent,
            operations=core.operations,
            grants=core.store.grants,
            committed=core.relay.poke,
            clock=utc_now,
            cloud=settings.entra.cloud,
        )
    )
    gate = _add_console(app, settings, core, sessions, issuer)
    checks = {
        "mongo": lambda: mongo.ping(core.database),
        "indexes": indexes.check,
        "catalog": core.versions.check,
        "relay": core.relay.check,
    }
    web.install(app, checks=checks)
    gate.answer_unknown(app)
    if settings.public_url.startswith("https:"):
        app.add_middleware(StrictTransport)
    return app


def _add_console(app: FastAPI, settings: Settings, core: Core, sessions: Sessions, issuer: httpx.AsyncClient) -> Gate:
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
    app.include_router(signin.router(gate, provider, pages, public_url=settings.public_url, people=core.store.people))
    app.include_router(
        console.router(
            gate=gate,
            pages=pages,
            catalog=catalog,
            consent=consent,
            tenants_of=tenants_of,
            changes=core.changes,
            failures=core.flow.failures,
            endings=core.credential_watch.ending_soon,
        )
    )
    app.include_router(
        callbacks.router(
            gate=gate,
            pages=pages,
            catalog=catalog,
            consent=consent,
            tenants_of=tenants_of,
            transfers=core.flow.transfers,
        )
    )
    app.include_router(
        console_invitations.router(
            gate=gate,
            pages=pages,
            catalog=catalog,
            invitations=core.flow.invitations,
            confirmations=core.flow.confirmations,
        )
    )
    app.include_router(invite_pages.router(gate=gate, pages=pages, catalog=catalog, invitations=core.flow.invitations))
    app.include_router(console_transfers.router(gate=gate, pages=pages, transfers=core.flow.transfers))
    app.include_router(
        console_grants.router(
            gate=gate,
            pages=pages,
            catalog=catalog,
            grants=core.store.grants,
            operations=core.operations,
            committed=core.relay.poke,
            clock=utc_now,
        )
    )
    app.include_router(
        console_tenants.router(
            gate=gate,
            pages=pages,
            catalog=catalog,
            grants=core.store.grants,
            failures=core.flow.failures,
            operations=core.operations,
            committed=core.relay.poke,
            clock=utc_now,
        )
    )
    registry = Registry(settings.registry_url, issuer)
    reader = FleetReader(registry)
    app.include_router(console_fleet.router(gate=gate, pages=pages, catalog=catalog, reader=reader))
    app.include_router(console_planned.router(gate=gate, pages=pages, catalog=catalog, asked=core.store.asked))
    app.include_router(
        console_many.router(
            gate=gate,
            pages=pages,
            catalog=catalog,
            reader=reader,
            grants=core.store.grants,
            invitations=core.flow.invitations,
            clock=utc_now,
        )
    )
    app.include_router(
        console_history.router(
            gate=gate,
            pages=pages,
            catalog=catalog,
            entries=HistoryReader(registry),
            reader=reader,
            people=core.store.people,
            origins=core.store.origins,
        )
    )
    return gate
