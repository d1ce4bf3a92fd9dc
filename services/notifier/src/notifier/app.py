"""The composition root: what the service is made of, in the order in which it starts and, reversed, stops."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib import metadata

import httpx
from fastapi import APIRouter, FastAPI

from notifier import delivery_routes, expunge_routes, portal_routes, routes, stream
from notifier.engine import Engine
from notifier.hub import Hub
from notifier.portal import Portal
from notifier.resending import Resending
from notifier.settings import Settings
from notifier.subscribing import Subscribing
from shared import mongo, web
from shared.auth import TokenVerifier, bearer
from shared.background import background
from shared.consumer import BatchConsumer
from shared.indexes import Indexes
from shared.kafka import Publisher
from shared.topics import PERMISSION_STATUS, Topic

GROUP = "notifier"
# One consumer has many batches under way, each so small that its answers come before it is written.
IN_FLIGHT = 4
BATCH = 250


def create_app(settings: Settings, *, topic: Topic = PERMISSION_STATUS, group: str = GROUP) -> FastAPI:
    """The service. Nothing is connected before the lifespan starts, and HTTP answers before Kafka or MongoDB do."""
    database = mongo.connect(settings.mongo)
    engine = Engine(database, settings, topic=topic)
    publisher = Publisher(settings.kafka, client_id=GROUP)
    consumer = BatchConsumer(
        settings.kafka,
        topic=topic,
        group=group,
        handle=engine.intake.on_status_events,
        publisher=publisher,
        starting_positions=engine.events.load_positions,
        keep_positions=engine.progress.keep,
        loops=1,
        in_flight=IN_FLIGHT,
        max_records=BATCH,
    )
    hub = Hub(database, engine.events, queue=settings.stream.queue)
    issuer = httpx.AsyncClient(timeout=5.0)
    indexes = Indexes(engine.create_indexes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(issuer)
            stack.push_async_callback(mongo.close, database)
            stack.push_async_callback(publisher.close)
            await stack.enter_async_context(engine.sending())
            await stack.enter_async_context(
                background(
                    status_events=indexes.before(consumer.run),
                    changes=indexes.before(hub.run),
                    **{name: indexes.before(run) for name, run in engine.loops().items()},
                )
            )
            yield

    app = FastAPI(
        title="notifier",
        version=metadata.version("consent-notifier"),
        summary="Tells the suite's apps and customers of permission changes: signed webhooks and server-sent events.",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
    )
    app.state.on_exit = hub.close
    caller = bearer(TokenVerifier.from_settings(settings.auth, issuer))
    for router in _routers(settings, engine, caller):
        app.include_router(router)
    kept = timedelta(seconds=settings.retention.events_seconds)
    app.include_router(stream.router(hub, engine.events, caller, retention=kept, settings=settings.stream))
    checks = {
        "mongo": lambda: mongo.ping(database),
        "indexes": indexes.check,
        "status_events": consumer.check,
        "deliveries": engine.check,
        "stream": hub.check,
    }
    web.install(app, checks=checks)
    return app


def _routers(settings: Settings, engine: Engine, caller: routes.Caller) -> tuple[APIRouter, ...]:
    subscribing = Subscribing(
        subscriptions=engine.subscriptions,
        deliveries=engine.deliveries,
        intake=engine.intake,
        box=engine.box,
        clock=engine.clock,
        check_url=engine.sender.check,
        changed=engine.dispatcher.follow,
        secret_overlap=timedelta(seconds=settings.delivery.secret_overlap_seconds),
    )
    resending = Resending(
        events=engine.events,
        subscriptions=engine.subscriptions,
        deliveries=engine.deliveries,
        clock=engine.clock,
        made_due=engine.claimer.poke,
    )
    pages = Portal(
        sessions=engine.portal_sessions,
        subscriptions=engine.subscriptions,
        deliveries=engine.deliveries,
        resending=resending,
        public_url=settings.public_url,
    )
    return (
        routes.router(
            subscribing,
            engine.subscriptions.list_of,
            engine.recoveries,
            caller,
            clock=engine.clock,
            events_kept=timedelta(seconds=settings.retention.events_seconds),
        ),
        delivery_routes.router(
            subscriptions=engine.subscriptions, deliveries=engine.deliveries, resending=resending, caller=caller
        ),
        expunge_routes.router(engine.expunging, subscriptions=engine.subscriptions, resending=resending, caller=caller),
        portal_routes.router(pages, caller),
    )
