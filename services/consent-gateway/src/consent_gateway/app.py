"""The composition root: what the service is made of, in the order in which it starts and, reversed, stops."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib import metadata

import httpx
import structlog
from fastapi import FastAPI
from pymongo.errors import PyMongoError

from consent_gateway import api, callbacks, console, signin
from consent_gateway.catalog import Catalog
from consent_gateway.catalog_file import load_catalog
from consent_gateway.changes import Changes
from consent_gateway.checks import Rules as CheckRules
from consent_gateway.consent import Consent
from consent_gateway.entra import Entra
from consent_gateway.errors import Refused
from consent_gateway.guard import Gate
from consent_gateway.ledger import Ledger
from consent_gateway.monitor import Monitor
from consent_gateway.neighbours import Neighbours
from consent_gateway.oidc import Provider
from consent_gateway.operations import Operations
from consent_gateway.pages import Pages
from consent_gateway.registrations import Registrations
from consent_gateway.security import FormTargets
from consent_gateway.sessions import Sessions
from consent_gateway.settings import Settings
from consent_gateway.starts import Rules, Starts
from consent_gateway.store import Store
from consent_gateway.verification import Verification
from shared import mongo, web
from shared.auth import TokenVerifier, bearer
from shared.background import background
from shared.backoff import Backoff
from shared.kafka import Publisher
from shared.outbox import Relay

log = structlog.get_logger(__name__)

NAME = "consent-gateway"


def create_app(settings: Settings) -> FastAPI:
    """The service. Nothing is connected before the lifespan starts, and HTTP answers before MongoDB or Kafka do.

    Raises:
        CatalogError, CredentialError: the catalogue or a credential can't be used; the message is one readable line.
    """
    catalog = load_catalog(settings.catalog.path, settings.catalog.client_ids)
    database = mongo.connect(settings.mongo)
    owner = f"{NAME}-{secrets.token_hex(4)}"
    publisher = Publisher(settings.kafka, client_id=NAME)
    relay = Relay(database, publisher, owner=owner)
    entra = Entra.of(settings.entra, catalog)
    issuer = httpx.AsyncClient(timeout=5.0)
    ledger = Ledger(database, catalog, cloud=settings.entra.cloud, exclusive=settings.tenant_sharing == "exclusive")
    store = Store(database, catalog, ledger)
    changes = Changes(database)
    verification = Verification(
        catalog,
        CheckRules(
            interval_seconds=settings.drift.interval_seconds,
            negatives=settings.drift.negatives,
            negatives_span_seconds=settings.drift.negatives_span_seconds,
        ),
        prober=entra.probe,
        registrations=Registrations(entra.probe, monotonic=time.monotonic),
        grants=store.grants,
        changes=store,
        committed=relay.poke,
        clock=utc_now,
    )
    consent = _consent(settings, catalog, store=store, entra=entra, verification=verification, committed=relay.poke)
    monitor = Monitor(store.grants, verification, owner=owner, concurrency=settings.entra.concurrency, clock=utc_now)
    sessions = Sessions(database, secret=settings.console.session_secret.get_secret_value())
    indexes = Indexes(store.create_indexes, sessions.create_indexes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(mongo.close, database)
            stack.push_async_callback(publisher.close)
            await stack.enter_async_context(issuer)
            await stack.enter_async_context(entra.open())
            await stack.enter_async_context(
                background(
                    relay=indexes.before(relay.run),
                    monitor=indexes.before(monitor.run),
                    changes=changes.run(),
                )
            )
            stack.callback(changes.close)
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
    verifier = TokenVerifier.from_settings(settings.auth, issuer)
    operations = Operations(ledger, catalog)
    app.add_exception_handler(Refused, api.on_refused)
    app.include_router(
        api.router(
            bearer(verifier),
            catalog=catalog,
            consent=consent,
            operations=operations,
            grants=store.grants,
            committed=relay.poke,
            clock=utc_now,
        )
    )
    _add_console(
        app,
        settings,
        catalog=catalog,
        sessions=sessions,
        consent=consent,
        store=store,
        changes=changes,
        entra=entra,
        issuer=issuer,
    )
    web.install(app, checks={"mongo": lambda: mongo.ping(database), "indexes": indexes.check, "relay": relay.check})
    return app


def _consent(
    settings: Settings,
    catalog: Catalog,
    *,
    store: Store,
    entra: Entra,
    verification: Verification,
    committed: Callable[[], None],
) -> Consent:
    rules = Rules(
        public_url=settings.public_url,
        attempt_seconds=settings.consent.attempt_seconds,
        wait_seconds=settings.consent.wait_seconds,
        verify_deadline_seconds=settings.consent.verify_deadline_seconds,
    )
    neighbours = Neighbours(
        attempts=store.attempts,
        records=store,
        entra=entra.tokens,
        grants=store.grants,
        verification=verification,
        committed=committed,
        clock=utc_now,
    )
    starts = Starts(catalog, rules, attempts=store.attempts, entra=entra.tokens, clock=utc_now)
    return Consent(catalog, rules, starts, neighbours)


def _add_console(
    app: FastAPI,
    settings: Settings,
    *,
    catalog: Catalog,
    sessions: Sessions,
    consent: Consent,
    store: Store,
    changes: Changes,
    entra: Entra,
    issuer: httpx.AsyncClient,
) -> None:
    provider = Provider(
        settings.console,
        redirect_uri=f"{settings.public_url}/auth/callback",
        client=issuer,
        metadata_url=settings.console.metadata_url,
    )
    pages = Pages(form_targets=FormTargets(entra.tokens.authorization_origin))
    gate = Gate(sessions, provider, pages, public_url=settings.public_url)
    tenants_of = store.grants.grants_of
    app.include_router(signin.router(gate, provider, pages, public_url=settings.public_url))
    app.include_router(
        console.router(gate=gate, pages=pages, catalog=catalog, consent=consent, tenants_of=tenants_of, changes=changes)
    )
    app.include_router(
        callbacks.router(gate=gate, pages=pages, catalog=catalog, consent=consent, tenants_of=tenants_of)
    )


def utc_now() -> datetime:
    """The clock of the service."""
    return datetime.now(UTC)


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
