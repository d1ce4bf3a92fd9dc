"""The token endpoints as programs call them."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from pydantic import SecretStr

from platform_idp.app import create_app
from platform_idp.settings import AppsSettings, Settings

APP = ("identity-security", "app-demo-secret")
APP_IDS = Settings().apps.ids


def claims(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = jwt.decode(response.json()["access_token"], options={"verify_signature": False})
    return found


def refusal(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["error_description"]
    return response.status_code, response.json()["error"]


async def token(client: httpx.AsyncClient, form: dict[str, str], **kwargs: Any) -> httpx.Response:
    return await client.post("/token", data=form, **kwargs)


@pytest.mark.parametrize("app_id", APP_IDS)
async def test_every_app_gets_a_token_over_all_accounts(browser: httpx.AsyncClient, app_id: str) -> None:
    response = await token(browser, {"grant_type": "client_credentials"}, auth=(app_id, "app-demo-secret"))

    assert jwt.get_unverified_header(response.json()["access_token"])["typ"] == "at+jwt"
    found = claims(response)
    assert (found["app_id"], found["roles"], found["aud"]) == (app_id, ["app"], "consent-platform")
    assert not {"account_id", "account_name", "name"} & set(found)


async def test_an_app_asks_for_one_account(browser: httpx.AsyncClient) -> None:
    form = {"grant_type": "client_credentials", "client_id": APP[0], "client_secret": APP[1]}
    found = claims(await token(browser, {**form, "account_id": "adatum"}))

    assert (found["account_id"], found["account_name"]) == ("adatum", "Adatum Corporation")
    assert refusal(await token(browser, {**form, "account_id": "contoso"})) == (400, "invalid_request")


async def test_a_wrong_secret_is_answered_as_the_rfc_says(browser: httpx.AsyncClient) -> None:
    form = {"grant_type": "client_credentials"}
    by_header = await token(browser, form, auth=("identity-security", "wrong"))
    by_form = await token(browser, {**form, "client_id": "identity-security", "client_secret": "wrong"})

    assert refusal(by_header) == refusal(by_form) == (401, "invalid_client")
    assert by_header.headers["www-authenticate"].startswith("Basic ")
    assert "www-authenticate" not in by_form.headers
    assert refusal(await token(browser, form, auth=("nobody", "x"))) == (401, "invalid_client")
    assert refusal(await token(browser, form)) == (401, "invalid_client")


@pytest.mark.parametrize("header", ["Bearer x", "Basic", "Basic !!!", "Basic " + base64.b64encode(b"\xff:x").decode()])
async def test_a_strange_authorization_header_is_refused(browser: httpx.AsyncClient, header: str) -> None:
    response = await token(browser, {"grant_type": "client_credentials"}, headers={"Authorization": header})

    assert refusal(response) == (401, "invalid_client")


async def test_basic_credentials_are_form_urlencoded_inside(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, apps=AppsSettings(ids=["search"], client_secret=SecretStr("a:b+c d%é")))
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8091") as client,
    ):
        encoded = base64.b64encode(b"search:a%3Ab%2Bc+d%25%C3%A9").decode()
        response = await token(
            client, {"grant_type": "client_credentials"}, headers={"Authorization": f"Basic {encoded}"}
        )
        assert claims(response)["app_id"] == "search"


async def test_two_ways_of_authentication_at_once_are_refused(browser: httpx.AsyncClient) -> None:
    form = {"grant_type": "client_credentials", "client_secret": APP[1]}
    assert refusal(await token(browser, form, auth=APP)) == (400, "invalid_request")

    other = {"grant_type": "client_credentials", "client_id": "search"}
    assert refusal(await token(browser, other, auth=APP)) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("auth", "form", "error"),
    [
        (APP, {"grant_type": "authorization_code", "code": "x"}, "unauthorized_client"),
        (APP, {"grant_type": "refresh_token"}, "unauthorized_client"),
        (("consent-console", "console-demo-secret"), {"grant_type": "client_credentials"}, "unauthorized_client"),
        (APP, {"grant_type": "password"}, "unsupported_grant_type"),
        (APP, {}, "invalid_request"),
    ],
)
async def test_a_client_uses_its_own_grants_only(
    browser: httpx.AsyncClient, auth: tuple[str, str], form: dict[str, str], error: str
) -> None:
    assert refusal(await token(browser, form, auth=auth)) == (400, error)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"grant_type": "client_credentials"}', "application/json", 400),
        (b"grant_type=client_credentials&grant_type=password", "application/x-www-form-urlencoded", 400),
        (b"grant_type=%FF", "application/x-www-form-urlencoded", 400),
        (b"grant_type=\xff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % n for n in range(60)), "application/x-www-form-urlencoded", 400),
        (b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_a_malformed_body_is_refused(
    browser: httpx.AsyncClient, body: bytes, content_type: str, status: int
) -> None:
    response = await browser.post("/token", content=body, headers={"Content-Type": content_type})

    assert refusal(response) == (status, "invalid_request")


@pytest.mark.parametrize("role", ["viewer", "operator", "admin", "staff"])
async def test_a_development_token_for_any_person(browser: httpx.AsyncClient, role: str) -> None:
    found = claims(await browser.post("/dev/token", data={"role": role}))
    assert (found["account_id"], found["roles"]) == ("northwind", [role])

    other = claims(await browser.post("/dev/token", data={"role": role, "account_id": "adatum"}))
    assert other["account_name"] == "Adatum Corporation"
    assert other["sub"] != found["sub"]


async def test_a_development_token_for_an_app(browser: httpx.AsyncClient) -> None:
    form = {"role": "app", "app_id": "search", "expires_in": "5"}
    found = claims(await browser.post("/dev/token", data=form))
    assert (found["app_id"], found["roles"]) == ("search", ["app"])
    assert found["exp"] - found["iat"] == 5
    assert "account_id" not in found

    real = claims(await token(browser, {"grant_type": "client_credentials"}, auth=("search", APP[1])))
    assert real["sub"] == found["sub"]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"role": "owner"},
        {"role": "operator", "account_id": "contoso"},
        {"role": "operator", "app_id": "search"},
        {"role": "app"},
        {"role": "app", "app_id": "consent-console"},
        {"role": "viewer", "expires_in": "0"},
        {"role": "viewer", "expires_in": "86401"},
        {"role": "viewer", "expires_in": "9" * 5000},
        {"role": "viewer", "expires_in": "soon"},
    ],
)
async def test_a_development_token_for_nobody_is_refused(browser: httpx.AsyncClient, form: dict[str, str]) -> None:
    response = await browser.post(
        "/dev/token", data=form, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )

    assert refusal(response) == (400, "invalid_request")


async def test_a_browser_gets_no_development_token(browser: httpx.AsyncClient) -> None:
    """A page that rebinds its host name to this address still sends an Origin with its POST."""
    response = await browser.post("/dev/token", data={"role": "admin"}, headers={"Origin": "http://localhost:8091"})

    assert refusal(response) == (403, "access_denied")


@pytest_asyncio.fixture
async def composed(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The issuer as in compose: browsers say localhost, services say platform-idp."""
    app = create_app(
        Settings(issuer="http://localhost:8091", backchannel_url="http://platform-idp:8091", data_dir=tmp_path)
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://platform-idp:8091") as service,
    ):
        yield service


async def test_services_are_sent_to_the_name_that_they_can_reach(composed: httpx.AsyncClient) -> None:
    document = (await composed.get("/.well-known/openid-configuration")).json()

    assert document["issuer"] == "http://localhost:8091"
    assert document["authorization_endpoint"] == "http://localhost:8091/authorize"
    assert document["end_session_endpoint"] == "http://localhost:8091/logout"
    assert document["token_endpoint"] == "http://platform-idp:8091/token"
    assert document["jwks_uri"] == "http://platform-idp:8091/.well-known/jwks.json"
    response = await token(composed, {"grant_type": "client_credentials"}, auth=APP)
    assert claims(response)["iss"] == "http://localhost:8091"
