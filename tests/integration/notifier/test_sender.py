"""The HTTP client on real sockets: what is dialled is what was checked, and nothing else leaves the process."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
from aiohttp.abc import AbstractResolver

from entra_sandbox.certificates import prepare
from notifier.addresses import RefusedUrl
from notifier.resolving import Resolver
from notifier.sender import Sender
from notifier.settings import DeliverySettings
from support.names import Names
from support.notifying import SECRETS_KEY
from support.webhooks import Received, answering, endless, hang, in_turn, receiver, reset

Opened = Callable[..., AbstractAsyncContextManager[Sender]]


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


async def test_plain_http_other_ports_and_credentials_are_not_sent_where_private_networks_are_not_allowed(
    make_receiver: Any,
) -> None:
    """A subscription may be older than the setting."""
    endpoint = await make_receiver()
    port = urlsplit(endpoint.url).port
    for url in (endpoint.url, f"https://hooks.example.com:{port}/", f"https://user@hooks.example.com:{port}/"):
        async with opened(Names("127.0.0.1")) as sender:
            attempt = await sender.post(url, body=b"{}", headers={})
            with pytest.raises(RefusedUrl):
                await sender.check(url)
        assert (url, attempt.error) == (url, "url_not_allowed")
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


async def test_an_endpoint_has_to_show_a_certificate_for_its_name_by_a_trusted_authority(tmp_path: Path) -> None:
    files = prepare(tmp_path, ["hooks.test"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    async with receiver(tls=context) as endpoint:
        port = urlsplit(endpoint.url).port
        for host, bundle, error in (
            ("hooks.test", None, "tls_error"),
            ("other.test", str(files.ca), "tls_error"),
            ("hooks.test", str(files.ca), None),
        ):
            async with opened(Names("127.0.0.1"), allow_private_networks=True, ca_bundle=bundle) as sender:
                attempt = await sender.post(f"https://{host}:{port}/", body=b"{}", headers={"webhook-id": host})
            assert (host, bundle is None, attempt.error) == (host, bundle is None, error)
        assert endpoint.ids() == ["hooks.test"]


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


async def test_no_cookie_comes_back(make_receiver: Any) -> None:
    endpoint = await make_receiver(answering(204, set_cookie="session=mine; Path=/"))
    async with opened(allow_private_networks=True) as sender:
        for _ in range(2):
            # By name: a jar would not keep cookies of addresses anyhow.
            assert (await sender.post(endpoint.url.replace("127.0.0.1", "localhost"), body=b"{}", headers={})).succeeded
    assert [received.headers.get("cookie") for received in endpoint.received] == [None, None]


async def test_of_an_answer_without_an_end_only_the_beginning_is_read(make_receiver: Any) -> None:
    endpoint = await make_receiver(endless)
    async with opened(allow_private_networks=True, response_body_bytes=1000) as sender:
        attempt = await sender.post(endpoint.url, body=b"{}", headers={})
    assert (attempt.error, attempt.truncated, attempt.response_body) == (None, True, "x" * 1000)


async def test_silence_ends_an_attempt_long_before_its_whole_time(make_receiver: Any) -> None:
    endpoint = await make_receiver(hang)
    waits: dict[str, Any] = {"response_timeout_seconds": 0.2, "total_timeout_seconds": 600, "lease_seconds": 700}
    async with opened(allow_private_networks=True, **waits) as sender, asyncio.timeout(60):
        attempt = await sender.post(endpoint.url, body=b"{}", headers={"webhook-id": "x"})
    assert attempt.error == "timeout"


async def test_connections_are_kept(make_receiver: Any) -> None:
    endpoint = await make_receiver()
    async with opened(allow_private_networks=True) as sender:
        for _ in range(5):
            assert (await sender.post(endpoint.url, body=b"{}", headers={})).succeeded
    assert endpoint.connections == 1


async def test_a_kept_connection_that_breaks_is_replaced_at_once(make_receiver: Any) -> None:
    """However it breaks: by an end, which the client sees as a disconnect, or by a reset."""
    for breaks in (reset, closing):
        endpoint = await make_receiver(in_turn(answering(204), breaks, answering(204)))
        async with opened(allow_private_networks=True) as sender:
            assert (await sender.post(endpoint.url, body=b"{}", headers={"webhook-id": "x"})).succeeded
            assert (await sender.post(endpoint.url, body=b"{}", headers={"webhook-id": "y"})).succeeded
        assert endpoint.ids() == ["x", "y", "y"]


async def closing(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_a_new_connection_that_breaks_is_a_failed_attempt(make_receiver: Any) -> None:
    endpoint = await make_receiver(reset)
    async with opened(allow_private_networks=True) as sender:
        attempt = await sender.post(endpoint.url, body=b"{}", headers={"webhook-id": "x"})
    assert attempt.error == "connection_lost"
    assert endpoint.ids() == ["x"]


async def test_an_answer_that_is_not_text_takes_no_more_room_than_one_that_is(make_receiver: Any) -> None:
    endpoint = await make_receiver(answering(200, body=b"\xff" * 5000))
    async with opened(allow_private_networks=True, response_body_bytes=1000) as sender:
        attempt = await sender.post(endpoint.url, body=b"{}", headers={"webhook-id": "x"})
    assert len(attempt.response_body.encode()) <= 1000
    assert attempt.response_body.startswith("\N{REPLACEMENT CHARACTER}")
    assert attempt.truncated


async def test_a_failure_that_nobody_thought_of_is_an_outcome(
    make_receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await make_receiver()

    async def breaking(*_: Any) -> None:
        raise RuntimeError("Connection closed.")

    async with opened(allow_private_networks=True) as sender:
        monkeypatch.setattr(sender, "_exchange", breaking)
        attempt = await sender.post(endpoint.url, body=b"{}", headers={})
    assert attempt.error == "request_failed"


async def test_what_a_url_holds_is_not_logged() -> None:
    async with opened(allow_private_networks=True) as sender:
        with structlog.testing.capture_logs() as lines:
            for url in ("http://127.0.0.1:9/s3cret?token=s3cret", "http://no-such-host.invalid/s3cret"):
                assert (await sender.post(url, body=b"{}", headers={})).error is not None
    assert len(lines) == 2
    assert "s3cret" not in repr(lines)
    assert [line["host"] for line in lines] == ["127.0.0.1", "no-such-host.invalid"]


async def test_hanging_names_of_one_owner_hold_up_nobody_else(
    make_receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await make_receiver()
    released = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        if host.startswith("hangs"):
            released.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "timed out")
        return real("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    port = endpoint.url.split(":")[2].split("/")[0]
    resolver = Resolver(threads=4, per_owner=2)
    async with opened(resolver, allow_private_networks=True, connect_timeout_seconds=0.2) as sender:
        try:
            hanging = [
                await sender.post(f"http://hangs-{number}.test/", body=b"{}", headers={}, owner="app:one")
                for number in range(6)
            ]
            good = await sender.post(f"http://good.test:{port}/", body=b"{}", headers={}, owner="app:other")
        finally:
            released.set()
    # Those beyond the owner's bound don't wait for what the first ones hold.
    assert [attempt.error for attempt in hanging] == ["connect_timeout"] * 2 + ["dns_error"] * 4
    assert good.succeeded
