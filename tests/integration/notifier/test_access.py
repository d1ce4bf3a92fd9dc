"""Who may do what: every route of the API, as its own document lists them, so that no new one is forgotten."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest_asyncio

from notifier.notifications import ping
from notifier.portal_sessions import LINK, SESSION, PortalSessions
from notifier.subscriptions import Owner
from support.tokens import Issuer, issuing

if TYPE_CHECKING:
    from shared.mongo import Database

BODIES: dict[str, dict[str, Any]] = {
    "post /v1/subscriptions": {"url": "https://hooks.example.com/"},
    "patch /v1/subscriptions/{subscription_id}": {"description": "theirs"},
    "post /v1/subscriptions/{subscription_id}/recover": {"since": datetime.now(UTC).isoformat()},
    "post /v1/expunge": {},
}
STREAM = "get /v1/stream"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A notifier in which the app ``search`` has one of everything."""

    client: httpx.AsyncClient
    ids: dict[str, str]
    routes: list[str]

    async def ask(self, route: str, headers: dict[str, str]) -> httpx.Response:
        """The answer to a route for ids of ``search``."""
        method, path = route.split(" ", 1)
        return await self.client.request(method, path.format_map(self.ids), headers=headers, json=BODIES.get(route))


@pytest_asyncio.fixture
async def site(serve: Any, stage: Any, issuer: Issuer) -> AsyncIterator[Site]:
    subscription = await stage.subscribe("https://hooks.example.com/", app_id="search", paused=True)
    headers = issuer.headers("app", app_id="search")
    async with serve() as served, httpx.AsyncClient(base_url=served.url, timeout=20) as client:
        document = (await client.get("/openapi.json")).json()
        routes = [f"{method} {path}" for path, methods in document["paths"].items() for method in methods]
        delivery = (await client.post(f"/v1/subscriptions/{subscription.id}/test", headers=headers)).json()
        expunge = (await client.post("/v1/expunge", headers=headers, json={"account_id": "adatum"})).json()
        ids = {
            "subscription_id": subscription.id,
            "delivery_id": delivery["delivery_id"],
            "expunge_id": expunge["id"],
        }
        yield Site(client=client, ids=ids, routes=routes)


async def test_no_route_answers_without_a_token_of_the_issuer(site: Site, issuer: Issuer) -> None:
    async with issuing() as stranger:
        forged = Issuer(url=issuer.url, key=stranger.key).headers("app", app_id="search")
    for route in site.routes:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, forged):
            answer = await site.ask(route, headers)
            assert (route, answer.status_code) == (route, 401)
            assert answer.headers["content-type"] == "application/problem+json"


async def test_no_route_is_for_other_roles(site: Site, issuer: Issuer) -> None:
    for role in ("viewer", "operator", "staff"):
        headers = issuer.headers(role, account_id="northwind")
        for route in site.routes:
            # Whoever may read in an account may follow its changes.
            if route != STREAM:
                assert (role, route, (await site.ask(route, headers)).status_code) == (role, route, 403)
    nobody = [issuer.headers("staff"), issuer.headers("app"), issuer.headers("admin")]
    for route in site.routes:
        assert [(await site.ask(route, headers)).status_code for headers in nobody] == [403, 401, 401], route


async def test_an_app_acts_by_its_role_and_not_by_being_named_in_a_token(site: Site, issuer: Issuer) -> None:
    """A person's token can name the app that the person came from."""
    for role in ("viewer", "operator", "staff"):
        headers = issuer.headers(role, account_id="northwind", app_id="search")
        for route in site.routes:
            if route != STREAM:
                assert (role, route, (await site.ask(route, headers)).status_code) == (role, route, 403)
    assert (await site.ask(STREAM, issuer.headers("staff", app_id="search"))).status_code == 403
    # An administrator who came from there administers the account.
    admin = issuer.headers("admin", account_id="northwind", app_id="search")
    for route in site.routes:
        if "{" in route:
            assert (route, (await site.ask(route, admin)).status_code) == (route, 404)
    assert (await site.ask("get /v1/subscriptions", admin)).json()["items"] == []
    made = (await site.ask("post /v1/subscriptions", admin)).json()
    assert (made["app_id"], made["account_id"]) == (None, "northwind")


async def test_an_app_is_over_all_accounts_whatever_account_its_token_names(site: Site, issuer: Issuer) -> None:
    headers = issuer.headers("app", app_id="search", account_id="northwind")
    (found,) = (await site.ask("get /v1/subscriptions", headers)).json()["items"]
    assert (found["id"], found["app_id"], found["account_id"]) == (site.ids["subscription_id"], "search", None)
    assert (await site.ask("get /v1/deliveries/{delivery_id}", headers)).status_code == 200
    others = issuer.headers("app", app_id="workbench", account_id="northwind")
    assert (await site.ask("get /v1/subscriptions", others)).json()["items"] == []


async def test_what_is_anothers_looks_absent_on_every_route_that_names_it(site: Site, issuer: Issuer) -> None:
    strangers = [
        issuer.headers("app", app_id="workbench"),
        issuer.headers("admin", account_id="northwind"),
        issuer.headers("admin", account_id="search"),
        issuer.headers("app", app_id="northwind"),
    ]
    named = [route for route in site.routes if "{" in route]
    assert len(named) == 12
    for route in named:
        for headers in strangers:
            answer = await site.ask(route, headers)
            assert (route, answer.status_code) == (route, 404)
            assert not any(each in answer.text for each in site.ids.values())
    # Nothing of it has changed, and to its owner all of it is there.
    mine = issuer.headers("app", app_id="search")
    found = (await site.ask("get /v1/subscriptions/{subscription_id}", mine)).json()
    assert (found["description"], found["paused"], found["enabled"]) == (None, True, True)
    delivery = (await site.ask("get /v1/deliveries/{delivery_id}", mine)).json()
    assert (delivery["status"], delivery["expunged_at"]) == ("pending", None)
    assert (await site.ask("get /v1/expunges/{expunge_id}", mine)).status_code == 200


class Shifted:
    """A clock that goes wrong by as much as one likes."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


async def test_links_and_sessions_of_the_portal_end(database: "Database") -> None:
    clock = Shifted()
    sessions = PortalSessions(database, clock)  # type: ignore[arg-type] # a clock
    owner = Owner(app_id="search")
    late, (in_time, _) = (await sessions.link(owner))[0], await sessions.link(owner)
    session = await sessions.open(in_time)
    assert session is not None
    assert await sessions.find(session.token) == session
    # Neither is the other, and only hashes are stored.
    assert await sessions.find(late) is None
    assert await sessions.open(session.token) is None
    rows = await database["portal_sessions"].find().to_list(None)
    assert not any(token in repr(rows) for token in (late, in_time, session.token, session.csrf))
    clock.by = LINK
    assert await sessions.open(late) is None
    assert await sessions.find(session.token) == session
    clock.by = SESSION
    assert await sessions.find(session.token) is None
    await sessions.create_indexes()
    indexes = await database["portal_sessions"].index_information()
    assert indexes["expires_at_ttl"]["expireAfterSeconds"] == 0


async def test_what_is_kept_expires(run_engine: Any, settings: Any, database: "Database") -> None:
    """Of each collection that holds what somebody was told: by which time, and how long after it."""
    async with run_engine() as engine:
        notice = ping(notice_id="one", at=engine.clock.now(), subscription_id="s", app_id="search", account_id=None)
        await engine.events.add([(notice, None)])
    kept = settings.retention
    for name, index, seconds in (
        ("events", "created_at_ttl", kept.events_seconds),
        ("deliveries", "ended_at_ttl", kept.deliveries_seconds),
        ("expunges", "ended_at_ttl", kept.deliveries_seconds),
        ("portal_sessions", "expires_at_ttl", 0),
        ("processes", "seen_at_ttl", 3600),
    ):
        indexes = await database[name].index_information()
        assert (name, indexes[index]["expireAfterSeconds"]) == (name, seconds)
    row = await database["events"].find_one({"_id": "one"})
    assert row is not None
    assert isinstance(row["created_at"], datetime)
