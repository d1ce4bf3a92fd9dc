"""The database goes away in the middle of everything: killed and restarted, or its primary killed for good."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from notifier.app import create_app
from notifier.delivery_store import DeliveryStore
from notifier.settings import Settings
from notifier.subscription_store import SubscriptionStore
from shared import mongo
from shared.events import Event
from shared.topics import Topic
from support import backends
from support.eventually import eventually
from support.notifying import new_subscription
from support.replica_set import replica_set
from support.status_events import publish, status_event
from support.webhooks import Answer, Received, Receiver, answering

EVENTS, BATCH = 120, 10


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A database, and what happens to it."""

    url: str
    fail: Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def outage(folder: Path) -> AsyncIterator[Failing]:
    async with backends.embedded_mongo(folder) as server:

        async def fail() -> None:
            await server.kill()
            await server.start()

        yield Failing(url=server.url, fail=fail)


@asynccontextmanager
async def failover(folder: Path) -> AsyncIterator[Failing]:
    async with replica_set(folder) as nodes:
        yield Failing(url=nodes.url, fail=nodes.kill_primary)


def news() -> list[Event]:
    return [status_event(tenant_id=f"8f4c1a52-6d0e-4f2b-9a31-{number:012d}") for number in range(EVENTS)]


def every_third_fails() -> Answer:
    """So that retries are on record, and due, when the database goes."""
    count = 0

    async def answer(received: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await answering(500 if count % 3 == 0 else 204)(received, writer)

    return answer


@pytest.mark.parametrize("kind", [outage, failover])
async def test_a_database_that_goes_away_in_the_middle_delays_and_loses_nothing(
    kind: Any, tmp_path: Path, settings: Settings, stage: Any, kafka_group: str
) -> None:
    endpoints = [await stage.make_receiver(every_third_fails()), await stage.make_receiver()]
    async with kind(tmp_path) as database:
        settings = settings.model_copy(
            update={
                "mongo": settings.mongo.model_copy(update={"url": SecretStr(database.url), "timeout_ms": 3000}),
                "delivery": settings.delivery.model_copy(update={"retry_schedule": (0.1,) * 50}),
            }
        )
        store = mongo.connect(settings.mongo)
        subscriptions = [new_subscription(endpoint.url, app_id="search") for endpoint in endpoints]
        for subscription in subscriptions:
            await SubscriptionStore(store).add(subscription)
        app = create_app(settings, topic=stage.topic, group=kafka_group)
        events = news()
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://n") as client,
        ):
            await told_while_it_fails(settings, stage.topic, events, database, endpoints[1])
            for endpoint in endpoints:
                everything = {event.id for event in events}
                await eventually(partial(ids, endpoint), everything.__eq__, within=90, what="all events")
            for subscription in subscriptions:
                await eventually(
                    partial(statuses, DeliveryStore(store, retention_seconds=3600), subscription.id),
                    lambda found: found == ["delivered"] * EVENTS,
                    within=60,
                    what="a record of each",
                )
            await eventually(partial(readiness, client), lambda status: status == 200, within=60, what="readiness")
        await mongo.close(store)
    for endpoint in endpoints:
        # Whatever was sent twice was sent alike.
        assert len({(item.id, item.body) for item in endpoint.received}) == EVENTS


async def told_while_it_fails(
    settings: Settings, topic: Topic, events: list[Event], database: Failing, endpoint: Receiver
) -> None:
    """A third of the events before, a third meanwhile, a third after."""
    third = len(events) // 3
    await publish(settings.kafka, topic, *events[:third])
    # In the middle: some have arrived, the others are on their way.
    await eventually(partial(ids, endpoint), within=60, what="the first arrivals")
    failing = asyncio.create_task(database.fail())
    for start in range(third, 2 * third, BATCH):
        await publish(settings.kafka, topic, *events[start : start + BATCH])
    await failing
    await publish(settings.kafka, topic, *events[2 * third :])


async def ids(endpoint: Receiver) -> set[str]:
    return set(endpoint.ids())


async def statuses(deliveries: DeliveryStore, subscription_id: str) -> list[str]:
    found = await deliveries.list_of(subscription_id, status=None, after=None, limit=2 * EVENTS)
    return [each.status for each in found]


async def readiness(client: httpx.AsyncClient) -> int:
    return (await client.get("/readyz")).status_code
