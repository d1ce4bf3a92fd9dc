"""Erasing what was told: payloads and answers go, for their owner only; ids, times and outcomes stay."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio

from support.eventually import eventually
from support.listening import listening
from support.status_events import status_event
from support.tokens import Issuer
from support.webhooks import Receiver, answering

if TYPE_CHECKING:
    from shared.events import Event
    from shared.mongo import Database


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
    event, kept = status_event(**alone), status_event(**alone, revision=2)
    await arrive(stage, event, kept, at=[endpoint])
    for subscription, headers in ((mine, search), (again, search), (theirs, admin)):
        await all_ended(client, headers, subscription.id, 2)
    (delivery,) = [each for each in await deliveries(client, search, mine.id) if each["event_id"] == event.id]
    assert (await read(client, search, delivery["id"]))["payload"]["data"]["tenant"]["name"] == "Contoso Ltd"
    path = f"/v1/deliveries/{delivery['id']}/expunge"
    assert (await client.post(path, headers=admin)).status_code == 404
    assert (await client.post(path, headers=search)).json() == {"events": 1, "deliveries": 2}
    assert (await client.post(path, headers=search)).json() == {"events": 0, "deliveries": 0}

    for subscription in (mine, again):
        (gone,) = [each for each in await deliveries(client, search, subscription.id) if each["event_id"] == event.id]
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
    (last,) = [each for each in await deliveries(client, admin, theirs.id) if each["event_id"] == event.id]
    await client.post(f"/v1/deliveries/{last['id']}/expunge", headers=admin)
    row = await database["events"].find_one({"_id": event.id})
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
    answer = await client.post(f"/v1/subscriptions/{subscription.id}/expunge", headers=search)
    assert answer.json() == {"events": 1, "deliveries": 1}
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
    await client.post(f"/v1/subscriptions/{subscription.id}/expunge", headers=search)
    (found,) = await deliveries(client, search, subscription.id)
    assert (found["status"], found["reason"]) == ("dead", "payload_expunged")
    await client.patch(f"/v1/subscriptions/{subscription.id}", headers=search, json={"paused": False})
    event = status_event(revision=2)
    await arrive(stage, event, at=[endpoint])
    assert await ids(endpoint) == {event.id}


async def test_an_app_erases_a_customer_who_left(
    client: httpx.AsyncClient, stage: Any, search: dict[str, str], admin: dict[str, str]
) -> None:
    endpoint = await stage.make_receiver()
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    leaves = [status_event(account_id="adatum", revision=n) for n in range(1, 4)]
    stays = status_event(account_id="northwind")
    await arrive(stage, *leaves, stays, at=[endpoint])
    await all_ended(client, search, subscription.id, 4)
    answer = await client.post("/v1/expunge", headers=search, json={"account_id": "adatum"})
    assert answer.json() == {"events": 3, "deliveries": 3}
    found = await deliveries(client, search, subscription.id)
    assert {each["event_id"] for each in found if each["expunged_at"] is None} == {stays.id}
    assert (await client.post("/v1/expunge", headers=search, json={})).json() == {"events": 1, "deliveries": 1}
    other = await client.post("/v1/expunge", headers=admin, json={"account_id": "adatum"})
    assert other.status_code == 422
    # The account's own reading of its events is untouched by the app's.
    own = await client.post("/v1/expunge", headers=admin, json={"account_id": "northwind"})
    assert own.json() == {"events": 1, "deliveries": 0}
