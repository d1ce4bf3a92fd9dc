"""Erasing what was told: payloads and answers go, for their owner only; ids, times and outcomes stay."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio

from notifier import expunging
from notifier.deliveries import delivery_id
from notifier.delivery_documents import NewDelivery
from notifier.engine import Engine
from notifier.notifications import notice_of
from notifier.store import EventStore
from notifier.subscriptions import Subscription
from shared.events import CredentialExpiring
from support.eventually import eventually
from support.listening import listening
from support.status_events import OCCURRED, event, status_event
from support.tokens import Issuer
from support.webhooks import Receiver, answering

if TYPE_CHECKING:
    from shared.events import Event
    from shared.mongo import Database

CREDENTIAL = CredentialExpiring(
    registration="r", client_id="c", credential="secret 1", expires_at=OCCURRED, days_left=3, occurred_at=OCCURRED
)


@pytest_asyncio.fixture
async def served(serve: Any) -> AsyncIterator[Any]:
    async with serve() as running:
        yield running


@pytest_asyncio.fixture
async def client(served: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as client:
        yield client


@pytest.fixture
def search(issuer: Issuer) -> dict[str, str]:
    return issuer.headers("app", app_id="search")


@pytest.fixture
def admin(issuer: Issuer) -> dict[str, str]:
    return issuer.headers("admin", account_id="northwind")


async def ids(endpoint: Receiver) -> set[str]:
    return set(endpoint.ids())


async def deliveries(client: httpx.AsyncClient, headers: dict[str, str], subscription_id: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/subscriptions/{subscription_id}/deliveries", headers=headers)
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def read(client: httpx.AsyncClient, headers: dict[str, str], delivery_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"/v1/deliveries/{delivery_id}", headers=headers)).json()
    return found


async def arrive(stage: Any, *events: "Event", at: list[Receiver]) -> None:
    """Publish the events, and wait until each is on record everywhere."""
    await stage.publish(*events)
    for endpoint in at:
        await eventually(partial(ids, endpoint), lambda got: got >= {event.id for event in events}, within=40)


async def expunge(
    client: httpx.AsyncClient, headers: dict[str, str], path: str, *, events: int, deliveries: int, **body: str
) -> dict[str, Any]:
    """Ask for it, and wait until so much is erased."""
    accepted = await client.post(path, headers=headers, json=body)
    assert accepted.status_code == 202, accepted.text

    async def job() -> dict[str, Any]:
        found: dict[str, Any] = (await client.get(accepted.headers["Location"], headers=headers)).json()
        assert found["id"] == accepted.json()["id"]
        return found

    counts = {"events": events, "deliveries": deliveries}
    return await eventually(job, lambda found: found | counts == found, within=40)


async def all_ended(client: httpx.AsyncClient, headers: dict[str, str], subscription_id: str, count: int) -> None:
    async def left() -> list[str]:
        return [each["status"] for each in await deliveries(client, headers, subscription_id)]

    await eventually(left, lambda found: len(found) == count and "pending" not in found, within=40)


async def test_an_event_is_erased_for_its_owner_and_for_nobody_else(
    client: httpx.AsyncClient, stage: Any, search: dict[str, str], admin: dict[str, str], database: "Database"
) -> None:
    endpoint = await stage.make_receiver(answering(200, body=b"thanks, Contoso"))
    mine, again = [await stage.subscribe(endpoint.url, app_id="search") for _ in range(2)]
    theirs = await stage.subscribe(endpoint.url, account_id="northwind")
    alone: dict[str, Any] = {"apps": ("search",), "previous_apps": ("search",)}
    erased, kept = status_event(**alone), status_event(**alone, revision=2)
    await arrive(stage, erased, kept, at=[endpoint])
    for subscription, headers in ((mine, search), (again, search), (theirs, admin)):
        await all_ended(client, headers, subscription.id, 2)
    (delivery,) = [each for each in await deliveries(client, search, mine.id) if each["event_id"] == erased.id]
    assert (await read(client, search, delivery["id"]))["payload"]["data"]["tenant"]["name"] == "Contoso Ltd"
    path = f"/v1/deliveries/{delivery['id']}/expunge"
    assert (await client.post(path, headers=admin)).status_code == 404
    assert (await client.post(path, headers=search)).json() == {"events": 1, "deliveries": 2}
    assert (await client.post(path, headers=search)).json() == {"events": 0, "deliveries": 0}

    for subscription in (mine, again):
        (gone,) = [each for each in await deliveries(client, search, subscription.id) if each["event_id"] == erased.id]
        found = await read(client, search, gone["id"])
        assert (found["status"], found["payload"], len(found["attempts"])) == ("delivered", None, 1)
        assert found["expunged_at"] is not None
        assert found["attempts"][0] | {"at": 0, "duration_ms": 0} == {
            "at": 0,
            "duration_ms": 0,
            "status_code": 200,
            "error": None,
            "response_body": "",
            "truncated": False,
        }
        resent = await client.post(f"/v1/deliveries/{gone['id']}/resend", headers=search)
        assert (resent.status_code, resent.json()["code"]) == (409, "payload_expired")
    # Everything else is as it was: the owner's other event, and the same event of the account.
    others = [each for each in await deliveries(client, search, mine.id) if each["event_id"] == kept.id]
    others += await deliveries(client, admin, theirs.id)
    for each in others:
        found = await read(client, search if each["subscription_id"] == mine.id else admin, each["id"])
        assert (found["expunged_at"], found["attempts"][0]["response_body"]) == (None, "thanks, Contoso")
        assert found["payload"] is not None
    # Once the account has erased it too, nothing of it is left.
    (last,) = [each for each in await deliveries(client, admin, theirs.id) if each["event_id"] == erased.id]
    await client.post(f"/v1/deliveries/{last['id']}/expunge", headers=admin)
    row = await database["events"].find_one({"_id": erased.id})
    assert row is not None
    assert (row["data"], row["audiences"]) == ({}, [])


async def test_what_was_erased_comes_back_by_no_way(
    client: httpx.AsyncClient, served: Any, stage: Any, search: dict[str, str]
) -> None:
    endpoint = await stage.make_receiver()
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    async with listening(served.url, search) as before:
        pass
    erased, kept = status_event(revision=1), status_event(revision=2)
    await arrive(stage, erased, at=[endpoint])
    await all_ended(client, search, subscription.id, 1)
    await expunge(client, search, f"/v1/subscriptions/{subscription.id}/expunge", events=1, deliveries=1)
    # Kafka repeats it, the stream is resumed from before it, and everything is recovered.
    endpoint.received.clear()
    await stage.publish(erased)
    since = {"since": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}
    await client.post(f"/v1/subscriptions/{subscription.id}/recover", headers=search, json=since)
    await arrive(stage, kept, at=[endpoint])
    async with listening(served.url, search, before.last_event_id) as resumed:

        async def revisions() -> list[int]:
            return resumed.revisions()

        await eventually(revisions, lambda seen: 2 in seen)
        assert resumed.revisions() == [2]
    assert await ids(endpoint) == {kept.id}


async def test_what_is_pending_ends(client: httpx.AsyncClient, stage: Any, search: dict[str, str]) -> None:
    endpoint = await stage.make_receiver()
    subscription = await stage.subscribe(endpoint.url, app_id="search", paused=True)
    await stage.publish(status_event())

    async def pending() -> int:
        return len(await deliveries(client, search, subscription.id))

    await eventually(pending, lambda count: count == 1, within=40)
    await expunge(client, search, f"/v1/subscriptions/{subscription.id}/expunge", events=1, deliveries=1)
    (found,) = await deliveries(client, search, subscription.id)
    assert (found["status"], found["reason"]) == ("dead", "payload_expunged")
    await client.patch(f"/v1/subscriptions/{subscription.id}", headers=search, json={"paused": False})
    later = status_event(revision=2)
    await arrive(stage, later, at=[endpoint])
    assert await ids(endpoint) == {later.id}


async def test_an_app_erases_a_customer_who_left(
    client: httpx.AsyncClient, stage: Any, search: dict[str, str], admin: dict[str, str]
) -> None:
    endpoint = await stage.make_receiver()
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    leaves = [status_event(account_id="adatum", revision=n) for n in range(1, 4)]
    stays = status_event(account_id="northwind")
    await arrive(stage, *leaves, stays, at=[endpoint])
    await all_ended(client, search, subscription.id, 4)
    job = await expunge(client, search, "/v1/expunge", account_id="adatum", events=3, deliveries=3)
    assert (job["account_id"], job["subscription_id"]) == ("adatum", None)
    found = await deliveries(client, search, subscription.id)
    assert {each["event_id"] for each in found if each["expunged_at"] is None} == {stays.id}
    await expunge(client, search, "/v1/expunge", events=1, deliveries=1)
    other = await client.post("/v1/expunge", headers=admin, json={"account_id": "adatum"})
    assert other.status_code == 422
    # The account's own reading of its events is untouched by the app's.
    await expunge(client, admin, "/v1/expunge", account_id="northwind", events=1, deliveries=0)


async def test_all_of_an_owner_holds_what_is_of_no_account(
    client: httpx.AsyncClient, stage: Any, search: dict[str, str]
) -> None:
    """A credential of the suite concerns every app: its row stays, and what the endpoint has answered to it goes."""
    endpoint = await stage.make_receiver(answering(200, body=b"thanks"))
    subscription = await stage.subscribe(
        endpoint.url, app_id="search", event_types=frozenset({"credential.expiring"}), retry_schedule=()
    )
    await arrive(stage, expiring := event(CREDENTIAL), at=[endpoint])
    await all_ended(client, search, subscription.id, 1)
    await expunge(client, search, "/v1/expunge", events=0, deliveries=1)
    (found,) = await deliveries(client, search, subscription.id)
    assert (found["event_id"], found["attempts"][0]["response_body"]) == (expiring.id, "")
    assert (await read(client, search, found["id"]))["payload"] is None
    resent = await client.post(f"/v1/deliveries/{found['id']}/resend", headers=search)
    assert (resent.status_code, resent.json()["code"]) == (409, "payload_expired")


async def test_an_erasing_is_nobody_elses(
    client: httpx.AsyncClient, stage: Any, issuer: Issuer, search: dict[str, str], admin: dict[str, str]
) -> None:
    subscription = await stage.subscribe("https://hooks.example.com/", app_id="search")
    accepted = await client.post(f"/v1/subscriptions/{subscription.id}/expunge", headers=search)
    assert (accepted.status_code, accepted.json()["status"]) == (202, "running")
    again = await client.post(f"/v1/subscriptions/{subscription.id}/expunge", headers=search)
    assert again.json()["id"] == accepted.json()["id"]
    for headers in (admin, issuer.headers("app", app_id="northwind")):
        assert (await client.get(accepted.headers["Location"], headers=headers)).status_code == 404
        refused = await client.post(f"/v1/subscriptions/{subscription.id}/expunge", headers=headers)
        assert refused.status_code == 404


def rows(subscription: Subscription, events: "list[Event]") -> list[NewDelivery]:
    now = datetime.now(UTC)
    return [
        NewDelivery(
            id=delivery_id(event.id, subscription.id),
            event_id=event.id,
            event_at=now,
            type="permission.status_changed",
            subscription_id=subscription.id,
            claim=None,
            next_at=now + timedelta(hours=1),
        )
        for event in events
    ]


async def stored(engine: Engine, subscription: Subscription, events: "list[Event]") -> None:
    """As the intake leaves them: events and pending deliveries."""
    notices = [notice for event in events if (notice := notice_of(event)) is not None]
    await engine.events.add([(notice, None) for notice in notices])
    await engine.deliveries.insert(rows(subscription, events), now=engine.clock.now())


async def test_it_goes_on_over_many_steps_and_once_more_over_the_last_moments(
    run_engine: Any, subscribe: Any, monkeypatch: pytest.MonkeyPatch, database: "Database"
) -> None:
    monkeypatch.setattr(expunging, "AT_ONCE", 3)
    one, other = [await subscribe("http://127.0.0.1:9/", app_id="search", paused=True) for _ in range(2)]
    events = [status_event(apps=("search",), account_id="adatum") for _ in range(10)]
    kept = status_event(apps=("search",), account_id="northwind")
    async with run_engine() as engine:
        engine.expunging._late = timedelta(hours=1)
        await stored(engine, one, [*events, kept])
        await stored(engine, other, events[:4])
        job = await engine.expunging.account(one.owner, "adatum")

        async def came_back() -> Any:
            return await database["expunges"].find_one({"_id": job.id, "came_back": True})

        await eventually(came_back, what="the second look")
        # Its time is before the request, and its write only comes now.
        late = status_event(apps=("search",), account_id="adatum")
        stalled = EventStore(database, clock=At(job.requested_at - timedelta(seconds=0.5)), retention_seconds=3600)  # type: ignore[arg-type] # a clock
        notice = notice_of(late)
        assert notice is not None
        await stalled.add([(notice, None)])
        # As if the hour had passed.
        await database["expunges"].update_one({"_id": job.id}, {"$set": {"next_at": engine.clock.now()}})
        done = await eventually(lambda: engine.expunging.find(one.owner, job.id), lambda found: found.ended_at)
        assert (done.events, done.deliveries) == (11, 14)
        readable = await engine.events.notices([event.id for event in (*events, late, kept)])
        assert [each.id for each in readable.values() if each.concerns("search")] == [kept.id]
        by_subscription = await engine.expunging.subscription(one.owner, one.id)

        async def last() -> bool:
            found = await engine.events.notices([kept.id])
            return any(each.concerns("search") for each in found.values())

        await eventually(last, lambda readable: not readable)
        assert by_subscription.id != job.id


class At:
    """A clock that stands still."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at
