"""A notifier on a real broker and database, with subscriptions to real endpoints."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI

from notifier.app import create_app
from notifier.delivery_store import DeliveryStore
from notifier.engine import Engine
from notifier.settings import Settings
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Subscription
from shared import mongo
from shared.background import background
from shared.events import Event
from shared.kafka import Record
from shared.settings import KafkaSettings
from shared.topics import PERMISSION_STATUS, Topic, dead_letter_topic
from support.crashing import Doomed, doomed
from support.eventually import eventually
from support.notifying import SECRETS_KEY, new_subscription
from support.status_events import publish
from support.tokens import AUDIENCE, Issuer, issuing
from support.topics import Topics
from support.webhooks import Answer, Receiver, receiver

if TYPE_CHECKING:
    from shared.mongo import Database

DAY = 24 * 3600.0

StartApp = Callable[..., AbstractAsyncContextManager[FastAPI]]
Subscribe = Callable[..., Awaitable[Subscription]]
RunEngine = Callable[..., AbstractAsyncContextManager[Engine]]
Serve = Callable[..., AbstractAsyncContextManager["Served"]]
MakeReceiver = Callable[..., Awaitable[Receiver]]
Doom = Callable[..., AbstractAsyncContextManager[Doomed]]


@pytest.fixture(params=["motor"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Whose tokens the notifier accepts."""
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
def settings(mongo_url: str, mongo_database: str, kafka_bootstrap: str, driver: str, issuer: Issuer) -> Settings:
    values: dict[str, Any] = {
        "public_url": "http://localhost:8082",
        "http": {"port": 0},
        "kafka": {"bootstrap_servers": kafka_bootstrap},
        "mongo": {"url": mongo_url, "database": mongo_database, "driver": driver},
        "auth": {
            "issuer": issuer.url,
            "audience": AUDIENCE,
            "jwks_url": f"{issuer.url}/jwks",
        },
        "delivery": {
            "secrets_key": SECRETS_KEY,
            "allow_private_networks": True,
            "retry_schedule": (0.05, 0.1, 0.2),
            "connect_timeout_seconds": 2,
            "response_timeout_seconds": 1,
            "total_timeout_seconds": 2,
            "lease_seconds": 8,
            "breaker_failures": 1000,
        },
    }
    return Settings.model_validate(values)


@pytest_asyncio.fixture
async def status_topic(topics: Topics, kafka_group: str) -> Topic:
    topic = replace(PERMISSION_STATUS, name=await topics.create("status", partitions=4), partitions=4)
    await topics.create(name=dead_letter_topic(topic, kafka_group).name, partitions=1)
    return topic


@pytest_asyncio.fixture
async def database(settings: Settings) -> AsyncIterator["Database"]:
    database = mongo.connect(settings.mongo)
    yield database
    await mongo.close(database)


@pytest.fixture
def deliveries(database: "Database") -> DeliveryStore:
    return DeliveryStore(database, retention_seconds=30 * DAY)


@pytest.fixture
def subscriptions(database: "Database") -> SubscriptionStore:
    return SubscriptionStore(database)


@pytest.fixture
def subscribe(subscriptions: SubscriptionStore) -> Subscribe:
    """Stores subscriptions; the arguments are a URL and ``app_id`` or ``account_id``."""
    return partial(subscribed, subscriptions)


async def subscribed(subscriptions: SubscriptionStore, url: str, **fields: Any) -> Subscription:
    made = new_subscription(url, **fields)
    await subscriptions.add(made)
    return made


@pytest.fixture
def start(settings: Settings, status_topic: Topic, kafka_group: str) -> StartApp:
    """Runs a notifier for as long as the context lasts, without its HTTP server."""

    @asynccontextmanager
    async def running(with_settings: Settings | None = None, *, group: str = kafka_group) -> AsyncIterator[FastAPI]:
        app = create_app(with_settings or settings, topic=status_topic, group=group)
        async with app.router.lifespan_context(app):
            yield app

    return running


@pytest.fixture
def run_engine(database: "Database", settings: Settings) -> RunEngine:
    """Runs the delivery engine alone for as long as the context lasts: what is given to its intake is sent."""

    @asynccontextmanager
    async def running(*, timeout_ms: int = settings.mongo.timeout_ms, **changes: Any) -> AsyncIterator[Engine]:
        changed = settings.model_copy(
            update={
                "delivery": settings.delivery.model_copy(update=changes),
                "mongo": settings.mongo.model_copy(update={"timeout_ms": timeout_ms}),
            }
        )
        engine = Engine(database, changed)
        await engine.create_indexes()
        async with (
            engine.sending(),
            background(**{name: run() for name, run in engine.loops().items()}),
        ):
            yield engine

    return running


@pytest_asyncio.fixture
async def make_receiver() -> AsyncIterator[MakeReceiver]:
    """Starts endpoints; the argument is how they answer."""
    async with AsyncExitStack() as stack:

        async def make(answer: Answer | None = None) -> Receiver:
            return await stack.enter_async_context(receiver(answer))

        yield make


@dataclass(frozen=True, kw_only=True)
class Served:
    """A notifier that answers on a port."""

    url: str
    app: FastAPI
    server: uvicorn.Server


@pytest.fixture
def serve(settings: Settings, status_topic: Topic, kafka_group: str) -> Serve:
    """Runs a notifier with its HTTP server for as long as the context lasts."""

    @asynccontextmanager
    async def serving(*, port: int = 0, **changes: Any) -> AsyncIterator[Served]:
        app = create_app(settings.model_copy(update=changes), topic=status_topic, group=kafka_group)
        config = uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        try:

            async def started() -> bool:
                return server.started

            await eventually(started, what="a listening server")
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            async with httpx.AsyncClient() as client:

                async def ready() -> int:
                    return (await client.get(f"{url}/readyz")).status_code

                await eventually(ready, lambda status: status == 200, within=40, what="readiness")
            yield Served(url=url, app=app, server=server)
        finally:
            app.state.on_exit()
            server.should_exit = True
            await task

    return serving


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A topic, endpoints and a notifier between them."""

    kafka: KafkaSettings
    topic: Topic
    start: StartApp
    make_receiver: MakeReceiver
    subscribe: Subscribe
    subscriptions: SubscriptionStore
    deliveries: DeliveryStore

    async def publish(self, *events: Event | Record) -> None:
        """Write events, or records as they are, to the status topic."""
        await publish(self.kafka, self.topic, *events)


@pytest.fixture
def stage(
    settings: Settings, status_topic: Topic, start: StartApp, make_receiver: MakeReceiver, database: "Database"
) -> Stage:
    subscriptions = SubscriptionStore(database)
    return Stage(
        kafka=settings.kafka,
        topic=status_topic,
        start=start,
        make_receiver=make_receiver,
        subscribe=partial(subscribed, subscriptions),
        subscriptions=subscriptions,
        deliveries=DeliveryStore(database, retention_seconds=30 * DAY),
    )


@pytest.fixture
def doom(settings: Settings, status_topic: Topic, kafka_group: str) -> Doom:
    """Runs a notifier in a process of its own that dies in the window that is named."""
    return partial(doomed, settings=settings, topic=status_topic, group=kafka_group)
