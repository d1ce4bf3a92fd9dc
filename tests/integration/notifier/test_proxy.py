"""Webhooks by way of the operator's proxy: what it is asked for, what never comes to it, and whose fault a fault is."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from pydantic import SecretStr

from entra_sandbox.certificates import prepare
from notifier.addresses import RefusedUrl
from notifier.notifications import notice_of
from notifier.sender import Sender
from notifier.settings import DeliverySettings
from support.eventually import eventually
from support.names import UNKNOWN, Names
from support.notifying import SECRETS_KEY, told
from support.proxy import Proxy, proxy
from support.status_events import status_event
from support.webhooks import Receiver, receiver

URL = "https://hooks.test/consent"
PUBLIC, PRIVATE = "93.184.215.14", "10.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A proxy, and the endpoint that it leads to."""

    proxy: Proxy
    endpoint: Receiver
    ca: Path

    @asynccontextmanager
    async def sender(self, answer: str, **changes: Any) -> AsyncIterator[Sender]:
        """A sender for which every name has this address."""
        settings = {"secrets_key": SECRETS_KEY, "proxy_url": self.proxy.url, "ca_bundle": str(self.ca), **changes}
        sender = Sender(DeliverySettings.model_validate(settings), resolver=Names(answer))
        await sender.open()
        try:
            yield sender
        finally:
            await sender.close()


@pytest_asyncio.fixture
async def way(tmp_path: Path) -> AsyncIterator[Way]:
    files = prepare(tmp_path, ["hooks.test"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(receiver(tls=context))
        made = await stack.enter_async_context(proxy(urlsplit(endpoint.url).port or 0))
        yield Way(proxy=made, endpoint=endpoint, ca=files.ca)


@pytest.mark.parametrize("address", [PUBLIC, UNKNOWN], ids=["public", "known to the proxy only"])
async def test_it_tunnels_to_the_name_and_sees_nothing_of_the_request(address: str, way: Way) -> None:
    async with way.sender(address) as sender:
        await sender.check(URL)
        attempt = await sender.post(URL, body=b"{}", headers={"webhook-id": "one"})
    assert (attempt.status_code, attempt.error) == (204, None)
    assert way.proxy.asked == ["hooks.test:443"]
    assert "Proxy-Authorization: Basic " in way.proxy.heads[0]
    assert "webhook-id" not in way.proxy.heads[0].lower()
    (received,) = way.endpoint.received
    assert (received.id, received.body, received.path) == ("one", b"{}", "/consent")
    assert "proxy-authorization" not in received.headers


@pytest.mark.parametrize(
    ("url", "address", "error"),
    [
        (URL, PRIVATE, "address_not_allowed"),
        (URL, f"{PUBLIC} {PRIVATE}", "address_not_allowed"),
        (URL, "::ffff:127.0.0.1", "address_not_allowed"),
        ("https://10.0.0.1/", PUBLIC, "url_not_allowed"),
        ("https://[::1]/", PUBLIC, "url_not_allowed"),
        ("https://localhost/", PUBLIC, "url_not_allowed"),
        ("http://hooks.test/", PUBLIC, "url_not_allowed"),
        ("https://hooks.test:22/", PUBLIC, "url_not_allowed"),
    ],
)
async def test_what_is_known_here_to_lead_inside_does_not_come_to_it(
    url: str, address: str, error: str, way: Way
) -> None:
    async with way.sender(address) as sender:
        with pytest.raises(RefusedUrl):
            await sender.check(url)
        attempt = await sender.post(url, body=b"{}", headers={})
    assert (attempt.status_code, attempt.error) == (None, error)
    assert way.proxy.asked == []


async def test_where_private_networks_are_allowed_the_proxy_decides(way: Way) -> None:
    async with way.sender(PRIVATE, allow_private_networks=True) as sender:
        assert (await sender.post(URL, body=b"{}", headers={})).status_code == 204
        # Without a tunnel, it is the proxy that reads the request, and is told who we are.
        way.proxy.status = 204
        assert (await sender.post("http://hooks.test/plain", body=b"{}", headers={})).status_code == 204
    assert way.proxy.asked[1] == "http://hooks.test/plain"
    assert "Proxy-Authorization: Basic " in way.proxy.heads[1]


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_says_so(status: int, way: Way) -> None:
    way.proxy.status = status
    async with way.sender(PUBLIC) as sender:
        attempt = await sender.post(URL, body=b"{}", headers={})
    assert (attempt.status_code, attempt.error) == (None, "proxy_refused")


async def test_a_proxy_that_is_away_is_no_fault_of_the_endpoint(
    run_engine: Any, subscribe: Any, subscriptions: Any, deliveries: Any
) -> None:
    subscription = await subscribe(URL, app_id="search")
    notice = notice_of(status_event())
    assert notice is not None
    away = SecretStr("http://127.0.0.1:9")
    async with run_engine(proxy_url=away, breaker_failures=1, retry_schedule=(0.01,)) as engine:
        await engine.intake.deliver(told([notice]))

        async def dead() -> Any:
            return await deliveries.list_of(subscription.id, status="dead", after=None, limit=1)

        (found,) = await eventually(dead, within=30)
    assert {attempt.error for attempt in found.attempts} == {"proxy_unreachable"}
    stored = (await subscriptions.by_ids([subscription.id]))[subscription.id]
    assert (stored.failing_since, stored.trips, stored.enabled) == (None, 0, True)


async def attempts_through(url: str, run_engine: Any, subscribe: Any, deliveries: Any, endpoint: str = URL) -> Any:
    """What came of a delivery through a proxy that is given a moment, and the endpoint's state after it."""
    subscription = await subscribe(endpoint, app_id="search")
    notice = notice_of(status_event())
    assert notice is not None
    waits = {"connect_timeout_seconds": 0.3, "response_timeout_seconds": 0.3, "total_timeout_seconds": 5.0}
    changes = {"proxy_url": SecretStr(url), "breaker_failures": 1, "breaker_seconds": 0.01, "retry_schedule": (0.01,)}
    async with run_engine(**changes, **waits, lease_seconds=12.0) as engine:
        await engine.intake.deliver(told([notice]))

        async def dead() -> Any:
            return await deliveries.list_of(subscription.id, status="dead", after=None, limit=1)

        (found,) = await eventually(dead, within=30)
        (state,) = (await engine.subscriptions.by_ids([subscription.id])).values()
    return [attempt.error for attempt in found.attempts], state


async def test_a_proxy_that_hangs_is_no_fault_of_the_endpoint(
    way: Way, run_engine: Any, subscribe: Any, deliveries: Any
) -> None:
    way.proxy.hangs_at = ""
    errors, state = await attempts_through(way.proxy.url, run_engine, subscribe, deliveries)
    assert errors == ["proxy_unreachable"] * 2
    assert (state.failing_since, state.trips, state.enabled) == (None, 0, True)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, the proxy gets to answer."""
    monkeypatch.setattr("notifier.proxying.PROBE_SECONDS", 4.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("hangs_at", ["hooks.test", "http://hooks.test"], ids=["tunnel", "plain"])
async def test_an_endpoint_that_hangs_behind_a_proxy_that_answers_is_its_own_fault(
    hangs_at: str, way: Way, run_engine: Any, subscribe: Any, deliveries: Any
) -> None:
    way.proxy.hangs_at = hangs_at
    url = URL if hangs_at == "hooks.test" else "http://hooks.test/"
    errors, state = await attempts_through(way.proxy.url, run_engine, subscribe, deliveries, url)
    assert set(errors) == {"connect_timeout" if hangs_at == "hooks.test" else "timeout"}
    assert state.failing_since is not None
