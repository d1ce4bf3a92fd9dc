"""A notifier on a real broker and database, with subscriptions to real endpoints."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import SecretStr

from notifier.app import create_app
from notifier.delivery_store import DeliveryStore
from notifier.secrets import SecretBox
from notifier.settings import Settings, key_bytes
from notifier.signing import new_secret
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner, StoredSecret, Subscription
from shared import mongo
from shared.settings import KafkaSettings
from shared.topics import PERMISSION_STATUS, Topic, dead_letter_topic
from support.topics import Topics
from support.webhooks import Answer, Receiver, receiver

if TYPE_CHECKING:
    from shared.mongo import Database

SECRETS_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
DAY = 24 * 3600.0

StartApp = Callable[..., AbstractAsyncContextManager[FastAPI]]
Subscribe = Callable[..., Awaitable[Subscription]]
MakeReceiver = Callable[..., Awaitable[Receiver]]


@pytest.fixture(params=["motor"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(mongo_url: str, mongo_database: str, kafka_bootstrap: str, driver: str) -> Settings:
    values: dict[str, Any] = {
        "public_url": "http://localhost:8082",
        "http": {"port": 0},
        "kafka": {"bootstrap_servers": kafka_bootstrap},
        "mongo": {"url": mongo_url, "database": mongo_database, "driver": driver},
        "auth": {
            "issuer": "http://issuer.test",
            "audience": "consent-platform",
            "jwks_url": "http://issuer.test/jwks",
        },
        "delivery": {
            "secrets_key": SECRETS_KEY,
            "allow_private_networks": True,
            "retry_schedule": (0.05, 0.1, 0.2),
            "connect_timeout_seconds": 2,
            "response_timeout_seconds": 1,
            "total_timeout_seconds": 2,
            "lease_seconds": 8,
        },
    }
    return Settings.model_validate(values)


@pytest.fixture
def kafka_settings(settings: Settings) -> KafkaSettings:
    return settings.kafka


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
    """Stores a subscription: ``await subscribe(url, app_id="search")``; its secret is ``secret_of(subscription)``."""
    box = SecretBox([key_bytes(SecretStr(SECRETS_KEY))])

    async def make(
        url: str, *, app_id: str | None = None, account_id: str | None = None, **fields: Any
    ) -> Subscription:
        now, subscription_id = datetime.now(UTC), str(uuid4())
        made = Subscription(
            id=subscription_id,
            owner=Owner(app_id=app_id, account_id=account_id),
            url=url,
            secrets=(StoredSecret(sealed=box.seal(new_secret(), subscription_id=subscription_id), created_at=now),),
            created_at=now,
            updated_at=now,
            **fields,
        )
        await subscriptions.add(made)
        return made

    return make


@pytest.fixture
def secret_of() -> Callable[[Subscription], str]:
    """The signing secret of a subscription."""
    box = SecretBox([key_bytes(SecretStr(SECRETS_KEY))])
    return lambda subscription: box.open(subscription.secrets[0].sealed, subscription_id=subscription.id)


@pytest.fixture
def start(settings: Settings, status_topic: Topic, kafka_group: str) -> StartApp:
    """Runs a notifier for as long as the context lasts, without its HTTP server."""

    @asynccontextmanager
    async def running(with_settings: Settings | None = None) -> AsyncIterator[FastAPI]:
        app = create_app(with_settings or settings, topic=status_topic, group=kafka_group)
        async with app.router.lifespan_context(app):
            yield app

    return running


@pytest_asyncio.fixture
async def make_receiver() -> AsyncIterator[MakeReceiver]:
    """Starts an endpoint: ``await make_receiver(answering(500))``."""
    async with AsyncExitStack() as stack:

        async def make(answer: Answer | None = None) -> Receiver:
            return await stack.enter_async_context(receiver(answer))

        yield make
