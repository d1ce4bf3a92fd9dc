"""The HTTP client on real sockets: what is dialled is what was checked, and nothing else leaves the process."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from notifier.addresses import RefusedUrl
from notifier.sender import Sender
from notifier.settings import DeliverySettings
from support.notifying import SECRETS_KEY
from support.webhooks import answering

Opened = Callable[..., AbstractAsyncContextManager[Sender]]


class Names(AbstractResolver):
    """A resolver that gives the answers of a test, one after the other."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in answer.split()
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def opened(resolver: AbstractResolver | None = None, **changes: Any) -> AsyncIterator[Sender]:
    sender = Sender(
        DeliverySettings.model_validate({"secrets_key": SECRETS_KEY, **changes}),
        resolver=resolver,
    )
    await sender.open()
    try:
        yield sender
    finally:
        await sender.close()


async def test_a_name_that_leads_inside_is_not_dialled(make_receiver: Any) -> None:
    endpoint = await make_receiver()
    port = int(endpoint.url.split(":")[2].split("/")[0])
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1 127.0.0.1"):
        async with opened(Names(address), ports=(port,)) as sender:
            attempt = await sender.post(f"https://hooks.example.com:{port}/hook", body=b"{}", headers={})
        assert attempt.error == "address_not_allowed", address
    assert endpoint.connections == 0


async def test_a_name_that_is_bound_anew_between_check_and_dial_is_not_dialled(make_receiver: Any) -> None:
    endpoint = await make_receiver()
    port = int(endpoint.url.split(":")[2].split("/")[0])
    names = Names("93.184.216.34", "127.0.0.1")
    async with opened(names, ports=(port,)) as sender:
        await sender.check(f"https://hooks.example.com:{port}/hook")
        attempt = await sender.post(f"https://hooks.example.com:{port}/hook", body=b"{}", headers={})
    assert (names.asked, attempt.error) == (2, "address_not_allowed")
    assert endpoint.connections == 0


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:{port}/", "https://[::1]:{port}/", "https://2130706433:{port}/", "https://0x7f.1:{port}/"],
)
async def test_an_address_in_the_url_is_not_dialled_however_it_is_written(url: str, make_receiver: Any) -> None:
    endpoint = await make_receiver()
    port = int(endpoint.url.split(":")[2].split("/")[0])
    async with opened(ports=(port,)) as sender:
        attempt = await sender.post(url.format(port=port), body=b"{}", headers={})
        with pytest.raises(RefusedUrl):
            await sender.check(url.format(port=port))
    assert attempt.status_code is None
    assert attempt.error in {"address_not_allowed", "url_not_allowed"}
    assert endpoint.connections == 0


async def test_plain_http_is_not_sent_where_private_networks_are_not_allowed(make_receiver: Any) -> None:
    """A subscription may be older than the setting."""
    endpoint = await make_receiver()
    async with opened() as sender:
        attempt = await sender.post(endpoint.url, body=b"{}", headers={})
    assert attempt.error == "url_not_allowed"
    assert endpoint.connections == 0


@pytest.mark.parametrize("answers", ["127.0.0.1", "10.1.2.3", "8.8.8.8 192.168.0.1", "fd00:ec2::254"])
async def test_a_name_that_leads_inside_is_refused_when_it_is_named(answers: str) -> None:
    async with opened(Names(answers)) as sender:
        with pytest.raises(RefusedUrl, match="public Internet"):
            await sender.check("https://hooks.example.com/hook")


async def test_a_public_name_is_taken_and_an_unknown_one_is_not() -> None:
    async with opened(Names("93.184.216.34 2606:2800:220:1::")) as sender:
        await sender.check("https://hooks.example.com/hook")
    async with opened() as sender:
        with pytest.raises(RefusedUrl, match="resolved"):
            await sender.check("https://no-such-host.invalid/hook")


async def test_proxies_of_the_environment_are_not_asked(make_receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, endpoint = await make_receiver(), await make_receiver()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, proxy.url)
    async with opened(allow_private_networks=True) as sender:
        attempt = await sender.post(endpoint.url, body=b"{}", headers={})
    assert attempt.status_code == 204
    assert proxy.connections == 0


async def test_headers_name_us_and_ask_for_no_compression(make_receiver: Any) -> None:
    endpoint = await make_receiver(answering(200, body=b"\x1f\x8b not unpacked", content_encoding="gzip"))
    async with opened(allow_private_networks=True) as sender:
        attempt = await sender.post(endpoint.url, body=b'{"a":1}', headers={"webhook-id": "x"})
    headers = endpoint.received[0].headers
    assert headers["accept-encoding"] == "identity"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("consent-platform-notifier/")
    assert "cookie" not in headers
    assert attempt.response_body.endswith("not unpacked")


async def test_connections_are_kept(make_receiver: Any) -> None:
    endpoint = await make_receiver()
    async with opened(allow_private_networks=True) as sender:
        for _ in range(5):
            assert (await sender.post(endpoint.url, body=b"{}", headers={})).succeeded
    assert endpoint.connections == 1
