"""Killed at any moment, the notifier has lost nothing: its successor tells everybody, under the same ids."""

import asyncio
import json
import os
import signal
import sys
from functools import partial
from typing import Any

import pytest

from notifier.delivery_store import DeliveryStore
from notifier.settings import Settings
from shared.events import Event
from support import notifier_that_crashes
from support.eventually import eventually
from support.notifier_that_crashes import LATER_WINDOWS, WINDOWS
from support.status_events import status_event
from support.webhooks import answering, in_turn

EVENTS = 20


def environment(settings: Settings) -> dict[str, str]:
    delivery = settings.delivery
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PUBLIC_URL": settings.public_url,
        "HTTP__PORT": "0",
        "KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "MONGO__URL": settings.mongo.url.get_secret_value(),
        "MONGO__DATABASE": settings.mongo.database,
        "AUTH__ISSUER": settings.auth.issuer,
        "AUTH__AUDIENCE": settings.auth.audience,
        "AUTH__JWKS_URL": settings.auth.jwks_url,
        "DELIVERY__SECRETS_KEY": delivery.secrets_key.get_secret_value(),
        "DELIVERY__ALLOW_PRIVATE_NETWORKS": "true",
        "DELIVERY__RETRY_SCHEDULE": json.dumps(delivery.retry_schedule),
        "DELIVERY__TOTAL_TIMEOUT_SECONDS": str(delivery.total_timeout_seconds),
        "DELIVERY__LEASE_SECONDS": str(delivery.lease_seconds),
    }


async def killed(window: str, stage: Any, kafka_group: str, settings: Settings, events: list[Event]) -> None:
    """A notifier is told of the events, and dies in the window."""
    command = [sys.executable, "-m", notifier_that_crashes.__name__, window]
    command += [stage.topic.name, str(stage.topic.partitions), kafka_group]
    process = await asyncio.create_subprocess_exec(*command, env=environment(settings))
    try:
        await stage.publish(*events)
        async with asyncio.timeout(60):
            assert await process.wait() == -signal.SIGKILL
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def news() -> list[Event]:
    return [status_event(tenant_id=f"8f4c1a52-6d0e-4f2b-9a31-{number:012d}") for number in range(EVENTS)]


@pytest.mark.parametrize("window", [*WINDOWS, "while rows are claimed"])
async def test_every_event_reaches_every_subscriber(
    window: str, stage: Any, kafka_group: str, settings: Settings, deliveries: DeliveryStore
) -> None:
    # Rows are claimed where a first attempt has failed.
    answer = in_turn(answering(500), answering(204)) if window in LATER_WINDOWS else None
    endpoints = [await stage.make_receiver(answer) for _ in range(3)]
    subscriptions = [await stage.subscribe(endpoint.url, app_id="search") for endpoint in endpoints]
    events = news()
    await killed(window, stage, kafka_group, settings, events)

    # The broker waits ten seconds for the dead member of a group. Positions are the service's own, so that a member of
    # another group goes on from the same records at once. One window shows the same group.
    same_group = window == "after the rows, before the position"
    async with stage.start(group=kafka_group if same_group else f"{kafka_group}-successor"):
        for endpoint in endpoints:
            await eventually(
                partial(ids_at, endpoint),
                lambda ids: ids == {event.id for event in events},
                within=60,
                what=f"all events at each endpoint, after a crash {window}",
            )
        for subscription in subscriptions:
            await eventually(
                partial(states_of, deliveries, subscription.id),
                lambda states: states == ["delivered"] * EVENTS,
                within=60,
                what="a record of each",
            )
    for endpoint in endpoints:
        # Whatever was sent twice was sent alike.
        assert len({(received.id, received.body) for received in endpoint.received}) == EVENTS


async def ids_at(endpoint: Any) -> set[str]:
    return set(endpoint.ids())


async def states_of(deliveries: DeliveryStore, subscription_id: str) -> list[str]:
    found = await deliveries.list_of(subscription_id, status=None, after=None, limit=2 * EVENTS)
    return [each.status for each in found]


async def test_an_owner_is_told_of_what_was_disabled_by_a_process_that_died_over_it(
    stage: Any, kafka_group: str, settings: Settings, deliveries: DeliveryStore
) -> None:
    gone, other = await stage.make_receiver(answering(410)), await stage.make_receiver()
    disabled = await stage.subscribe(gone.url, app_id="search")
    await stage.subscribe(other.url, app_id="search")
    events = news()
    await killed("after it is disabled, before its owner is told", stage, kafka_group, settings, events)
    async with stage.start(group=f"{kafka_group}-successor"):
        # Everything the other endpoint would have got anyway, and the news of the first.
        await eventually(partial(ids_at, other), lambda ids: len(ids) == EVENTS + 1, within=60)
        await eventually(partial(states_of, deliveries, disabled.id), lambda states: set(states) == {"dead"}, within=60)
    assert [item.json["type"] for item in other.received].count("endpoint.disabled") == 1
