"""Killed over what an owner has asked for, the notifier leaves nothing stuck, whether it has answered or not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from standardwebhooks import Webhook

from notifier.delivery_store import DeliveryStore
from notifier.notifications import Notice, notice_of
from notifier.subscriptions import Subscription
from support.crashing import Doomed
from support.eventually import eventually
from support.notifier_that_crashes import ERASING_WINDOWS, RECOVERY_WINDOWS
from support.notifying import secret_of, told
from support.status_events import status_event
from support.tokens import Issuer
from support.webhooks import Receiver, answering, hang

if TYPE_CHECKING:
    from shared.mongo import Database

EVENTS = 12
# So that a recovery's second look, when no write can be under way any more, comes soon.
QUICK_MS = 1000
PATIENT = {"retry_schedule": (0.1,) * 50, "total_timeout_seconds": 0.5, "response_timeout_seconds": 0.5}
ONE_BY_ONE = {
    "DELIVERY__ENDPOINT_CONCURRENCY": "1",
    "DELIVERY__RETRY_SCHEDULE": "[" + ",".join(["0.1"] * 50) + "]",
    "DELIVERY__BREAKER_FAILURES": "1000",
}


def notices() -> list[Notice]:
    made = [notice_of(status_event(apps=("search",))) for _ in range(EVENTS)]
    return [each for each in made if each is not None]


async def ids(endpoint: Receiver) -> set[str]:
    return set(endpoint.ids())


async def states(deliveries: DeliveryStore, subscription: Subscription) -> list[str]:
    found = await deliveries.list_of(subscription.id, status=None, after=None, limit=10 * EVENTS)
    return [each.status for each in found]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What the tests play on: a notifier that dies, another one after it, and the owner's token."""

    stage: Any
    doom: Any
    run_engine: Any
    headers: dict[str, str]
    database: "Database"


@pytest.fixture
def scene(stage: Any, doom: Any, run_engine: Any, issuer: Issuer, database: "Database") -> Scene:
    headers = issuer.headers("app", app_id="search")
    return Scene(stage=stage, doom=doom, run_engine=run_engine, headers=headers, database=database)


@pytest.mark.parametrize("window", RECOVERY_WINDOWS)
async def test_a_recovery_goes_on_where_a_process_died_over_it(window: str, scene: Scene) -> None:
    stage, run_engine = scene.stage, scene.run_engine
    endpoint = await stage.make_receiver(answering(404))
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    missed = notices()
    async with run_engine(retry_schedule=()) as engine:
        await engine.intake.deliver(told(missed))
        await eventually(partial(states, stage.deliveries, subscription), lambda found: found == ["dead"] * EVENTS)
    endpoint.answer = answering(204)
    endpoint.received.clear()
    since = {"since": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    path = f"/v1/subscriptions/{subscription.id}/recover"
    async with scene.doom(window, MONGO__TIMEOUT_MS=str(QUICK_MS)) as notifier:
        await notifier.ready()
        await notifier.call("POST", path, headers=scene.headers, json=since)
        await notifier.died()
    async with run_engine(timeout_ms=QUICK_MS) as engine:
        if window == "after it is enabled, before the recovery is noted":
            # It wasn't answered, and nothing is noted of it: its caller asks again.
            await engine.recoveries.begin(subscription, since=datetime.now(UTC) - timedelta(hours=1))
        await eventually(partial(ids, endpoint), lambda got: got == {each.id for each in missed}, within=30)
        await eventually(
            partial(states, stage.deliveries, subscription), lambda found: found == ["delivered"] * EVENTS, within=30
        )
        if "second look" in window:
            await eventually(
                lambda: scene.database["recoveries"].count_documents({}), lambda left: left == 0, within=60
            )


@pytest.mark.parametrize("window", ERASING_WINDOWS)
async def test_an_erasing_goes_on_where_a_process_died_over_it(window: str, scene: Scene) -> None:
    stage, jobs = scene.stage, scene.database["expunges"]
    endpoint = await stage.make_receiver(answering(200, body=b"thanks"))
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    customers = notices()
    async with scene.run_engine(timeout_ms=QUICK_MS) as engine:
        await engine.intake.deliver(told(customers))
        await eventually(partial(states, stage.deliveries, subscription), lambda found: found == ["delivered"] * EVENTS)
    async with scene.doom(window, MONGO__TIMEOUT_MS=str(QUICK_MS)) as notifier:
        await notifier.ready()
        await notifier.call("POST", "/v1/expunge", headers=scene.headers, json={"account_id": "northwind"})
        await notifier.died()
    # As if the lease of the dead had ended.
    await jobs.update_many({"next_at": {"$ne": None}}, {"$set": {"next_at": datetime.now(UTC)}})
    async with scene.run_engine(timeout_ms=QUICK_MS):
        await eventually(lambda: jobs.count_documents({"ended_at": {"$ne": None}}), within=30, what="the end")
    left = await stage.deliveries.list_of(subscription.id, status=None, after=None, limit=EVENTS)
    assert all(each.expunged_at and not each.attempts[0].response_body for each in left)
    assert await scene.database["events"].count_documents({"audiences.app_id": "search"}) == 0


@pytest.mark.parametrize(
    ("window", "how"),
    [
        ("before claims are given up", "paused"),
        ("before claims are given up", "stopped"),
        ("after claims are given up", "stopped"),
    ],
)
async def test_what_a_process_was_giving_up_is_sent_by_another(
    window: str, how: str, scene: Scene, kafka_group: str
) -> None:
    stage, run_engine = scene.stage, scene.run_engine
    endpoint = await stage.make_receiver(hang)
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    events = [status_event(apps=("search",)) for _ in range(EVENTS)]
    async with scene.doom(window, **ONE_BY_ONE) as notifier:
        await stage.publish(*events)
        # One is being sent, the others wait in memory.
        await eventually(partial(ids, endpoint), within=60, what="the first attempt")
        if how == "paused":
            await change(notifier, subscription, scene.headers, paused=True)
        else:
            notifier.process.terminate()
        await notifier.died()
    endpoint.answer = answering(204)
    await stage.subscriptions.change(subscription.id, subscription.owner, {"paused": False}, now=datetime.now(UTC))
    async with run_engine(**PATIENT), stage.start(group=f"{kafka_group}-successor"):
        await eventually(partial(ids, endpoint), lambda got: got == {each.id for each in events}, within=40)
        await eventually(
            partial(states, stage.deliveries, subscription), lambda found: found == ["delivered"] * EVENTS, within=40
        )


async def change(notifier: Doomed, subscription: Subscription, headers: dict[str, str], **fields: object) -> None:
    await notifier.call("PATCH", f"/v1/subscriptions/{subscription.id}", headers=headers, json=fields)


@pytest.mark.parametrize("window", ["before secrets are replaced", "after secrets are replaced"])
async def test_a_rotation_that_nobody_was_told_the_end_of_breaks_no_receiver(
    window: str, scene: Scene, serve: Any
) -> None:
    stage, headers = scene.stage, scene.headers
    endpoint = await stage.make_receiver()
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    rotate = f"/v1/subscriptions/{subscription.id}/rotate-secret"
    # In a group of its own: the broker waits ten seconds for the dead member of a group.
    async with scene.doom(window, group=f"{stage.topic.name}-doomed") as notifier:
        await notifier.ready()
        await notifier.call("POST", rotate, headers=headers)
        await notifier.died()
    async with serve() as served, httpx.AsyncClient(base_url=served.url, headers=headers) as client:
        answer = await client.post(rotate)
        assert answer.status_code == 200, answer.text
        event = status_event(apps=("search",))
        await stage.publish(event)
        await eventually(partial(ids, endpoint), lambda got: got == {event.id}, within=40)
    # Who only knows the secret of before verifies it, and so does who knows the newest.
    for secret in (secret_of(subscription), answer.json()["secret"]):
        Webhook(secret).verify(endpoint.received[0].body, endpoint.received[0].headers)


@pytest.mark.parametrize(
    "window",
    [
        "after its owner has disabled it, before what is pending ends",
        "after it is deleted, before what is pending ends",
    ],
)
async def test_what_was_disabled_or_deleted_by_a_process_that_died_over_it_is_ended_by_another(
    window: str, scene: Scene
) -> None:
    stage, run_engine, subscriptions = scene.stage, scene.run_engine, scene.stage.subscriptions
    endpoint = await stage.make_receiver(hang)
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    deleted = "deleted" in window
    events = [status_event(apps=("search",)) for _ in range(EVENTS)]
    async with scene.doom(window, **ONE_BY_ONE) as notifier:
        await stage.publish(*events)
        await eventually(partial(ids, endpoint), within=60, what="the first attempt")
        if deleted:
            await notifier.call("DELETE", f"/v1/subscriptions/{subscription.id}", headers=scene.headers)
        else:
            await change(notifier, subscription, scene.headers, enabled=False)
        await notifier.died()
    endpoint.answer = answering(204)
    endpoint.received.clear()
    async with run_engine() as engine:
        await eventually(
            partial(states, stage.deliveries, subscription), lambda found: found == ["dead"] * EVENTS, within=40
        )
        assert endpoint.received == []
        if not deleted:
            enabled = await subscriptions.change(
                subscription.id, subscription.owner, {"enabled": True}, now=datetime.now(UTC), anew=True
            )
            assert enabled is not None
            await engine.recoveries.begin(enabled, since=datetime.now(UTC) - timedelta(hours=1))
            await eventually(partial(ids, endpoint), lambda got: got == {each.id for each in events}, within=40)
            await eventually(
                partial(states, stage.deliveries, subscription),
                lambda found: found == ["delivered"] * EVENTS,
                within=40,
            )
