import httpx
import pytest
from fastapi import FastAPI, Request, Response

from consent_gateway.app import create_app
from consent_gateway.web.security import (
    FORM_BYTES,
    Cookies,
    FormRefused,
    FormTargets,
    StrictTransport,
    check_form,
    from_our_page,
    local_path,
    origin_of,
    protect,
    read_form,
)
from support.gateway import settings

ORIGIN = "https://console.test"
FORM = {"content-type": "application/x-www-form-urlencoded"}


def request(headers: dict[str, str], body: bytes = b"") -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    return Request(scope, receive)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test/",
        "\\\\evil.test",
        "/\tevil",
        "/\n/evil.test",
        " /integrations",
        "javascript:alert(1)",
        "integrations",
        "/auth/login?next=/",
        "/" + "a" * 3000,
        "/x\x7f",
    ],
)
def test_a_next_address_that_is_not_plainly_ours_leads_to_the_first_page(value: str | None) -> None:
    assert local_path(value) == "/integrations"


@pytest.mark.parametrize("value", ["/", "/integrations/microsoft-entra-id?app=search#row-x", "/connect/abc-_1"])
def test_a_next_address_of_ours_is_kept(value: str) -> None:
    assert local_path(value) == value


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://console.test/a?b", "https://console.test"),
        ("https://console.test:443", "https://console.test"),
        ("http://localhost:8080/x", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://Console.Test", "https://console.test"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"origin": ORIGIN}, True),
        ({"origin": "https://evil.test"}, False),
        ({"origin": "https://evil.test", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "http://console.test"}, False),
        ({"origin": "null"}, False),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({}, False),
    ],
)
def test_only_the_browsers_own_word_makes_a_request_ours(headers: dict[str, str], *, ours: bool) -> None:
    assert from_our_page(request(headers), origin=ORIGIN) is ours


@pytest.mark.parametrize("tokens", [[], ["wrong"], ["right", "right"], ["right", "wrong"], [""]])
def test_a_form_needs_the_sessions_token_exactly_once(tokens: list[str]) -> None:
    with pytest.raises(FormRefused):
        check_form(request({"origin": ORIGIN}), {"csrf_token": tokens}, origin=ORIGIN, token="right")


def test_a_genuine_form_passes() -> None:
    check_form(request({"origin": ORIGIN}), {"csrf_token": ["right"]}, origin=ORIGIN, token="right")


async def test_a_form_keeps_repeated_and_empty_fields() -> None:
    fields = await read_form(request(FORM, b"set=a&set=b&tenant_id=&x=%C3%A9"))
    assert fields == {"set": ["a", "b"], "tenant_id": [""], "x": ["é"]}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/plain"}, b"a=b"),
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "multipart/form-data; boundary=x"}, b""),
        ({}, b"a=b"),
        (FORM, b"a=" + b"b" * FORM_BYTES),
        (FORM, b"a=1&" * 1001),
        (FORM, b"\xff"),
    ],
)
async def test_what_is_no_form_of_ours_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(FormRefused):
        await read_form(request(headers, body))


def test_a_page_allows_nothing_inline_no_frames_and_only_named_form_targets() -> None:
    response = Response()
    protect(response, form_targets=["https://login.entra.test"], referrer="no-referrer")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["form-action"] == "'self' https://login.entra.test"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"


async def test_under_https_every_answer_says_to_come_back_by_https() -> None:
    app = FastAPI()
    app.add_middleware(StrictTransport)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ORIGIN) as client:
        answer = await client.get("/nothing-there")
    assert answer.status_code == 404
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize(("public_url", "strict"), [("https://console.test", True), ("http://localhost:8080", False)])
def test_the_service_says_so_where_people_reach_it_by_https(public_url: str, *, strict: bool) -> None:
    app = create_app(settings().model_copy(update={"public_url": public_url}))
    assert ("StrictTransport" in str([one.cls for one in app.user_middleware])) is strict


@pytest.mark.parametrize(
    ("public_url", "name", "secure"),
    [("https://console.test", "__Host-consent_console", True), ("http://localhost:8080", "consent_console", False)],
)
async def test_cookies_are_bound_to_the_host_where_https_allows_it(public_url: str, name: str, *, secure: bool) -> None:
    cookies = Cookies(public_url=public_url)
    app = FastAPI()

    @app.get("/")
    async def root() -> Response:
        response = Response()
        cookies.set(response, cookies.session, "value", seconds=60)
        return response

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=public_url) as client:
        sent = (await client.get("/")).headers["set-cookie"]
    attributes = {part.strip().lower() for part in sent.split(";")[1:]}
    assert sent.startswith(f"{name}=value;")
    assert {"httponly", "samesite=lax", "path=/", "max-age=60"} <= attributes
    assert ("secure" in attributes) is secure
    assert not any(each.startswith("domain") for each in attributes)


async def test_a_form_target_that_fails_counts_with_what_it_said_last() -> None:
    answers = ["https://login.entra.test"]

    async def entra() -> str:
        return answers.pop()

    async def issuer() -> str:
        return "https://issuer.test"

    targets = FormTargets(entra, issuer)
    assert await targets() == ["https://issuer.test", "https://login.entra.test"]
    assert await targets() == ["https://issuer.test", "https://login.entra.test"]
