"""What attempts and owners make of an endpoint as a whole, on one replica and seen from another."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from notifier.deliveries import delivery_id
from notifier.delivery_documents import NewDelivery
from notifier.delivery_store import DeliveryStore
from notifier.engine import Engine
from notifier.notifications import Notice, notice_of
from notifier.store import EventStore
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Subscription
from support.eventually import eventually
from support.notifying import told
from support.status_events import status_event
from support.webhooks import Answer, Received, answering, in_turn

if TYPE_CHECKING:
    from shared.mongo import Database


def notices(count: int) -> list[Notice]:
    made = [notice_of(status_event(apps=("search",))) for _ in range(count)]
    return [each for each in made if each is not None]


async def received(endpoint: Any) -> list[str]:
    return list(endpoint.ids())


async def statuses(deliveries: DeliveryStore, subscription: Subscription) -> list[str]:
    found = await deliveries.list_of(subscription.id, status=None, after=None, limit=200)
    return sorted(each.status for each in found)


async def change(subscriptions: SubscriptionStore, subscription: Subscription, *, anew: bool = False, **to: Any) -> Any:
    """As the API does it at another replica: in the store, and nowhere else."""
    return await subscriptions.change(subscription.id, subscription.owner, to, now=datetime.now(UTC), anew=anew)


async def current(subscriptions: SubscriptionStore, subscription: Subscription) -> Subscription:
    return (await subscriptions.by_ids([subscription.id]))[subscription.id]


# An endpoint that waits at a gate is no failure.
PATIENT = {"response_timeout_seconds": 30.0, "total_timeout_seconds": 30.0, "lease_seconds": 60.0}


class Gate:
    """An answer that waits until it is let go."""

    def __init__(self, answer: Answer) -> None:
        self._open = asyncio.Event()
        self._answer = answer

    async def __call__(self, item: Received, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        await self._answer(item, writer)

    def open(self) -> None:
        self._open.set()


def lane_url(engine: Engine, subscription: Subscription) -> str | None:
    lane = engine.dispatcher._lanes.get(subscription.id)
    return lane.subscription.url if lane is not None else None


async def test_what_the_old_address_answers_says_nothing_of_the_new_one(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    for status in (410, 429):
        gate = Gate(answering(status))
        old, new = await make_receiver(gate), await make_receiver()
        subscription = await subscribe(old.url, app_id="search")
        async with run_engine(**PATIENT) as engine:
            await engine.intake.deliver(told(notices(1)))
            await eventually(partial(received, old), lambda ids: len(ids) == 1)
            changed = await change(subscriptions, subscription, anew=True, url=new.url)
            engine.dispatcher.follow(subscription.id, changed)
            gate.open()
            await eventually(partial(statuses, deliveries, subscription), lambda found: found == ["delivered"])
        state = await current(subscriptions, subscription)
        assert (state.enabled, state.throttled_until, state.failing_since) == (True, None, None)
        assert len(new.received) == 1


async def test_a_change_at_another_replica_reaches_what_waits_in_memory(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    gate = Gate(answering(204))
    old, new = await make_receiver(gate), await make_receiver()
    subscription = await subscribe(old.url, app_id="search")
    async with run_engine(endpoint_concurrency=1, **PATIENT) as engine:
        await engine.intake.deliver(told(notices(10)))
        await eventually(partial(received, old), lambda ids: len(ids) == 1)
        await change(subscriptions, subscription, anew=True, url=new.url)

        async def moved() -> bool:
            return bool(lane_url(engine, subscription) == new.url)

        await eventually(moved, what="the lane's new address")
        gate.open()
        await eventually(partial(statuses, deliveries, subscription), lambda found: found == ["delivered"] * 10)
    assert (len(old.received), len(new.received)) == (1, 9)


async def test_disabling_at_another_replica_stops_what_waits_in_memory(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    gate = Gate(answering(204))
    endpoint = await make_receiver(gate)
    subscription = await subscribe(endpoint.url, app_id="search")
    async with run_engine(endpoint_concurrency=1, **PATIENT) as engine:
        await engine.intake.deliver(told(notices(10)))
        await eventually(partial(received, endpoint), lambda ids: len(ids) == 1)
        await change(subscriptions, subscription, enabled=False)
        await eventually(partial(queued, engine), lambda count: count == 0, what="an empty lane")
        gate.open()
        # The one that was taken is on record as that; the others were given up, and ended by whoever claimed them.
        ended = ["dead"] * 9 + ["delivered"]
        await eventually(partial(statuses, deliveries, subscription), lambda found: found == ended)
    assert len(endpoint.received) == 1


async def queued(engine: Engine) -> int:
    return engine.dispatcher._lanes.queued()


async def test_a_pause_holds_everything_and_loses_nothing(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    endpoint, other = await make_receiver(), await make_receiver()
    subscription = await subscribe(endpoint.url, app_id="search")
    await subscribe(other.url, app_id="search")
    async with run_engine() as engine:
        await change(subscriptions, subscription, paused=True)
        await engine.intake.deliver(told(notices(20)))
        await eventually(partial(received, other), lambda ids: len(ids) == 20)
        assert await statuses(deliveries, subscription) == ["pending"] * 20
        assert endpoint.received == []
        # Another replica is told; this one finds out.
        await change(subscriptions, subscription, paused=False)
        await eventually(partial(statuses, deliveries, subscription), lambda found: found == ["delivered"] * 20)
    tries = await deliveries.list_of(subscription.id, status="delivered", after=None, limit=20)
    assert all(len(each.attempts) == 1 for each in tries)


async def test_an_endpoint_that_fails_is_left_alone_then_tried_once_and_its_queue_loses_no_attempt(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(in_turn(*[answering(500)] * 4, answering(204)))
    subscription = await subscribe(endpoint.url, app_id="search")
    settings = {"breaker_failures": 3, "breaker_seconds": 0.2, "endpoint_concurrency": 1}
    async with run_engine(**settings) as engine, run_engine(**settings):
        with structlog.testing.capture_logs() as lines:
            await engine.intake.deliver(told(notices(30)))
            await eventually(partial(statuses, deliveries, subscription), lambda found: found == ["delivered"] * 30)
        trips = [line["trips"] for line in lines if line["event"] == "endpoint.tripped"]
        assert trips
        assert trips == sorted(set(trips))
        state = await eventually(partial(current, subscriptions, subscription), lambda found: found.trips == 0)
    assert (state.open_until, state.failing_since) == (None, None)
    # Three failures, one trial that failed as well, the trial that didn't, and the rest.
    attempts = [each.attempts for each in await deliveries.list_of(subscription.id, status=None, after=None, limit=99)]
    assert sum(len(each) for each in attempts) == 34
    assert len(endpoint.received) == 34


async def test_only_one_process_makes_the_trial(subscribe: Any, subscriptions: SubscriptionStore) -> None:
    now = datetime.now(UTC)
    subscription = await subscribe("http://127.0.0.1:9/", app_id="search")
    tripped = await subscriptions.trip(subscription, until=now)
    assert tripped is not None
    assert await subscriptions.trip(subscription, until=now) is None
    later = now + timedelta(seconds=20)
    taken = [await subscriptions.begin_trial(tripped, now=now, until=later) for _ in range(3)]
    assert taken == [True, False, False]
    # Whoever took it died: somebody else takes the next.
    assert await subscriptions.begin_trial(tripped, now=later, until=later + timedelta(seconds=20))


async def test_since_when_it_fails_is_the_earliest_and_only_of_this_version(
    subscribe: Any, subscriptions: SubscriptionStore, database: "Database"
) -> None:
    subscription = await subscribe("http://127.0.0.1:9/", app_id="search")
    now = datetime.now(UTC).replace(microsecond=0)
    # As rows of an earlier release have it.
    await database["subscriptions"].update_one({"_id": subscription.id}, {"$set": {"failing_since": None}})
    for since in (now, now - timedelta(hours=1), now):
        await subscriptions.note_failing(subscription, since)
    assert (await current(subscriptions, subscription)).failing_since == now - timedelta(hours=1)
    changed = await change(subscriptions, subscription, anew=True, url="http://127.0.0.1:10/")
    assert changed.failing_since is None
    await subscriptions.note_failing(subscription, now)
    assert (await current(subscriptions, subscription)).failing_since is None
    await subscriptions.note_failing(changed, now)
    assert (await current(subscriptions, subscription)).failing_since == now


async def test_an_owner_is_told_of_a_disabling_whose_process_died_over_it(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    elsewhere = await make_receiver()
    gone = await subscribe("http://127.0.0.1:9/", app_id="search")
    await subscribe(elsewhere.url, app_id="search", event_types=frozenset({"endpoint.disabled"}))
    minute_ago = datetime.now(UTC) - timedelta(minutes=1)
    event = notices(1)[0]
    row = NewDelivery(
        id=delivery_id(event.id, gone.id),
        event_id=event.id,
        event_at=minute_ago,
        type=event.type,
        subscription_id=gone.id,
        claim="of the dead",
        next_at=datetime.now(UTC) + timedelta(hours=1),
    )
    await deliveries.insert([row], now=minute_ago - timedelta(seconds=1))
    assert await subscriptions.disable(gone, "failing", now=minute_ago) is not None
    async with run_engine():
        await eventually(partial(received, elsewhere), lambda ids: len(ids) == 1)
        await eventually(partial(statuses, deliveries, gone), lambda found: found == ["dead"])
        await eventually(lambda: subscriptions.untold(before=datetime.now(UTC)), lambda found: found == [])
    assert elsewhere.received[0].json["data"]["reason"] == "failing"


async def test_nothing_is_remembered_of_endpoints_that_failed_until_they_went(
    run_engine: Any,
    make_receiver: Any,
    subscribe: Any,
    subscriptions: SubscriptionStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody tells this process: it was another one that was asked."""
    monkeypatch.setattr("notifier.endpoints.UNTOLD_SECONDS", 0.05)
    endpoint = await make_receiver(answering(500))
    made = [await subscribe(endpoint.url, app_id="search") for _ in range(5)]
    deleted, disabled, moved, rotated, failing = made
    async with run_engine(retry_schedule=(60.0,)) as engine:

        async def remembered() -> set[str]:
            return set(engine.endpoints._failing)

        await engine.intake.deliver(told(notices(1)))
        await eventually(remembered, {each.id for each in made}.__eq__)
        await subscriptions.delete(deleted.id, deleted.owner)
        await change(subscriptions, disabled, enabled=False)
        await change(subscriptions, moved, anew=True, url="http://127.0.0.1:9/")
        assert await subscriptions.replace_secrets(rotated, rotated.secrets, datetime.now(UTC))
        await eventually(remembered, {failing.id}.__eq__)


async def test_a_row_whose_event_is_gone_ends_by_the_events_age(
    run_engine: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    """Recover makes rows of today for events of weeks ago."""
    subscription = await subscribe("http://127.0.0.1:9/", app_id="search")
    now = datetime.now(UTC)
    row = NewDelivery(
        id="r",
        event_id="gone",
        event_at=now - timedelta(days=31),
        type="t",
        subscription_id=subscription.id,
        claim=None,
        next_at=now,
    )
    await deliveries.insert([row], now=now)
    async with run_engine():
        await eventually(partial(statuses, deliveries, subscription), lambda found: found == ["dead"])
    delivery = await deliveries.get("r")
    assert delivery is not None
    assert delivery.reason == "payload_expired"


async def test_recovery_finds_what_became_visible_behind_it(
    run_engine: Any, make_receiver: Any, subscribe: Any, database: "Database"
) -> None:
    endpoint = await make_receiver()
    subscription = await subscribe(endpoint.url, app_id="search")
    async with run_engine() as engine:
        engine.recoveries._late = timedelta(seconds=1)
        until = await engine.recoveries.begin(subscription, since=datetime.now(UTC) - timedelta(hours=1))
        await eventually(partial(job_of, database), lambda job: job is not None and job["came_back"])
        # Its time is before the recovery's end, and its write only comes now.
        stalled = EventStore(database, clock=At(until - timedelta(seconds=0.5)), retention_seconds=3600)  # type: ignore[arg-type] # a clock
        event = notices(1)[0]
        await stalled.add([(event, None)])
        await eventually(partial(received, endpoint), lambda ids: ids == [event.id])
        await eventually(partial(job_of, database), lambda job: job is None)


async def job_of(database: "Database") -> Any:
    return await database["recoveries"].find_one()


class At:
    """A clock that stands still."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at


async def test_what_was_shown_of_an_earlier_version_changes_nothing(
    subscribe: Any, subscriptions: SubscriptionStore
) -> None:
    """At whatever replica the owner changed it: the store is asked in the step that changes something."""
    old = await subscribe("http://127.0.0.1:9/", app_id="search")
    new = await change(subscriptions, old, anew=True, url="http://127.0.0.1:10/")
    now = datetime.now(UTC)
    assert await subscriptions.disable(old, "endpoint_gone", now=now) is None
    assert await subscriptions.trip(old, until=now) is None
    assert await subscriptions.note_working(old) is None
    await subscriptions.throttle(old, now + timedelta(hours=1))
    await subscriptions.note_failing(old, now)
    assert await current(subscriptions, old) == new
    assert await subscriptions.untold(before=now + timedelta(hours=1)) == []
    assert await subscriptions.disable(new, "endpoint_gone", now=now) is not None
    assert await subscriptions.disable(new, "endpoint_gone", now=now) is None
