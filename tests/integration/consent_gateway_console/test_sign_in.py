"""Signing in and out, and what an attacker might try on the way."""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from support.console import Console

from .conftest import SCREEN, Addresses, Browser, NewBrowser, csrf_token


def state_of(answer: httpx.Response) -> str:
    return parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]


async def test_a_person_gets_to_the_page_that_was_asked_for(browser: Browser) -> None:
    page = await browser.open(f"{SCREEN}?app=search")
    assert page.status_code == 200
    assert page.url.path == SCREEN
    assert page.url.query == b"app=search"
    assert "Northwind Traders" in page.text
    assert "Northwind operator" in page.text


async def test_the_first_address_leads_to_the_integrations(browser: Browser) -> None:
    page = await browser.open("/")
    assert page.url.path == "/integrations"
    assert "Third-Party Integration" in page.text


async def test_neither_session_nor_tokens_reach_the_page(browser: Browser, console: Console) -> None:
    page = await browser.open(SCREEN)
    cookie = browser.cookie()
    assert cookie is not None
    session = await console.sessions.open(cookie)
    assert session is not None
    for secret in (cookie, session.identity.access_token, session.identity.id_token, session.binding):
        assert secret not in page.text
        assert secret not in str(page.headers)


async def test_the_cookie_is_kept_from_scripts_and_other_sites(browser: Browser) -> None:
    sign_in_page = await browser.follow(await browser.get("/integrations"))
    answer = await browser.choose(sign_in_page, "northwind.operator")
    answer = await browser.get(answer.headers["location"])
    sent = answer.headers["set-cookie"].lower()
    assert "httponly" in sent
    assert "samesite=lax" in sent
    assert "path=/" in sent


async def test_a_session_that_somebody_planted_is_not_the_one_that_is_used(
    new_browser: NewBrowser, addresses: Addresses, console: Console
) -> None:
    victim, attacker = await new_browser(), await new_browser()
    await attacker.open("/integrations", "adatum.viewer")
    planted = attacker.cookie()
    assert planted is not None
    for value in (planted, "made-up"):
        victim.http.cookies.set("consent_console", value, domain="localhost.local", path="/")
        await victim.open("/auth/login", "northwind.operator")
        assert victim.cookie() not in {planted, "made-up", None}
        victim.http.cookies.clear()
    # The planted session is over, and never became the victim's.
    assert await console.sessions.open(planted) is None


async def test_signing_in_again_changes_the_cookie(browser: Browser) -> None:
    await browser.open("/integrations")
    first = browser.cookie()
    await browser.open("/auth/login")
    assert browser.cookie() not in {first, None}


@pytest.mark.parametrize(
    "next_path",
    ["https://evil.test/", "//evil.test", "/\\evil.test", "/%09/evil.test", "javascript:alert(1)", "/auth/x"],
)
async def test_nobody_is_led_to_another_site(browser: Browser, next_path: str) -> None:
    page = await browser.open(f"/auth/login?next={next_path}")
    assert (page.url.host, page.url.path) == ("localhost", "/integrations")


async def test_an_answer_that_another_browser_began_is_refused(new_browser: NewBrowser) -> None:
    attacker, victim = await new_browser(), await new_browser()
    sign_in_page = await attacker.follow(await attacker.get("/integrations"))
    callback = (await attacker.choose(sign_in_page, "adatum.operator")).headers["location"]
    await victim.get("/integrations")
    answer = await victim.get(callback)
    assert answer.status_code == 400
    assert "This sign-in is not known" in answer.text
    assert victim.cookie() is None
    # The attacker's own is untouched by it.
    assert (await attacker.get(callback)).status_code == 303


async def test_an_answer_counts_once(browser: Browser) -> None:
    sign_in_page = await browser.follow(await browser.get("/integrations"))
    callback = (await browser.choose(sign_in_page, "northwind.operator")).headers["location"]
    assert (await browser.get(callback)).status_code == 303
    assert (await browser.get(callback)).status_code == 400


@pytest.mark.parametrize("change", ["", "&state={state}", "&iss=http://evil.test", "&code=another"])
async def test_an_answer_with_something_missing_or_doubled_is_refused(browser: Browser, change: str) -> None:
    begun = await browser.get("/integrations")
    state = state_of(begun)
    query = f"code=made-up&state={state}" + change.format(state=state) if change else "code=made-up"
    answer = await browser.get(f"/auth/callback?{query}")
    assert answer.status_code in {400, 403}
    assert browser.cookie() is None


async def test_a_code_of_another_sign_in_is_refused(browser: Browser) -> None:
    """The code is bound to its verifier; another sign-in of the same browser has another one."""
    sign_in_page = await browser.follow(await browser.get("/integrations"))
    callback = (await browser.choose(sign_in_page, "northwind.operator")).headers["location"]
    code = parse_qs(urlsplit(callback).query)["code"][0]
    issuer = parse_qs(urlsplit(callback).query)["iss"][0]
    second = state_of(await browser.get("/integrations"))
    answer = await browser.get("/auth/callback", params={"code": code, "state": second, "iss": issuer})
    assert answer.status_code == 403
    assert browser.cookie() is None


async def test_cancelling_at_the_issuer_is_no_failure(browser: Browser) -> None:
    sign_in_page = await browser.follow(await browser.get("/integrations"))
    answer = await browser.follow(await browser.choose(sign_in_page, "cancel"))
    assert answer.status_code == 200
    assert "You cancelled the sign-in" in answer.text
    assert "the person cancelled" not in answer.text


async def test_what_the_issuer_says_of_an_error_is_never_shown(browser: Browser) -> None:
    state = state_of(await browser.get("/integrations"))
    shout = "<script>alert(1)</script>"
    params = {"state": state, "error": "server_error", "error_description": shout}
    answer = await browser.get("/auth/callback", params=params)
    assert answer.status_code == 502
    assert "alert(1)" not in answer.text


async def test_signing_out_ends_the_session_here_and_at_the_issuer(
    browser: Browser, addresses: Addresses, console: Console
) -> None:
    page = await browser.open(SCREEN)
    cookie = browser.cookie()
    assert cookie is not None
    answer = await browser.post("/auth/logout", {"csrf_token": csrf_token(page)})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(f"{addresses.issuer}/logout?id_token_hint=")
    assert await console.sessions.open(cookie) is None
    assert browser.cookie() is None
    # The issuer asks who it is again: its own sign-in is over too.
    assert str((await browser.follow(answer)).url).startswith(f"{addresses.issuer}/authorize")


async def test_nobody_can_be_signed_out_by_another_site(browser: Browser, console: Console) -> None:
    page = await browser.open(SCREEN)
    cookie = browser.cookie()
    assert cookie is not None
    assert (await browser.post("/auth/logout", {"csrf_token": "made-up"})).status_code == 403
    answer = await browser.post("/auth/logout", {"csrf_token": csrf_token(page)}, origin="http://evil.test")
    assert answer.status_code == 403
    assert await console.sessions.open(cookie) is not None


async def test_signing_out_twice_is_no_error(browser: Browser) -> None:
    answer = await browser.post("/auth/logout", {"csrf_token": ""})
    assert answer.status_code == 200
    assert "You are signed out" in answer.text
