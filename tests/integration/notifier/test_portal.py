"""The portal in a browser's place: signing in by a link, looking, sending again, and all that must not work."""

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio

from notifier.delivery_store import DeliveryStore
from support.eventually import eventually
from support.status_events import status_event
from support.tokens import Issuer
from support.webhooks import answering

ORIGIN = "http://localhost:8082"


@pytest_asyncio.fixture
async def served(serve: Any) -> AsyncIterator[Any]:
    async with serve() as running:
        yield running


@asynccontextmanager
async def browser(served: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=20, headers={"Origin": ORIGIN}) as client:
        yield client


async def link_for(served: Any, headers: dict[str, str]) -> str:
    """The path of a new link."""
    async with httpx.AsyncClient(base_url=served.url) as api:
        answer = await api.post("/v1/portal-links", headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    url: str = answer.json()["url"]
    assert url.startswith(f"{ORIGIN}/portal/open/")
    return url.removeprefix(ORIGIN)


@asynccontextmanager
async def signed_in(served: Any, headers: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(served) as client:
        answer = await client.post(await link_for(served, headers))
        assert (answer.status_code, answer.headers["location"]) == (303, "/portal")
        yield client


def csrf(page: httpx.Response) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page.text)
    assert found is not None
    return found[1]


@pytest.fixture
def search(issuer: Issuer) -> dict[str, str]:
    return issuer.headers("app", app_id="search")


async def test_a_link_opens_one_session_and_a_look_at_it_uses_nothing_up(served: Any, search: dict[str, str]) -> None:
    link = await link_for(served, search)
    async with browser(served) as client:
        for _ in range(2):
            assert "Open" in (await client.get(link)).text
        strange = await client.post(link, headers={"Origin": "https://evil.example"})
        assert (strange.status_code, "set-cookie" in strange.headers) == (403, False)
        opened = await client.post(link)
        assert opened.status_code == 303
        cookie = opened.headers["set-cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/"))
        assert (await client.get("/portal")).status_code == 200
    async with browser(served) as other:
        assert (await other.post(link)).status_code == 404
        assert (await other.get("/portal")).status_code == 401


async def test_a_developer_sees_what_was_sent_and_sends_it_again(
    served: Any, stage: Any, search: dict[str, str], deliveries: DeliveryStore
) -> None:
    endpoint = await stage.make_receiver(answering(500, body=b"<script>alert(1)</script>"))
    subscription = await stage.subscribe(endpoint.url, app_id="search", description="<b>mine</b>")
    await stage.publish(status_event())

    async def dead() -> Any:
        return await deliveries.list_of(subscription.id, status="dead", after=None, limit=10)

    (delivery,) = await eventually(dead, within=40)
    async with signed_in(served, search) as client:
        overview = await client.get("/portal")
        assert endpoint.url in overview.text
        assert "&lt;b&gt;mine" in overview.text
        listed = await client.get(f"/portal/subscriptions/{subscription.id}", params={"status": "dead"})
        assert f"/portal/deliveries/{delivery.id}" in listed.text
        assert "There is none" in (await client.get(f"/portal/subscriptions/{subscription.id}?status=pending")).text
        shown = await client.get(f"/portal/deliveries/{delivery.id}")
        assert "<script>" not in shown.text
        assert "alert(1)" in html.unescape(shown.text)
        assert '"permission_set_id": "read-directory-data"' in html.unescape(shown.text)
        policy = shown.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "script" not in policy
        assert shown.headers["cache-control"] == "no-store"
        endpoint.answer = answering(204)
        sent = await client.post(f"/portal/deliveries/{delivery.id}/resend", data={"csrf_token": csrf(shown)})
        assert sent.status_code == 303

    async def delivered() -> Any:
        return await deliveries.list_of(subscription.id, status="delivered", after=None, limit=10)

    await eventually(delivered)


async def test_what_belongs_to_others_looks_absent_and_forms_of_others_are_refused(
    served: Any, stage: Any, issuer: Issuer, search: dict[str, str], deliveries: DeliveryStore
) -> None:
    endpoint = await stage.make_receiver()
    subscription = await stage.subscribe(endpoint.url, app_id="search")
    await stage.publish(status_event())

    async def delivered() -> Any:
        return await deliveries.list_of(subscription.id, status="delivered", after=None, limit=10)

    (delivery,) = await eventually(delivered, within=40)
    path = f"/portal/deliveries/{delivery.id}"
    for others in (issuer.headers("app", app_id="workbench"), issuer.headers("admin", account_id="northwind")):
        async with signed_in(served, others) as client:
            mine = csrf(await client.get("/portal"))
            assert endpoint.url not in (await client.get("/portal")).text
            assert (await client.get(path)).status_code == 404
            assert (await client.get(f"/portal/subscriptions/{subscription.id}")).status_code == 404
            assert (await client.post(f"{path}/resend", data={"csrf_token": mine})).status_code == 404
    async with signed_in(served, search) as client:
        token = csrf(await client.get(path))
        for refused in (
            await client.post(f"{path}/resend"),
            await client.post(f"{path}/resend", data={"csrf_token": "0" * 64}),
            await client.post(f"{path}/resend", data={"csrf_token": token}, headers={"Origin": "https://evil.example"}),
        ):
            assert refused.status_code == 403
        signed_out = await client.post("/portal/sign-out", data={"csrf_token": token})
        assert signed_out.status_code == 200
        assert (await client.get("/portal")).status_code == 401
    assert len(endpoint.received) == 1


async def test_only_owners_get_links(served: Any, issuer: Issuer) -> None:
    async with httpx.AsyncClient(base_url=served.url) as api:
        assert (await api.post("/v1/portal-links")).status_code == 401
        headers = issuer.headers("viewer", account_id="northwind")
        assert (await api.post("/v1/portal-links", headers=headers)).status_code == 403


async def test_behind_https_the_cookie_belongs_to_this_host_alone(serve: Any, search: dict[str, str]) -> None:
    async with serve(public_url="https://notifier.example") as running, httpx.AsyncClient(base_url=running.url) as api:
        url: str = (await api.post("/v1/portal-links", headers=search)).json()["url"]
        opened = await api.post(url.removeprefix("https://notifier.example"))
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith("__Host-portal=")
    assert {"secure", "httponly", "path=/", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
    assert "domain" not in cookie.lower()
