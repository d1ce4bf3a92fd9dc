"""Events that are sent while they are written: what is in the rows, and what is not sent before they say so."""

import asyncio
from functools import partial
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from notifier.delivery_store import DeliveryStore
from notifier.settings import Settings
from notifier.store import EventStore
from support.eventually import eventually
from support.status_events import status_event
from support.webhooks import Received, Receiver, answering


async def ids_at(endpoint: Receiver) -> list[str]:
    return endpoint.ids()


async def test_an_answer_that_comes_at_once_is_written_with_the_row(
    stage: Any, deliveries: DeliveryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unwanted(*_: Any, **__: Any) -> int:
        raise AssertionError("a statement of its own")

    monkeypatch.setattr(DeliveryStore, "record", unwanted)
    monkeypatch.setattr("notifier.writer.QUIET_SECONDS", 20.0)
    monkeypatch.setattr("notifier.writer.PATIENCE_SECONDS", 20.0)
    endpoint = await stage.make_receiver()
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    events = [status_event() for _ in range(5)]
    async with stage.start():
        await stage.publish(*events)
        found = await eventually(
            partial(deliveries.list_of, subscription.id, status="delivered", after=None, limit=10),
            lambda rows: len(rows) == len(events),
            within=40,
        )
    assert {row.event_id for row in found} == {event.id for event in events}
    for row in found:
        (attempt,) = row.attempts
        assert attempt.status_code == 204
        assert row.created_at <= attempt.at
        assert row.ended_at is not None
        assert row.next_at is None


async def test_what_takes_longer_is_on_record_while_it_lasts(
    stage: Any, deliveries: DeliveryStore, settings: Settings
) -> None:
    go_on = asyncio.Event()

    async def late(received: Received, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await answering(204)(received, writer)

    patient = {"response_timeout_seconds": 30.0, "total_timeout_seconds": 40.0, "lease_seconds": 60.0}
    slow, prompt = await stage.make_receiver(late), await stage.make_receiver()
    held = await stage.subscribe(slow.url, app_id="search")
    other = await stage.subscribe(prompt.url, app_id="search")
    changed = settings.model_copy(update={"delivery": settings.delivery.model_copy(update=patient)})
    first, second = status_event(), status_event()
    async with stage.start(changed):
        await stage.publish(first)
        (pending,) = await eventually(
            partial(deliveries.list_of, held.id, status="pending", after=None, limit=10), within=40
        )
        (delivered,) = await eventually(
            partial(deliveries.list_of, other.id, status="delivered", after=None, limit=10), within=40
        )
        assert pending.event_id == delivered.event_id == first.id
        # Nor is what comes behind it held up.
        await stage.publish(second)
        await eventually(partial(ids_at, prompt), lambda ids: ids == [first.id, second.id])
        go_on.set()
        await eventually(
            partial(deliveries.list_of, held.id, status="delivered", after=None, limit=10),
            lambda rows: len(rows) == 2,
            within=40,
        )
    assert sorted(slow.ids()) == sorted([first.id, second.id])


async def test_an_event_that_kafka_holds_twice_is_sent_once(stage: Any) -> None:
    """As after a crash of the producer's outbox relay; what was delivered or erased since stays that."""
    endpoint = await stage.make_receiver()
    await stage.subscribe(endpoint.url, app_id="search")
    event, marker = status_event(), status_event()
    async with stage.start():
        await stage.publish(event, event)
        await eventually(partial(ids_at, endpoint), lambda ids: event.id in ids, within=40)
        await stage.publish(event, marker)
        await eventually(partial(ids_at, endpoint), lambda ids: marker.id in ids, within=40)
    assert sorted(endpoint.ids()) == sorted([event.id, marker.id])


async def test_what_could_not_be_written_is_not_sent_over_and_over(
    stage: Any, deliveries: DeliveryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads that work while writes fail would else make an event at each endpoint of each attempt to write it."""
    add, failures = EventStore.add, 2

    async def failing(self: EventStore, *arguments: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise AutoReconnect("no majority")
        await add(self, *arguments)

    monkeypatch.setattr(EventStore, "add", failing)
    monkeypatch.setattr(DeliveryStore, "insert", _after_events(DeliveryStore.insert, lambda: failures))
    endpoint = await stage.make_receiver()
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    event = status_event()
    async with stage.start():
        await stage.publish(event)
        await eventually(
            partial(deliveries.list_of, subscription.id, status="delivered", after=None, limit=10), within=60
        )
    # Once while it was written, and once when its row was there and said nothing of that.
    assert endpoint.ids() in ([event.id], [event.id, event.id])


def _after_events(insert: Any, failures: Any) -> Any:
    async def inserting(self: DeliveryStore, *arguments: Any, **options: Any) -> Any:
        if failures():
            raise AutoReconnect("no majority")
        return await insert(self, *arguments, **options)

    return inserting
