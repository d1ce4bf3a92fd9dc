"""The composition root: what the service is made of, in the order in which it starts and, reversed, stops."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from importlib import metadata

import httpx
from fastapi import FastAPI

from shared import mongo, web
from shared.auth import TokenVerifier, bearer
from shared.background import background
from shared.consumer import BatchConsumer
from shared.indexes import Indexes
from shared.kafka import Publisher
from shared.lease import Lease
from shared.topics import CONSENT_EVENTS, PERMISSION_STATUS, TENANTS, Topic
from tenant_registry import fleet_routes, routes
from tenant_registry.fleet import Fleet
from tenant_registry.queries import Queries
from tenant_registry.settings import Settings
from tenant_registry.state_publisher import StatePublisher
from tenant_registry.store import Store
from tenant_registry.subscribers import ConsentEvents

GROUP = "tenant-registry"


def create_app(
    settings: Settings,
    *,
    consent_events: Topic = CONSENT_EVENTS,
    permission_status: Topic = PERMISSION_STATUS,
    tenants: Topic = TENANTS,
) -> FastAPI:
    """The service. Nothing is connected before the lifespan starts, and HTTP answers before Kafka or MongoDB do."""
    database = mongo.connect(settings.mongo)
    store = Store(database)
    publisher = Publisher(settings.kafka, client_id=GROUP)
    states = StatePublisher(
        store,
        settings.kafka,
        lease=Lease(
            database["leases"],
            "state-publisher",
            owner=f"{GROUP}-{secrets.token_hex(4)}",
            seconds=settings.state.lease_seconds,
        ),
        lease_seconds=settings.state.lease_seconds,
        transactional_id=settings.state.transactional_id,
        topic=tenants,
    )
    consumer = BatchConsumer(
        settings.kafka,
        topic=consent_events,
        group=GROUP,
        handle=ConsentEvents(
            store,
            publisher,
            state_changed=states.poke,
            topic=permission_status,
            silent_before=settings.projection.silent_before,
        ),
        publisher=publisher,
        loops=settings.projection.loops,
        max_records=settings.projection.max_records,
    )
    issuer = httpx.AsyncClient(timeout=5.0)
    fleet = Fleet(database, clock=lambda: datetime.now(UTC))
    indexes = Indexes(store.create_indexes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(issuer)
            stack.push_async_callback(mongo.close, database)
            stack.push_async_callback(fleet.close)
            stack.push_async_callback(publisher.close)
            tasks = {"projection": indexes.before(consumer.run)}
            if settings.state.enabled:
                tasks["state"] = indexes.before(states.run)
            await stack.enter_async_context(background(**tasks))
            yield

    app = FastAPI(
        title="tenant-registry",
        version=metadata.version("tenant-registry"),
        summary="Entra tenants and their grants, grouped by tenant; what happened to them.",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
    )
    verifier = TokenVerifier.from_settings(settings.auth, issuer)
    caller, queries = bearer(verifier), Queries(database)
    app.include_router(routes.router(queries, caller))
    app.include_router(fleet_routes.router(queries, fleet, caller))
    checks = {
        "mongo": lambda: mongo.ping(database),
        "indexes": indexes.check,
        "consent_events": consumer.check,
        "tenant_states": states.check,
    }
    web.install(app, checks=checks)
    return app
