"""Killed at any moment, the notifier has lost nothing: its successor tells everybody, under the same ids."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from notifier.delivery_store import DeliveryStore
from notifier.subscriptions import Subscription
from shared.events import Event
from support.eventually import eventually
from support.notifier_that_crashes import LATER_WINDOWS, WINDOWS
from support.status_events import status_event
from support.tokens import Issuer
from support.webhooks import answering, in_turn

EVENTS = 20


async def killed(doom: Any, window: str, stage: Any, events: list[Event]) -> None:
    """A notifier is told of the events, and dies in the window."""
    async with doom(window) as notifier:
        await stage.publish(*events)
        await notifier.died()


def news() -> list[Event]:
    return [status_event(tenant_id=f"8f4c1a52-6d0e-4f2b-9a31-{number:012d}") for number in range(EVENTS)]


@pytest.mark.parametrize("window", [*WINDOWS, "while rows are claimed"])
async def test_every_event_reaches_every_subscriber(window: str, stage: Any, doom: Any, kafka_group: str) -> None:
    # Rows are claimed, and results recorded apart from them, where a first attempt has failed.
    failing = window in LATER_WINDOWS or window == "after it is recorded"
    answer = in_turn(answering(500), answering(204)) if failing else None
    endpoints = [await stage.make_receiver(answer) for _ in range(3)]
    subscriptions = [await stage.subscribe(endpoint.url, app_id="search") for endpoint in endpoints]
    events = news()
    await killed(doom, window, stage, events)

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
                partial(states_of, stage.deliveries, subscription.id),
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


@pytest.fixture
def finished_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead process has left half done is looked for more often."""
    monkeypatch.setattr("notifier.endpoints.UNTOLD_SECONDS", 0.5)


@pytest.mark.usefixtures("finished_soon")
@pytest.mark.parametrize(
    "window",
    [
        "after it is disabled, before its owner is told",
        "after its owner is told, before what is pending ends",
        "after what is pending has ended, before that is noted",
    ],
)
async def test_an_owner_is_told_of_what_was_disabled_by_a_process_that_died_over_it(
    window: str, stage: Any, doom: Any, kafka_group: str, issuer: Issuer
) -> None:
    gone, other = await stage.make_receiver(answering(410)), await stage.make_receiver()
    disabled = await stage.subscribe(gone.url, app_id="search")
    await stage.subscribe(other.url, app_id="search")
    events = news()
    await killed(doom, window, stage, events)
    asked = len(gone.received)
    async with stage.start(group=f"{kafka_group}-successor") as app:
        # Everything the other endpoint would have got anyway, and the news of the first.
        await eventually(partial(ids_at, other), lambda ids: len(ids) == EVENTS + 1, within=60)
        later = datetime.now(UTC) + timedelta(minutes=5)
        await eventually(
            lambda: stage.subscriptions.untold(before=later), lambda left: left == [], what="that it is noted"
        )
        # What had a row by then has ended. What had been sent before its row was durable has none, like what comes
        # while it is off; and nothing is sent there any more.
        reasons = partial(reasons_of, stage.deliveries, disabled.id)
        await eventually(reasons, lambda found: found <= {"endpoint_gone", "subscription_disabled"}, within=60)
        assert len(gone.received) == asked
        # Either way nothing is lost: all of it can be recovered.
        gone.answer = answering(204)
        gone.received.clear()
        await recovered(app, disabled, issuer)
        await eventually(partial(ids_at, gone), lambda ids: {event.id for event in events} <= ids, within=60)
        await eventually(
            partial(states_of, stage.deliveries, disabled.id),
            lambda states: states == ["delivered"] * EVENTS,
            within=60,
        )
    # Told once, or again under the same id.
    assert len({item.id for item in other.received if item.json["type"] == "endpoint.disabled"}) == 1


async def reasons_of(deliveries: DeliveryStore, subscription_id: str) -> set[str | None]:
    """Why its deliveries are dead; None stands for those that are not."""
    return {
        each.reason for each in await deliveries.list_of(subscription_id, status=None, after=None, limit=2 * EVENTS)
    }


async def recovered(app: FastAPI, subscription: Subscription, issuer: Issuer) -> None:
    """Its owner asks for what it has missed."""
    path = f"/v1/subscriptions/{subscription.id}/recover"
    since = {"since": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    headers = issuer.headers("app", app_id="search")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://n") as client:
        answer = await client.post(path, headers=headers, json=since)
    assert answer.status_code == 202, answer.text
