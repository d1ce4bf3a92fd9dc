"""The console signs a person in: the flow as a browser and a confidential client see it."""

import base64
import hashlib
import html
import re
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
import pytest

from platform_idp.settings import Settings

REDIRECT_URI = "http://localhost:8080/auth/callback"
CONSOLE = ("consent-console", "console-demo-secret")
VERIFIER = secrets.token_urlsafe(48)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def asked(**changes: str) -> dict[str, str]:
    return {
        "client_id": "consent-console",
        "redirect_uri": REDIRECT_URI,
        "response_type": "code",
        "scope": "openid",
        "state": "the-state",
        "nonce": "the-nonce",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changes,
    }


async def choose(browser: httpx.AsyncClient, choice: str, **changes: str) -> httpx.Response:
    return await browser.post("/sign-in", params=asked(**changes), data={"choice": choice})


def answer(response: httpx.Response) -> dict[str, str]:
    """The parameters that a redirect brings to the client."""
    assert response.status_code == 303
    assert response.headers["location"].startswith(REDIRECT_URI + "?")
    return {name: value for name, (value,) in parse_qs(urlsplit(response.headers["location"]).query).items()}


async def redeem(browser: httpx.AsyncClient, code: str, **changes: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI, "code_verifier": VERIFIER}
    return await browser.post("/token", data={**form, **changes}, auth=CONSOLE)


async def verified(browser: httpx.AsyncClient, token: str, audience: str) -> dict[str, Any]:
    """The claims of a token, checked against the published keys as any service would."""
    document = (await browser.get("/.well-known/openid-configuration")).json()
    keys = jwt.PyJWKSet.from_dict((await browser.get(urlsplit(document["jwks_uri"]).path)).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, ["RS256"], audience=audience, issuer=document["issuer"])
    return claims


async def test_from_the_sign_in_page_to_tokens(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/authorize", params=asked())
    assert page.status_code == 200
    form = re.search(r'<form method="post" action="([^"]+)"', page.text)
    assert form is not None
    action = html.unescape(form.group(1))

    back = answer(await browser.post(action, data={"choice": "northwind.operator"}))
    assert back["state"] == "the-state"
    assert back["iss"] == "http://localhost:8091"
    response = await redeem(browser, back["code"])

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    tokens = response.json()
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 3600, "openid")
    assert "refresh_token" not in tokens

    access = await verified(browser, tokens["access_token"], "consent-platform")
    assert jwt.get_unverified_header(tokens["access_token"])["typ"] == "at+jwt"
    assert access["exp"] - access["iat"] == 3600
    assert {name: access[name] for name in ("account_id", "account_name", "roles", "client_id")} == {
        "account_id": "northwind",
        "account_name": "Northwind Traders",
        "roles": ["operator"],
        "client_id": "consent-console",
    }
    assert {"sub", "jti", "nbf"} <= set(access)
    assert not {"name", "nonce", "app_id"} & set(access)

    identity = await verified(browser, tokens["id_token"], "consent-console")
    assert jwt.get_unverified_header(tokens["id_token"])["typ"] == "JWT"
    assert (identity["nonce"], identity["name"], identity["sub"]) == ("the-nonce", "Northwind operator", access["sub"])


async def test_someone_who_is_signed_in_is_sent_straight_back(browser: httpx.AsyncClient) -> None:
    await choose(browser, "adatum.admin")

    silent = answer(await browser.get("/authorize", params=asked(prompt="none")))
    assert "code" in silent
    ordinary = await browser.post("/authorize", data=asked())
    tokens = (await redeem(browser, answer(ordinary)["code"])).json()
    assert (await verified(browser, tokens["id_token"], "consent-console"))["name"] == "Adatum admin"


async def test_prompt_none_never_shows_a_page(browser: httpx.AsyncClient) -> None:
    refused = answer(await browser.get("/authorize", params=asked(prompt="none")))

    assert (refused["error"], refused["state"]) == ("login_required", "the-state")


@pytest.mark.parametrize("prompt", ["login", "select_account"])
async def test_prompt_login_shows_the_page_to_someone_signed_in(browser: httpx.AsyncClient, prompt: str) -> None:
    await choose(browser, "adatum.admin")
    page = await browser.get("/authorize", params=asked(prompt=prompt))

    assert page.status_code == 200
    assert "You are signed in as Adatum admin" in page.text


async def test_a_sign_in_older_than_max_age_is_asked_again(
    browser: httpx.AsyncClient, let_pass: Callable[[float], None]
) -> None:
    await choose(browser, "adatum.admin")
    let_pass(61)

    assert (await browser.get("/authorize", params=asked(max_age="60"))).status_code == 200
    assert (await browser.get("/authorize", params=asked(max_age="3600"))).status_code == 303


async def test_a_sign_in_ends(
    browser: httpx.AsyncClient, let_pass: Callable[[float], None], settings: Settings
) -> None:
    await choose(browser, "adatum.admin")
    let_pass(settings.tokens.session_seconds)

    refused = answer(await browser.get("/authorize", params=asked(prompt="none")))
    assert refused["error"] == "login_required"


async def test_a_person_may_cancel(browser: httpx.AsyncClient) -> None:
    refused = answer(await choose(browser, "cancel"))

    assert refused["error"] == "access_denied"


async def test_an_unregistered_address_is_never_redirected_to(browser: httpx.AsyncClient) -> None:
    for response in (
        await browser.get("/authorize", params=asked(redirect_uri="https://evil.example/cb")),
        await choose(browser, "northwind.admin", redirect_uri="https://evil.example/cb"),
        await choose(browser, "cancel", redirect_uri="https://evil.example/cb"),
    ):
        assert response.status_code == 400
        assert "location" not in response.headers
        assert "set-cookie" not in response.headers


async def test_a_person_who_does_not_exist_is_refused(browser: httpx.AsyncClient) -> None:
    response = await choose(browser, "northwind.owner")

    assert response.status_code == 400
    assert "set-cookie" not in response.headers


async def test_another_site_cannot_sign_somebody_in(browser: httpx.AsyncClient) -> None:
    """Login CSRF: the form must come from the issuer's own page."""
    forged = await browser.post(
        "/sign-in", params=asked(), data={"choice": "adatum.admin"}, headers={"Origin": "https://evil.example"}
    )
    own = await browser.post(
        "/sign-in", params=asked(), data={"choice": "adatum.admin"}, headers={"Origin": "http://localhost:8091"}
    )

    assert forged.status_code == 400
    assert "set-cookie" not in forged.headers
    assert own.status_code == 303


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(browser: httpx.AsyncClient) -> None:
    cookie = (await choose(browser, "adatum.admin")).headers["set-cookie"]

    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie  # the issuer of the demo is plain http


async def test_the_page_may_only_post_to_itself_and_on_to_the_client(browser: httpx.AsyncClient) -> None:
    policy = (await browser.get("/authorize", params=asked())).headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "form-action 'self' http://localhost:8080" in policy
    assert "frame-ancestors 'none'" in policy


async def test_what_a_stranger_puts_into_the_url_is_not_markup(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/authorize", params=asked(state='"><script>alert(1)</script>'))

    assert "<script" not in page.text


async def test_what_a_stranger_puts_into_a_sign_out_link_is_not_markup(browser: httpx.AsyncClient) -> None:
    await choose(browser, "adatum.admin")
    page = await browser.get("/logout", params={"state": '"><script>alert(1)</script>'})

    assert "Sign out?" in page.text
    assert "<script" not in page.text


async def test_a_code_is_good_once(browser: httpx.AsyncClient) -> None:
    code = answer(await choose(browser, "northwind.viewer"))["code"]

    assert (await redeem(browser, code)).status_code == 200
    again = await redeem(browser, code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


async def test_a_code_lives_for_a_minute(browser: httpx.AsyncClient, let_pass: Callable[[float], None]) -> None:
    code = answer(await choose(browser, "northwind.viewer"))["code"]
    let_pass(60)

    assert (await redeem(browser, code)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "another-verifier"},
        {"code_verifier": ""},
        {"redirect_uri": "http://localhost:8080/other"},
        {"code": "unknown"},
    ],
)
async def test_a_code_without_its_proof_is_refused_and_spent(
    browser: httpx.AsyncClient, changes: dict[str, str]
) -> None:
    code = answer(await choose(browser, "northwind.viewer"))["code"]

    refused = await redeem(browser, changes.pop("code", code), **changes)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    if changes:
        assert (await redeem(browser, code)).json()["error"] == "invalid_grant"


async def test_a_refresh_token_lasts_as_long_as_the_sign_in(
    browser: httpx.AsyncClient, let_pass: Callable[[float], None], clock: Callable[[], float], settings: Settings
) -> None:
    code = answer(await choose(browser, "northwind.operator", scope="openid offline_access"))["code"]
    refresh = {
        "grant_type": "refresh_token",
        "refresh_token": (await redeem(browser, code)).json()["refresh_token"],
    }
    let_pass(7200)

    tokens = (await browser.post("/token", data=refresh, auth=CONSOLE)).json()
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert claims["roles"] == ["operator"]
    assert claims["iat"] == int(clock())

    let_pass(settings.tokens.session_seconds)
    expired = await browser.post("/token", data=refresh, auth=CONSOLE)
    assert expired.json()["error"] == "invalid_grant"


async def test_no_token_of_ours_passes_for_a_refresh_token_or_a_cookie(browser: httpx.AsyncClient) -> None:
    code = answer(await choose(browser, "northwind.operator", scope="openid offline_access"))["code"]
    tokens = (await redeem(browser, code)).json()
    cookie = next(iter(browser.cookies.jar))

    for token in (tokens["access_token"], tokens["id_token"], cookie.value, "x"):
        form = {"grant_type": "refresh_token", "refresh_token": token}
        assert (await browser.post("/token", data=form, auth=CONSOLE)).json()["error"] == "invalid_grant"
    for token in (tokens["access_token"], tokens["id_token"], tokens["refresh_token"], "x"):
        browser.cookies.clear()
        browser.cookies.set(cookie.name, token, domain="localhost.local")
        silent = await browser.get("/authorize", params=asked(prompt="none"))
        assert answer(silent)["error"] == "login_required"


async def test_sign_out_with_a_hint_returns_to_the_console(
    browser: httpx.AsyncClient, let_pass: Callable[[float], None]
) -> None:
    code = answer(await choose(browser, "northwind.operator"))["code"]
    hint = (await redeem(browser, code)).json()["id_token"]
    let_pass(7200)  # an old ID token is as good a hint as a new one

    response = await browser.get(
        "/logout",
        params={"id_token_hint": hint, "post_logout_redirect_uri": "http://localhost:8080/", "state": "bye"},
    )

    assert response.status_code == 303
    assert response.headers["location"] == "http://localhost:8080/?state=bye"
    assert answer(await browser.get("/authorize", params=asked(prompt="none")))["error"] == "login_required"


async def test_sign_out_without_a_hint_asks_first(browser: httpx.AsyncClient) -> None:
    await choose(browser, "northwind.operator")
    query = urlencode({"post_logout_redirect_uri": "http://localhost:8080/", "client_id": "consent-console"})

    page = await browser.get(f"/logout?{query}")
    assert (page.status_code, "Sign out?" in page.text) == (200, True)
    assert "code" in answer(await browser.get("/authorize", params=asked(prompt="none")))

    form = {"confirm": "yes", "post_logout_redirect_uri": "http://localhost:8080/"}
    forged = await browser.post("/logout", data=form, headers={"Origin": "https://evil.example"})
    assert "Sign out?" in forged.text
    done = await browser.post("/logout", data=form)
    assert done.headers["location"] == "http://localhost:8080/"
    assert answer(await browser.get("/authorize", params=asked(prompt="none")))["error"] == "login_required"


async def test_sign_out_goes_to_registered_addresses_only(browser: httpx.AsyncClient) -> None:
    response = await browser.get("/logout", params={"post_logout_redirect_uri": "https://evil.example/"})

    assert response.status_code == 200
    assert "You are signed out" in response.text


async def test_every_page_is_made_for_screen_readers_and_says_what_it_is(browser: httpx.AsyncClient) -> None:
    await choose(browser, "northwind.operator")
    for page in (
        await browser.get("/"),
        await browser.get("/authorize", params=asked(prompt="login")),
        await browser.get("/logout"),
        await browser.get("/authorize"),
    ):
        assert '<html lang="en">' in page.text
        assert page.text.count("<h1>") == 1
        assert "never expose it" in page.text
        assert "<script" not in page.text
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cache-control"] == "no-store"
    assert (await browser.get("/style.css")).headers["content-type"].startswith("text/css")
