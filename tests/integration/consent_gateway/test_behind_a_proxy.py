"""The gateway's process behind a reverse proxy that terminates TLS: as most operators run it."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest_asyncio

from consent_gateway.core import Core
from consent_gateway.web.sessions import Identity, Sessions, csrf_token
from launcher.ports import free_port
from shared.auth import Principal
from support.entra_sandbox import EntraSandbox
from support.gateway import CONTOSO
from support.gateway_process import environment, serving
from support.reverse_proxy import Front, reverse_proxy

SCREEN = "/integrations/microsoft-entra-id"
SECRET = "a secret that is long enough for it"
# All of 127.0.0.0/8 is this machine: the proxy is trusted by one address, people come from others.
PROXY, PERSON, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
CLAIMED = "198.51.100.66"


@dataclass
class Street:
    """The gateway, the proxy before it, and a database to look into."""

    core: Core
    gateway: str
    front: Front
    cookie: str

    def browser(self, address: str, *, signed_in: bool = True, straight: bool = False) -> httpx.AsyncClient:
        """A browser at that address: it comes to the proxy, or straight to the gateway's own port."""
        trusted = ssl.create_default_context(cafile=str(self.front.ca))
        return httpx.AsyncClient(
            base_url=self.gateway if straight else self.front.url,
            transport=httpx.AsyncHTTPTransport(verify=trusted, local_address=address),
            headers={"Cookie": f"__Host-consent_console={self.cookie}"} if signed_in else {},
        )

    async def addresses(self) -> tuple[str | None, str | None]:
        """Where the run was begun, and where its last step came from."""
        (attempt,) = await self.core.database["attempts"].find({}).to_list(None)
        begun, last = attempt["started_from"], attempt["last_from"]
        return begun["address"], last["address"] if last is not None else None


@pytest_asyncio.fixture
async def street(
    make_core: Any, entra: EntraSandbox, mongo_url: str, mongo_database: str, tmp_path: Path
) -> AsyncIterator[Street]:
    port = free_port()
    public_url = f"https://localhost:{port}"
    core: Core = await make_core(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca)
    sessions = Sessions(core.database, secret=SECRET)
    principal = Principal(
        subject="operator-1",
        account_id="northwind",
        account_name="Northwind Traders",
        app_id=None,
        roles=frozenset({"operator"}),
        expires_at=int(time()) + 3_600,
    )
    identity = Identity(principal=principal, name="Operator", access_token="AT", id_token="IT")
    cookie = await sessions.start(identity, replacing=None)
    env = environment(
        PUBLIC_URL=public_url,
        MONGO__URL=mongo_url,
        MONGO__DATABASE=mongo_database,
        MONGO__TIMEOUT_MS="20000",
        ENTRA__LOGIN_URL=entra.login,
        ENTRA__GRAPH_URL=entra.graph,
        ENTRA__CA_BUNDLE=entra.ca,
        CONSOLE__SESSION_SECRET=SECRET,
        FORWARDED_ALLOW_IPS=PROXY,
    )
    async with serving(env) as direct, reverse_proxy(str(direct.base_url), port=port, folder=tmp_path) as front:
        yield Street(core, str(direct.base_url), front, cookie)


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


async def begin(browser: httpx.AsyncClient, street: Street, *, origin: str | None = None, **headers: str) -> Any:
    form = {"csrf_token": csrf_token(street.cookie), "permission_set_id": "read-directory-data", "tenant_id": CONTOSO}
    return await browser.post(
        f"{SCREEN}/consents", data=form, headers={"Origin": origin or street.front.url, **headers}
    )


async def test_a_run_behind_a_proxy_has_the_public_addresses_and_the_persons_own(street: Street) -> None:
    spoofed = {"X-Forwarded-For": CLAIMED, "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.test"}
    async with street.browser(PERSON) as browser:
        screen = await browser.get(SCREEN, headers=spoofed)
        assert screen.status_code == 200
        assert screen.headers["strict-transport-security"] == "max-age=31536000"
        assert "evil.test" not in screen.text + str(screen.headers)

        step = await begin(browser, street, **spoofed)
        assert step.status_code == 303, step.text
        asked = query(step.headers["location"])
        # Entra sends the browser back to the proxy, by https, at the address that is registered.
        assert asked["redirect_uri"] == [f"{street.front.url}/consent/callback"]
        assert await street.addresses() == (PERSON, None)

        back = {"admin_consent": "True", "tenant": CONTOSO, "state": asked["state"][0]}
        proof = await browser.get("/consent/callback", params=back, headers=spoofed)
        assert query(proof.headers["location"])["redirect_uri"] == [f"{street.front.url}/consent/proof"]
        assert await street.addresses() == (PERSON, PERSON)

        # What the framework writes by itself has the public address too.
        slash = await browser.get("/v1/permission-sets/", headers=spoofed)
        assert slash.headers["location"] == f"{street.front.url}/v1/permission-sets"


async def test_forms_are_held_against_the_public_origin_and_cookies_are_for_https_only(street: Street) -> None:
    async with street.browser(PERSON) as browser:
        for origin in (street.gateway, street.front.url.replace("https:", "http:"), "https://evil.test"):
            refused = await begin(browser, street, origin=origin, **{"X-Forwarded-Host": urlsplit(origin).netloc})
            assert refused.status_code == 403
        assert await street.core.database["attempts"].count_documents({}) == 0
        form = {"csrf_token": csrf_token(street.cookie), "permission_set_id": "read-directory-data"}
        made = await browser.post(f"{SCREEN}/invitations", data=form, headers={"Origin": street.front.url})
    link = f"{street.front.url}/invite/"
    assert link in made.text
    token = made.text.partition(link)[2].partition("<")[0].partition('"')[0]
    async with street.browser(PERSON, signed_in=False) as guest:
        step = await guest.post(f"/invite/{token}", data={"step": "sign-in"}, headers={"Origin": street.front.url})
        assert step.status_code == 303, step.text
        name, _, attributes = step.headers["set-cookie"].partition("=")
        assert name == "__Host-consent_invite"
        assert {one.strip().lower() for one in attributes.split(";")[1:]} >= {
            *("secure", "httponly", "path=/", "samesite=lax")
        }
        assert "domain" not in attributes.lower()
        plain = await guest.get("/livez")
        assert plain.headers["strict-transport-security"]


async def test_nobody_but_the_proxy_is_believed(street: Street) -> None:
    """Straight to the gateway's own port: what its network should not allow, and what gains nothing."""
    said = {"X-Forwarded-For": CLAIMED, "X-Forwarded-Proto": "https"}
    async with street.browser(STRANGER, straight=True) as browser:
        assert (await begin(browser, street, **said)).status_code == 303
        slash = await browser.get("/v1/permission-sets/", headers=said)
        assert slash.headers["location"] == f"{street.gateway}/v1/permission-sets"
    assert await street.addresses() == (STRANGER, None)
