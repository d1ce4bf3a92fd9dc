"""Where a request comes from: an address in its one form, and a word of ours."""

import pytest
from starlette.requests import Request

from consent_gateway.web.browsers import browser_of

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"


def request(agent: str | None, client: str | None = "203.0.113.7", **headers: str) -> Request:
    sent = headers | ({"user-agent": agent} if agent is not None else {})
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    address = (client, 50_000) if client is not None else None
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "client": address})


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        (CHROME, "Chrome"),
        (f"{CHROME} Edg/142.0", "Edge"),
        (f"{CHROME} OPR/120.0", "Opera"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox"),
        ("Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15", "Safari"),
        ("<script>alert(1)</script>" * 500, "other"),
        (None, "other"),
    ],
)
def test_of_a_user_agent_its_family_is_kept_and_nothing_that_was_sent(agent: str | None, family: str) -> None:
    assert browser_of(request(agent)).family == family


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("whatever a proxy passed on", None),
        (None, None),
    ],
)
def test_an_address_is_one_or_it_is_not_kept(client: str | None, address: str | None) -> None:
    assert browser_of(request(CHROME, client)).address == address


def test_what_a_stranger_says_of_its_address_is_not_read() -> None:
    said = {"x-forwarded-for": "198.51.100.1", "forwarded": "for=198.51.100.1", "x-real-ip": "198.51.100.1"}
    assert browser_of(request(CHROME, **said)).address == "203.0.113.7"
