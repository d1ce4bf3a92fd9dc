"""The screen and its forms over HTTP: who sees what, and which forms count."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from consent_gateway.consent.attempts import AttemptStatus, Ended, NextStep, Redirect
from consent_gateway.errors import Kind, Refused
from support.console import CONTOSO, ENTRA, Console, attempt_view, every_status

from .conftest import SCREEN, Addresses, Browser, NewBrowser, csrf_token

CONSENTS = f"{SCREEN}/consents"
ATTEMPT = "/consent/attempts/3f0e8a7c5d1b4a69"
PAGES = [
    "/integrations",
    SCREEN,
    f"{SCREEN}?add=tenant&app=search",
    ATTEMPT,
    "/connect/link-token",
    "/consent/attempts/x",
]


async def test_granting_leads_to_entra_for_this_person_set_and_tenant(browser: Browser, console: Console) -> None:
    console.tenants[:] = every_status(console.consent.catalog)
    page = await browser.open(SCREEN)
    form = {"csrf_token": csrf_token(page), "permission_set_id": "read-protected-content", "tenant_id": CONTOSO}
    answer = await browser.post(CONSENTS, form)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{ENTRA}/{CONTOSO}/v2.0/adminconsent?state=s"
    (asked,) = console.consent.asked
    assert asked[2:] == (("read-protected-content",), CONTOSO, None)
    cookie = browser.cookie()
    assert cookie is not None
    session = await console.sessions.open(cookie)
    assert session is not None
    assert (asked[1].account_id, asked[1].session_hash) == ("northwind", session.binding)


async def test_forms_may_lead_to_entra_and_to_the_issuer(browser: Browser, addresses: Addresses) -> None:
    """Chromium applies the page's policy to the redirect that answers a form."""
    policy = (await browser.open(SCREEN)).headers["content-security-policy"]
    assert f"form-action 'self' {addresses.issuer} {ENTRA};" in policy


async def test_several_sets_and_no_tenant_can_be_chosen(browser: Browser, console: Console) -> None:
    page = await browser.open(f"{SCREEN}?add=tenant")
    chosen = ["read-directory-data", "manage-accounts"]
    form = {"csrf_token": csrf_token(page), "from": "add", "permission_set_id": chosen, "tenant_id": " "}
    assert (await browser.post(CONSENTS, form)).status_code == 303
    assert console.consent.asked[0][2:] == (tuple(chosen), None, None)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"permission_set_id": ["read-directory-data"], "tenant_id": "contoso"}, "That is not a tenant ID."),
        ({"tenant_id": ""}, "Choose at least one permission set."),
    ],
)
async def test_what_was_typed_wrongly_is_put_right_where_it_was_typed(
    browser: Browser, console: Console, form: dict[str, object], says: str
) -> None:
    page = await browser.open(f"{SCREEN}?add=tenant")
    answer = await browser.post(CONSENTS, {"csrf_token": csrf_token(page), "from": "add"} | form)
    assert answer.status_code in {400, 422}
    assert says in answer.text
    assert 'id="add-tenant"' in answer.text
    assert not console.consent.asked


@pytest.mark.parametrize(
    ("token", "origin", "headers"),
    [
        ("none", "own", {}),
        ("wrong", "own", {}),
        ("right", "http://evil.test", {}),
        ("right", "http://localhost:1", {}),
        ("right", "null", {}),
        ("right", None, {}),
        ("right", None, {"sec-fetch-site": "cross-site"}),
        ("right", "own", {"content-type": "text/plain"}),
    ],
)
async def test_a_form_that_our_page_did_not_send_does_nothing(
    browser: Browser, console: Console, token: str, origin: str | None, headers: dict[str, str]
) -> None:
    page = await browser.open(SCREEN)
    tokens = {"none": {}, "wrong": {"csrf_token": "made-up"}, "right": {"csrf_token": csrf_token(page)}}
    form = {"permission_set_id": "read-directory-data"} | tokens[token]
    answer = await browser.post(CONSENTS, form, origin=origin, **headers)
    assert answer.status_code == 403
    assert "This form was not sent from our page" in answer.text
    assert not console.consent.asked


async def test_the_form_token_of_one_person_is_worth_nothing_to_another(
    new_browser: NewBrowser, console: Console
) -> None:
    mine, theirs = await new_browser(), await new_browser()
    token = csrf_token(await mine.open(SCREEN))
    await theirs.open(SCREEN, "adatum.operator")
    form = {"csrf_token": token, "permission_set_id": "read-directory-data"}
    assert (await theirs.post(CONSENTS, form)).status_code == 403
    assert not console.consent.asked


async def test_a_page_without_referrer_can_still_send_its_form(browser: Browser, console: Console) -> None:
    page = await browser.open("/connect/link-token")
    assert page.headers["referrer-policy"] == "no-referrer"
    form = {"csrf_token": csrf_token(page)}
    answer = await browser.post("/connect/link-token", form, origin="null", **{"sec-fetch-site": "same-origin"})
    assert answer.status_code == 303
    assert console.consent.asked[0][:2] == ("follow", "link-token")


async def test_looking_at_a_link_changes_nothing_and_needs_its_reader_to_be_signed_in(
    browser: Browser, console: Console
) -> None:
    assert (await browser.get("/connect/link-token")).status_code == 303
    page = await browser.open("/connect/link-token")
    assert "Connect Mobile Security to Microsoft Entra ID" in page.text
    assert not console.consent.asked
    unknown = await browser.get("/connect/another")
    assert unknown.status_code == 400


async def test_a_form_after_the_sign_in_has_ended_leads_back_and_says_that_nothing_was_done(
    browser: Browser, console: Console
) -> None:
    page = await browser.open(SCREEN)
    form = {"csrf_token": csrf_token(page), "permission_set_id": "read-directory-data"}
    cookie = browser.cookie()
    assert cookie is not None
    await console.sessions.end(cookie)
    answer = await browser.follow(await browser.post(CONSENTS, form))
    assert answer.url.path == SCREEN
    assert "nothing was changed" in answer.text
    assert not console.consent.asked


@pytest.mark.parametrize("person", ["northwind.viewer", "northwind.staff"])
async def test_a_viewer_sees_everything_and_grants_nothing(browser: Browser, console: Console, person: str) -> None:
    console.tenants[:] = every_status(console.consent.catalog)
    page = await browser.open(f"{SCREEN}?add=tenant&app=mobile-security", person)
    assert "Contoso Ltd" in page.text
    assert "Grant permissions" not in page.text
    assert "/consents" not in page.text
    form = {"csrf_token": csrf_token(page), "permission_set_id": "read-directory-data"}
    answer = await browser.post(CONSENTS, form)
    assert answer.status_code == 403
    assert "Your role does not allow this" in answer.text


async def test_each_account_sees_its_own_tenants_only(browser: Browser, console: Console) -> None:
    console.tenants[:] = every_status(console.consent.catalog)
    page = await browser.open(SCREEN, "adatum.admin")
    assert "Contoso" not in page.text
    assert "Connect your first tenant" in page.text


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_has_the_headers_that_protect_it(browser: Browser, path: str) -> None:
    page = await browser.open(path)
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    private = path.startswith(("/consent", "/connect"))
    assert page.headers["referrer-policy"] == ("no-referrer" if private else "same-origin")


async def test_redirects_of_the_flow_are_kept_from_caches_and_referrers(browser: Browser, console: Console) -> None:
    console.consent.answer = Redirect(f"{ENTRA}/proof")
    await browser.open(SCREEN)
    answer = await browser.get("/consent/callback?state=s&tenant=t")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{ENTRA}/proof")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_callback_brings_its_pairs_as_they_are_and_ends_at_its_attempt(
    browser: Browser, console: Console
) -> None:
    await browser.open(SCREEN)
    console.consent.asked.clear()
    answer = await browser.get("/consent/callback?state=a&state=b&admin_consent=True&error_description=%0d%0aX")
    assert answer.headers["location"] == ATTEMPT
    (asked,) = console.consent.asked
    assert asked[1] == (("state", "a"), ("state", "b"), ("admin_consent", "True"), ("error_description", "\r\nX"))
    assert asked[2].account_id == "northwind"


async def test_a_callback_without_a_session_is_asked_about_all_the_same(browser: Browser, console: Console) -> None:
    console.consent.answer = Refused(Kind.OTHER_BROWSER)
    answer = await browser.get("/consent/proof?state=a")
    assert answer.status_code == 403
    assert "Started in another browser" in answer.text
    assert console.consent.asked[0][2:] == (None, None)


@pytest.mark.parametrize("kind", [Kind.MISSING, Kind.UNKNOWN, Kind.EXPIRED, Kind.USED, Kind.MALFORMED])
async def test_a_refused_callback_shows_its_page_and_nothing_of_what_was_sent(
    browser: Browser, console: Console, kind: Kind
) -> None:
    console.consent.answer = Refused(kind)
    answer = await browser.get("/consent/callback", params={"error_description": "<script>alert(1)</script>"})
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/html")
    assert "Reference" in answer.text
    assert "alert(1)" not in answer.text


@pytest.mark.parametrize(
    ("kind", "status"), [(Kind.DECLINED, 200), (Kind.NOT_ADMINISTRATOR, 403), (Kind.TENANT_TAKEN, 409)]
)
async def test_the_page_of_an_attempt_answers_with_its_status(
    browser: Browser, console: Console, kind: Kind, status: int
) -> None:
    failed = {"status": AttemptStatus.FAILED, "failure": kind, "results": (), "next_step": NextStep.TRY_AGAIN}
    console.consent.view = attempt_view(console.consent.catalog, **failed)
    page = await browser.open(ATTEMPT)
    assert page.status_code == status
    assert console.consent.view.reference in page.text
    assert "Start again" in page.text


async def test_an_attempt_that_is_not_this_sessions_is_not_found(browser: Browser) -> None:
    page = await browser.open("/consent/attempts/somebody-elses")
    assert page.status_code == 404
    assert "There is nothing here" in page.text


async def test_a_defect_of_ours_is_a_page_with_a_reference_and_no_stack(browser: Browser, console: Console) -> None:
    await browser.open(SCREEN)
    console.consent.answer = Ended(attempt_id=None)  # type: ignore[arg-type]
    console.tenants.append(None)  # type: ignore[arg-type]
    page = await browser.get(SCREEN)
    assert page.status_code == 500
    assert "Something went wrong on our side" in page.text
    assert "Traceback" not in page.text
    assert "Reference" in page.text


async def test_files_are_served_for_ever_by_their_content(browser: Browser) -> None:
    page = await browser.open(SCREEN)
    style = next(part for part in page.text.split('"') if part.startswith("/static/console.css?v="))
    answer = await browser.get(style)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert (await browser.get("/static/console.css?v=old")).headers["cache-control"] == "no-cache"
    assert (await browser.get("/static/..%2ftexts.py")).status_code == 404


class Stream:
    """The names of the events of a live stream, as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> str:
        async with asyncio.timeout(60):
            async for line in self._lines:
                if line.startswith("event: "):
                    return line.removeprefix("event: ")
        return "(closed)"


@asynccontextmanager
async def listening(browser: Browser) -> AsyncIterator[Stream]:
    headers = {"accept": "text/event-stream"}
    async with browser.http.stream("GET", f"{SCREEN}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Stream(answer)


async def test_the_stream_says_changed_at_once_and_at_each_change_of_the_account(
    browser: Browser, console: Console
) -> None:
    await browser.open(SCREEN)
    async with listening(browser) as stream:
        assert await stream.next() == "changed"
        console.hints.tell("adatum", CONTOSO)
        console.hints.tell("northwind", CONTOSO)
        assert await stream.next() == "changed"
        console.hints.stop()
        assert await stream.next() == "(closed)"


async def test_the_stream_ends_with_the_sign_in(browser: Browser, console: Console) -> None:
    await browser.open(SCREEN)
    cookie = browser.cookie()
    assert cookie is not None
    async with listening(browser) as stream:
        assert await stream.next() == "changed"
        await console.sessions.end(cookie)
        assert await stream.next() == "ended"


@pytest.mark.parametrize("headers", [{"accept": "text/event-stream"}, {"x-console-live": "1"}])
async def test_what_the_page_asks_for_by_itself_is_told_that_nobody_is_signed_in(
    browser: Browser, headers: dict[str, str]
) -> None:
    assert (await browser.get(SCREEN, headers=headers)).status_code == 401


async def test_an_issuer_that_cannot_be_reached_is_a_page_that_says_so(
    addresses: Addresses, browser: Browser, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(url: str, **_: object) -> httpx.Response:
        raise httpx.ConnectError(url)

    monkeypatch.setattr(console.client, "get", unreachable)
    answer = await browser.get(SCREEN)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "Sign-in is not available" in answer.text
