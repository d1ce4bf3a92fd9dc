"""The API over HTTP: roles, owners, secrets shown once, recovery, and what a developer sees of deliveries."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from standardwebhooks import Webhook

from notifier import subscribing
from notifier.settings import Settings
from notifier.subscribing import MAX_LIVE_SECRETS
from notifier.subscriptions import StoredSecret
from support.eventually import eventually
from support.status_events import publish, status_event
from support.tokens import Issuer
from support.webhooks import answering, in_turn

if TYPE_CHECKING:
    from shared.mongo import Database

URL = "https://hooks.example.com/consent"


@pytest_asyncio.fixture
async def client(serve: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with serve() as served, httpx.AsyncClient(base_url=served.url, timeout=20) as client:
        yield client


@pytest.fixture
def search(issuer: Issuer) -> dict[str, str]:
    return issuer.headers("app", app_id="search")


@pytest.fixture
def admin(issuer: Issuer) -> dict[str, str]:
    return issuer.headers("admin", account_id="northwind")


async def create(client: httpx.AsyncClient, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/subscriptions", headers=headers, json={"url": URL, **body})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_the_life_of_a_subscription(
    client: httpx.AsyncClient, search: dict[str, str], database: "Database"
) -> None:
    made = await create(client, search, event_types=["tenant.removed"], account_ids=["northwind"], description="prod")
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (made["app_id"], made["account_id"], made["enabled"]) == ("search", None, True)

    path = f"/v1/subscriptions/{made['id']}"
    assert (await client.get(path, headers=search)).json() == made
    assert (await client.get("/v1/subscriptions", headers=search)).json() == {"items": [made], "next_cursor": None}

    changed = await client.patch(path, headers=search, json={"event_types": None, "description": "test"})
    new = {"event_types": None, "description": "test", "updated_at": changed.json()["updated_at"]}
    assert changed.json() == made | new
    assert (await client.patch(path, headers=search, json={})).status_code == 200

    paused = (await client.patch(path, headers=search, json={"enabled": False})).json()
    assert (paused["enabled"], paused["disabled_reason"]) == (False, "by_owner")
    assert (await client.post(f"{path}/test", headers=search)).status_code == 409
    resumed = (await client.patch(path, headers=search, json={"enabled": True})).json()
    assert (resumed["enabled"], resumed["disabled_reason"], resumed["disabled_at"]) == (True, None, None)

    stored = await database["subscriptions"].find_one({"_id": made["id"]})
    assert secret.removeprefix("whsec_") not in repr(stored)

    assert (await client.delete(path, headers=search)).status_code == 204
    assert (await client.get(path, headers=search)).status_code == 404
    assert (await client.delete(path, headers=search)).status_code == 404


async def test_what_belongs_to_others_looks_absent(
    client: httpx.AsyncClient, issuer: Issuer, search: dict[str, str], admin: dict[str, str]
) -> None:
    of_app, of_account = await create(client, search), await create(client, admin)
    assert (of_account["app_id"], of_account["account_id"]) == (None, "northwind")
    strangers = {
        of_app["id"]: [admin, issuer.headers("app", app_id="workbench"), issuer.headers("app", app_id="northwind")],
        of_account["id"]: [search, issuer.headers("admin", account_id="adatum")],
    }
    for subscription_id, others in strangers.items():
        path = f"/v1/subscriptions/{subscription_id}"
        for headers in others:
            answers = [
                await client.get(path, headers=headers),
                await client.patch(path, headers=headers, json={"description": "mine"}),
                await client.post(f"{path}/rotate-secret", headers=headers),
                await client.post(f"{path}/test", headers=headers),
                await client.post(f"{path}/recover", headers=headers, json={"since": datetime.now(UTC).isoformat()}),
                await client.get(f"{path}/deliveries", headers=headers),
                await client.delete(path, headers=headers),
            ]
            assert [answer.status_code for answer in answers] == [404] * 7
            listed = (await client.get("/v1/subscriptions", headers=headers)).json()["items"]
            assert subscription_id not in {item["id"] for item in listed}
            assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)


@pytest.mark.parametrize("role", ["viewer", "operator", "staff"])
async def test_other_roles_may_not(client: httpx.AsyncClient, issuer: Issuer, role: str) -> None:
    headers = issuer.headers(role, account_id="northwind")
    assert (await client.post("/v1/subscriptions", headers=headers, json={"url": URL})).status_code == 403
    assert (await client.get("/v1/subscriptions", headers=headers)).status_code == 403
    assert (await client.get("/v1/subscriptions")).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "ftp://hooks.example.com"},
        {"url": "https://user:pass@hooks.example.com"},
        {"url": URL, "event_types": []},
        {"url": URL, "event_types": ["permission.granted"]},
        {"url": URL, "account_ids": ["Not An Id"]},
        {"url": URL, "secret": "whsec_mine"},
        {"url": URL, "description": "x" * 501},
    ],
)
async def test_what_is_not_as_documented_is_refused(
    client: httpx.AsyncClient, search: dict[str, str], body: dict[str, Any]
) -> None:
    answer = await client.post("/v1/subscriptions", headers=search, json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.get("/v1/subscriptions", headers=search)).json()["items"] == []


async def test_an_account_subscribes_to_itself_alone(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    for body in ({"account_ids": ["adatum"]}, {"event_types": ["credential.expiring"]}):
        assert (await client.post("/v1/subscriptions", headers=admin, json={"url": URL, **body})).status_code == 422
    await create(client, admin, account_ids=["northwind"])


async def test_lists_are_paged(client: httpx.AsyncClient, search: dict[str, str]) -> None:
    made = {(await create(client, search))["id"] for _ in range(5)}
    seen: list[str] = []
    cursor = None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/subscriptions", headers=search, params=parameters)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert (len(seen), set(seen)) == (5, made)
    for cursor in ("nonsense", "bm9wZQ", "Wzld"):
        bad = await client.get("/v1/subscriptions", headers=search, params={"cursor": cursor})
        assert (bad.status_code, bad.json()["code"]) == (422, "invalid_cursor")


async def test_a_ping_shows_the_endpoint_at_work_and_in_what_it_failed(
    client: httpx.AsyncClient, search: dict[str, str], make_receiver: Any
) -> None:
    endpoint = await make_receiver(in_turn(answering(500, body=b"boom"), answering(200, body=b"fine")))
    other = await make_receiver()
    made = await create(client, search, url=endpoint.url, event_types=["tenant.removed"])
    await create(client, search, url=other.url)
    accepted = await client.post(f"/v1/subscriptions/{made['id']}/test", headers=search)
    assert accepted.status_code == 202
    path = f"/v1/deliveries/{accepted.json()['delivery_id']}"

    async def look() -> dict[str, Any]:
        found: dict[str, Any] = (await client.get(path, headers=search)).json()
        return found

    delivery = await eventually(look, lambda found: found["status"] == "delivered")
    seen = [(each["status_code"], each["response_body"]) for each in delivery["attempts"]]
    assert seen == [(500, "boom"), (200, "fine")]
    payload = Webhook(made["secret"]).verify(endpoint.received[1].body, endpoint.received[1].headers)
    assert payload == delivery["payload"]
    assert payload["type"] == "test.ping"
    listed = (await client.get(f"/v1/subscriptions/{made['id']}/deliveries", headers=search)).json()
    assert [item["id"] for item in listed["items"]] == [delivery["id"]]
    assert other.received == []


async def test_a_rotated_secret_signs_beside_the_old_one(
    client: httpx.AsyncClient, search: dict[str, str], make_receiver: Any
) -> None:
    endpoint = await make_receiver()
    made = await create(client, search, url=endpoint.url)
    path = f"/v1/subscriptions/{made['id']}"
    rotated = await client.post(f"{path}/rotate-secret", headers=search)
    assert rotated.headers["cache-control"] == "no-store"
    new = rotated.json()["secret"]
    assert new != made["secret"]
    assert "secret" not in (await client.get(path, headers=search)).json()
    await client.post(f"{path}/test", headers=search)
    await eventually(lambda: _count(endpoint), lambda count: count == 1)
    for secret in (made["secret"], new):
        Webhook(secret).verify(endpoint.received[0].body, endpoint.received[0].headers)


async def test_secrets_overlap_for_as_long_as_is_set_and_are_not_kept_without_bound(
    client: httpx.AsyncClient, search: dict[str, str], database: "Database", settings: Settings
) -> None:
    made = await create(client, search)
    path = f"/v1/subscriptions/{made['id']}"

    async def secrets() -> list[dict[str, Any]]:
        row = await database["subscriptions"].find_one({"_id": made["id"]})
        assert row is not None
        found: list[dict[str, Any]] = row["secrets"]
        return found

    await client.post(f"{path}/rotate-secret", headers=search)
    new, old = await secrets()
    overlap = timedelta(seconds=settings.delivery.secret_overlap_seconds)
    assert (new["expires_at"], old["expires_at"]) == (None, new["created_at"] + overlap)
    for _ in range(MAX_LIVE_SECRETS):
        await client.post(f"{path}/rotate-secret", headers=search)
    kept = await secrets()
    assert len(kept) == MAX_LIVE_SECRETS
    ends = [each["expires_at"] for each in kept]
    assert ends[0] is None
    # None of them lasts longer because others were made since.
    assert ends[1:] == sorted(set(ends[1:]), reverse=True)


async def test_two_rotations_at_the_same_moment_do_not_lose_each_others_secret(
    stage: Any, database: "Database"
) -> None:
    """The one that comes second is told to try again."""
    subscription = await stage.subscribe(URL, app_id="search")
    first = StoredSecret(sealed=b"first", created_at=datetime.now(UTC))
    second = StoredSecret(sealed=b"second", created_at=datetime.now(UTC))
    store = stage.subscriptions
    assert await store.replace_secrets(subscription, [first, *subscription.secrets], datetime.now(UTC))
    assert not await store.replace_secrets(subscription, [second, *subscription.secrets], datetime.now(UTC))
    row = await database["subscriptions"].find_one({"_id": subscription.id})
    assert row is not None
    assert row["secrets"][0]["sealed"] == b"first"


async def test_an_owner_has_so_many_subscriptions_and_no_more(
    client: httpx.AsyncClient, search: dict[str, str], admin: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribing, "MAX_PER_OWNER", 2)
    for _ in range(2):
        await create(client, search)
    refused = await client.post("/v1/subscriptions", headers=search, json={"url": URL})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_subscriptions")
    await create(client, admin)


async def test_answers_that_hold_a_secret_are_not_kept_by_anybody(
    client: httpx.AsyncClient, search: dict[str, str]
) -> None:
    made = await client.post("/v1/subscriptions", headers=search, json={"url": URL})
    rotated = await client.post(f"/v1/subscriptions/{made.json()['id']}/rotate-secret", headers=search)
    assert [answer.headers["cache-control"] for answer in (made, rotated)] == ["no-store"] * 2


async def test_resending_keeps_the_id_and_is_refused_where_nothing_would_be_sent(
    client: httpx.AsyncClient, search: dict[str, str], make_receiver: Any, database: "Database"
) -> None:
    endpoint = await make_receiver()
    made = await create(client, search, url=endpoint.url)
    ping = (await client.post(f"/v1/subscriptions/{made['id']}/test", headers=search)).json()["delivery_id"]
    await eventually(lambda: _status(client, search, ping), lambda status: status == "delivered")
    assert (await client.post(f"/v1/deliveries/{ping}/resend", headers=search)).status_code == 202
    await eventually(lambda: _count(endpoint), lambda count: count == 2)
    await eventually(lambda: _status(client, search, ping), lambda status: status == "delivered")
    assert len({(received.id, received.body) for received in endpoint.received}) == 1
    await database["events"].delete_many({})
    gone = await client.post(f"/v1/deliveries/{ping}/resend", headers=search)
    assert (gone.status_code, gone.json()["code"]) == (409, "payload_expired")
    assert (await client.get(f"/v1/deliveries/{ping}", headers=search)).json()["payload"] is None
    await client.patch(f"/v1/subscriptions/{made['id']}", headers=search, json={"enabled": False})
    disabled = await client.post(f"/v1/deliveries/{ping}/resend", headers=search)
    assert (disabled.status_code, disabled.json()["code"]) == (409, "subscription_disabled")
    assert (await client.post("/v1/deliveries/nonsense/resend", headers=search)).status_code == 404


async def test_recover_sends_what_died_and_what_came_while_it_was_off_and_nothing_else(
    client: httpx.AsyncClient, search: dict[str, str], make_receiver: Any, settings: Any, status_topic: Any
) -> None:
    endpoint = await make_receiver()
    made = await create(client, search, url=endpoint.url)
    path = f"/v1/subscriptions/{made['id']}"
    delivered, died, missed = (status_event(revision=n) for n in (1, 2, 3))
    await publish(settings.kafka, status_topic, delivered)
    await eventually(lambda: _ids(endpoint), lambda ids: ids == [delivered.id], within=40)
    endpoint.answer = answering(500)
    await publish(settings.kafka, status_topic, died)
    await eventually(
        lambda: _statuses(client, search, made["id"]), lambda found: found == ["dead", "delivered"], within=40
    )
    await client.patch(path, headers=search, json={"enabled": False})
    await publish(settings.kafka, status_topic, missed)
    marker = await make_receiver()
    await create(client, search, url=marker.url)
    await publish(settings.kafka, status_topic, status_event(account_id="adatum", revision=4))
    await eventually(lambda: _count(marker), lambda count: count == 1, within=40)

    endpoint.answer = answering(204)
    endpoint.received.clear()
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert (await client.post(f"{path}/recover", headers=search, json={"since": since})).status_code == 202
    await eventually(lambda: _ids(endpoint), lambda ids: {died.id, missed.id} <= set(ids), within=40)
    await eventually(lambda: _statuses(client, search, made["id"]), lambda found: found == ["delivered"] * 4, within=40)
    assert delivered.id not in endpoint.ids()
    too_long = await client.post(f"{path}/recover", headers=search, json={"since": "2020-01-01T00:00:00Z"})
    assert (too_long.status_code, too_long.json()["code"]) == (422, "too_long_ago")


async def test_the_document_describes_every_route_with_examples(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/subscriptions",
        "/v1/subscriptions/{subscription_id}",
        "/v1/subscriptions/{subscription_id}/rotate-secret",
        "/v1/subscriptions/{subscription_id}/test",
        "/v1/subscriptions/{subscription_id}/recover",
        "/v1/subscriptions/{subscription_id}/deliveries",
        "/v1/deliveries/{delivery_id}",
        "/v1/deliveries/{delivery_id}/resend",
        "/v1/deliveries/{delivery_id}/expunge",
        "/v1/subscriptions/{subscription_id}/expunge",
        "/v1/expunge",
        "/v1/expunges/{expunge_id}",
        "/v1/portal-links",
        "/v1/stream",
    }
    schemas = document["components"]["schemas"]
    for name in (
        "SubscriptionView",
        "SubscriptionWithSecret",
        "NewSubscription",
        "DeliveryView",
        "Recovery",
        "PortalLink",
    ):
        assert "example" in schemas[name], name
    assert "whsec_" not in json.dumps(schemas["SubscriptionView"])


async def _count(endpoint: Any) -> int:
    return len(endpoint.received)


async def _ids(endpoint: Any) -> list[str]:
    return list(endpoint.ids())


async def _status(client: httpx.AsyncClient, headers: dict[str, str], delivery_id: str) -> str:
    return str((await client.get(f"/v1/deliveries/{delivery_id}", headers=headers)).json()["status"])


async def _statuses(client: httpx.AsyncClient, headers: dict[str, str], subscription_id: str) -> list[str]:
    page = (await client.get(f"/v1/subscriptions/{subscription_id}/deliveries", headers=headers)).json()
    return [item["status"] for item in page["items"]]


async def test_an_owner_bounds_filters_and_pauses(client: httpx.AsyncClient, search: dict[str, str]) -> None:
    bounds: dict[str, Any] = {"permission_set_ids": ["manage-accounts"], "concurrency": 2, "rate_limit": 5.5}
    bounds["retry_schedule"] = [1.0, 60.0, 86400.0]
    made = await create(client, search, **bounds)
    assert bounds.items() <= made.items()
    assert (made["paused"], made["resting_until"]) == (False, None)
    path = f"/v1/subscriptions/{made['id']}"
    changed = (await client.patch(path, headers=search, json={"paused": True, "rate_limit": None})).json()
    assert (changed["paused"], changed["rate_limit"], changed["concurrency"], changed["enabled"]) == (
        True,
        None,
        2,
        True,
    )
    refused: list[dict[str, Any]] = [
        {"concurrency": 0},
        {"rate_limit": 0},
        {"retry_schedule": [0.5]},
        {"retry_schedule": [86401]},
        {"retry_schedule": [1] * 21},
        {"retry_schedule": "[1]"},
        {"permission_set_ids": []},
        {"paused": None},
        {"url": "ftp://hooks.example.com"},
        {"url": "https://user:pass@hooks.example.com"},
    ]
    for wrong in refused:
        assert (await client.patch(path, headers=search, json=wrong)).status_code == 422
    for schedule in ([], [5.0], None):
        changed = (await client.patch(path, headers=search, json={"retry_schedule": schedule})).json()
        assert changed["retry_schedule"] == schedule
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    await client.post(f"{path}/recover", headers=search, json={"since": since})
    assert (await client.get(path, headers=search)).json()["paused"] is False


async def test_since_when_it_hears(client: httpx.AsyncClient, search: dict[str, str], database: "Database") -> None:
    async def hears_from() -> datetime:
        row = await database["subscriptions"].find_one({"_id": made["id"]})
        assert row is not None
        found: datetime = row["hears_from"]
        return found

    before = datetime.now(UTC) - timedelta(seconds=5)
    made = await create(client, search)
    path = f"/v1/subscriptions/{made['id']}"
    created = await hears_from()
    assert created > before
    await client.patch(path, headers=search, json={"enabled": False})
    await client.patch(path, headers=search, json={"enabled": True})
    assert await hears_from() > created
    since = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    await client.post(f"{path}/recover", headers=search, json={"since": since.isoformat()})
    assert await hears_from() == since
