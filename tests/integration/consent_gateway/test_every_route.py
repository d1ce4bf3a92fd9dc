"""Attacks on every route there is, found in the application itself: ids, forms, frames, markup, foreign addresses.

Where a defence can be switched off, a test also shows that the attack gets through then.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
import pytest
import pytest_asyncio
from httpx import Response

from consent_gateway.core import Core
from consent_gateway.web import guard, invite_pages, pages, security, signin
from consent_gateway.web.sessions import csrf_token
from shared.auth import Principal, TokenVerifier
from support import gateway, gateway_site
from support.every_route import Owned, Route, furnished, routes
from support.gateway import CONTOSO, PUBLIC_URL
from support.gateway_site import Site, Visit

SCREEN = "/integrations/microsoft-entra-id"
ENTRA, ISSUER = "https://login.entra.test", "https://issuer.test"
EVIL = "https://evil.test/stolen"
MARKUP = '<img src="x" onerror="alert(1)">'
NAME = "Contoso of Northwind"
TRUTH = ("grants", "links", "slots", "tenants", "invitations", "transfers", "attempts")
# These pages are for whoever was given the link: the token is the right to see them, whoever is signed in.
FOR_THE_HOLDER_OF_THE_LINK = {"/invite/{token}"}
# What every signed-in caller may read, whatever the account.
CATALOGUE = {
    *("/v1/permission-sets/{permission_set_id}", "/v1/apps/{app_id}", "/v1/apps/{app_id}/functions"),
    f"{SCREEN}/planned/{{permission_set_id}}/{{version}}",
    "/v1/planned-changes/{permission_set_id}/{version}/tenants",
}
# The least role that each form, and each call that changes something, needs. Nobody needs one to sign out, nor to
# follow an invitation: that is for whoever was given the link.
ONE_SET = f"{SCREEN}/tenants/{{tenant_id}}/permission-sets/{{permission_set_id}}"
OPERATOR_FORMS = {
    *(f"{SCREEN}/{path}" for path in ("consents", "fleet/checks", "tenants/{tenant_id}/verify")),
    *(f"{SCREEN}/invitations{path}" for path in ("", "/many", "/many/choose")),
    *(f"{SCREEN}/invitations/{{invitation_id}}/{action}" for action in ("revoke", "confirm")),
    *("/connect/{token}", "/consent/attempts/{attempt_id}/transfer"),
    *(f"{SCREEN}/attempts/{{attempt_id}}/reset", f"{ONE_SET}/{{action}}"),
}
ADMIN_FORMS = {
    f"{SCREEN}/transfers/{{transfer_id}}/accept",
    *(f"{SCREEN}/tenants/{{tenant_id}}/{path}" for path in ("disconnect", "apps/{app_id}/move")),
}
OPERATOR_CALLS = {
    *("POST /v1/checks", "DELETE /v1/failures/{failure_id}", "POST /v1/transfers", "POST /v1/consents"),
    *("POST /v1/invitations", "POST /v1/invitations/batch", "DELETE /v1/invitations/{invitation_id}"),
    "POST /v1/invitations/{invitation_id}/confirm",
    *(
        f"POST /v1/tenants/{{tenant_id}}/permission-sets/{{permission_set_id}}/{action}"
        for action in ("verify", "removed", "block", "unblock")
    ),
}
ADMIN_CALLS = {
    *("POST /v1/transfers/{transfer_id}/accept", "DELETE /v1/tenants/{tenant_id}", "PUT /v1/apps/{app_id}/tenant"),
}
Patch = pytest.MonkeyPatch


@dataclass
class Scene:
    """The gateway with one of everything, and somebody of a third account."""

    site: Site
    core: Core
    owned: Owned
    stranger: Visit

    async def truth(self) -> dict[str, Any]:
        return {name: await self.core.database[name].find({}).sort("_id", 1).to_list(None) for name in TRUTH}

    def pages(self) -> list[Route]:
        """Routes of the console: the last are those after which nothing else is there."""
        kept = [one for one in routes(self.site.app) if not one.is_api]
        return sorted(kept, key=lambda one: (one.method != "GET", one.path.endswith(("/accept", "/logout"))))

    def api(self) -> list[Route]:
        return sorted(
            (one for one in routes(self.site.app) if one.is_api),
            key=lambda one: (one.method != "GET", one.method == "DELETE", one.path.endswith("/accept")),
        )

    async def answers(
        self, route: Route, visit: Visit, ids: dict[str, str], *, csrf: str | None = None, query: str = ""
    ) -> list[Response]:
        paths = [path + query for path in route.filled(ids)]
        if route.path.endswith("/events"):
            return []  # a stream has no end; it says nothing but that something changed
        if route.method == "GET":
            return [await visit.get(path) for path in paths]
        return [await visit.post(path, {"permission_set_id": ids["permission_set_id"]}, csrf=csrf) for path in paths]


@pytest_asyncio.fixture
async def scene(mongo_url: str, mongo_database: str, monkeypatch: Patch) -> AsyncIterator[Scene]:
    settings = gateway.settings(mongo_url=mongo_url, database=mongo_database, wait_seconds=0)

    async def origins(_: object) -> list[str]:
        return [ENTRA]

    async def authorization(_: object, *, state: str, **__: object) -> str:
        return f"{ISSUER}/authorize?state={state}"

    async def origin() -> str:
        return ENTRA

    monkeypatch.setattr(security.FormTargets, "__call__", origins)
    monkeypatch.setattr("consent_gateway.web.oidc.Provider.authorization_url", authorization)
    inside = Core.of(settings)
    async with inside.open(), gateway_site.site(settings, inside.database, indexes=False) as site:
        core = site.app.state.core
        monkeypatch.setattr(core.entra.tokens, "authorization_origin", origin)
        owned = await furnished(site, core)
        await core.database["tenants"].update_many({}, {"$set": {"tenant_name": NAME, "primary_domain": None}})
        yield Scene(site, core, owned, await site.signed_in("stranger", "admin", subject="stranger-1"))


async def test_ids_of_another_account_are_nowhere_anything(scene: Scene) -> None:
    before = await scene.truth()
    pages = [one for one in scene.pages() if one.names and one.path not in CATALOGUE]
    for route in pages:
        if route.path in FOR_THE_HOLDER_OF_THE_LINK:
            continue
        _, ids = scene.owned.of(route)
        for answer in await scene.answers(route, scene.stranger, ids):
            # A link that another account was given is as unknown as one that was made up.
            assert answer.status_code in {400, 404}, (route, answer.status_code)
            _tells_nothing(route, answer)
    assert await scene.truth() == before
    # It is the account that decides: to their owners the same requests are answered.
    for route in pages:
        visit, ids = scene.owned.of(route)
        for answer in await scene.answers(route, visit, ids):
            assert answer.status_code not in {400, 403, 404, 500}, (route, answer.status_code)


async def test_ids_of_another_account_in_a_query_show_nothing(scene: Scene) -> None:
    ids = scene.owned.ids
    query = f"?tenant={CONTOSO}&before={ids['invitation_id']}&details={CONTOSO}.{ids['permission_set_id']}&q=contoso"
    for route in scene.pages():
        if route.method == "GET" and not route.names:
            for answer in await scene.answers(route, scene.stranger, ids, query=query):
                _tells_nothing(route, answer)
    (mine,) = await scene.answers(Route("GET", SCREEN), scene.owned.holder, ids, query=query)
    assert NAME in mine.text


async def test_the_api_knows_no_ids_of_another_account(scene: Scene, monkeypatch: Patch) -> None:
    account = ["stranger"]

    async def somebody(_: object, __: str) -> Principal:
        return Principal(
            subject="somebody",
            account_id=account[0],
            account_name=None,
            app_id=None,
            roles=frozenset({"admin"}),
            expires_at=2**31,
        )

    monkeypatch.setattr(TokenVerifier, "principal", somebody)
    http, owned = scene.site.browser().http, scene.owned

    async def ask(route: Route, **headers: str) -> Response:
        (path,) = route.filled(owned.ids)
        body = {"tenant_id": CONTOSO} if route.method in {"POST", "PUT", "PATCH"} else None
        return await http.request(route.method, path, params={"tenant_id": CONTOSO}, json=body, headers=headers)

    before = await scene.truth()
    with_ids = [one for one in scene.api() if one.names and one.path not in CATALOGUE]
    for route in with_ids:
        answer = await ask(route, authorization="Bearer t")
        assert answer.status_code in {404, 409}, (route, answer.text)
        _tells_nothing(route, answer)
    http.cookies.set("consent_console", owned.holder.cookie)
    for route in scene.api():
        # Whoever is signed in at the console is nobody here: a form of another site can't use the API.
        assert (await ask(route)).status_code == 401, route
    assert await scene.truth() == before
    account[0] = "northwind"
    for route in with_ids:
        answer = await ask(route, authorization="Bearer t")
        assert answer.status_code not in {401, 403, 404, 500}, (route, answer.text)


async def test_each_form_needs_its_role(scene: Scene) -> None:
    forms = [one for one in scene.pages() if one.method == "POST"]
    free = {"/auth/logout", "/invite/{token}"}
    assert {one.path for one in forms} == OPERATOR_FORMS | ADMIN_FORMS | free, "say what role a new form needs"
    before = await scene.truth()
    for role, refused in (("viewer", OPERATOR_FORMS | ADMIN_FORMS), ("operator", ADMIN_FORMS)):
        visits = {
            account_id: await scene.site.signed_in(account_id, role, subject=f"{role}-9")
            for account_id in ("northwind", "adatum")
        }
        for route in forms:
            if route.path in refused:
                owner, ids = scene.owned.of(route)
                visit = visits["adatum" if owner is scene.owned.claimant else "northwind"]
                for answer in await scene.answers(route, visit, ids):
                    assert (answer.status_code, "role" in answer.text) == (403, True), (role, route)
    assert await scene.truth() == before


async def test_each_call_that_changes_something_needs_its_role(scene: Scene, monkeypatch: Patch) -> None:
    role = ["viewer"]

    async def somebody(_: object, __: str) -> Principal:
        return Principal(
            subject="somebody",
            account_id="northwind",
            account_name=None,
            app_id=None,
            roles=frozenset(role),
            expires_at=2**31,
        )

    monkeypatch.setattr(TokenVerifier, "principal", somebody)
    http, ids = scene.site.browser().http, scene.owned.ids
    http.headers["authorization"] = "Bearer t"
    calls = [one for one in scene.api() if one.method != "GET"]
    names = {f"{one.method} {one.path}" for one in calls}
    assert names == OPERATOR_CALLS | ADMIN_CALLS, "say what role a new call needs"
    bodies: dict[str, dict[str, Any]] = {
        "/v1/checks": {"tenant_ids": [CONTOSO]},
        "/v1/invitations": {"permission_set_ids": [ids["permission_set_id"]]},
        "/v1/invitations/batch": {"permission_set_ids": [ids["permission_set_id"]], "tenant_ids": [CONTOSO]},
        "/v1/transfers": {"consent_id": ids["attempt_id"]},
        "/v1/consents": {"permission_set_ids": [ids["permission_set_id"]]},
        "/v1/apps/{app_id}/tenant": {"tenant_id": CONTOSO},
    }
    before = await scene.truth()
    for role[0], refused in (
        ("viewer", OPERATOR_CALLS | ADMIN_CALLS),
        ("staff", OPERATOR_CALLS | ADMIN_CALLS),
        ("operator", ADMIN_CALLS),
    ):
        for route in calls:
            if f"{route.method} {route.path}" in refused:
                (path,) = route.filled(ids)
                answer = await http.request(route.method, path, json=bodies.get(route.path))
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (role, route, answer.text)
    assert await scene.truth() == before


def _tells_nothing(route: Route, answer: Response) -> None:
    for secret in (NAME, "northwind", "adatum", "operator-1", "admin-1"):
        assert secret not in answer.text.lower().replace(NAME.lower(), NAME), (route, secret)


def _without_check_form(patch: Patch) -> None:
    for module in (guard, invite_pages, signin):
        patch.setattr(module, "check_form", lambda *_, **__: None)
    patch.setattr(invite_pages, "from_our_page", lambda *_, **__: True)


async def test_no_form_of_another_site_does_anything(scene: Scene, monkeypatch: Patch) -> None:
    forms = [one for one in scene.pages() if one.method == "POST"]
    before = await scene.truth()
    for route in forms:
        visit, ids = scene.owned.of(route)
        other = await scene.site.signed_in("northwind", "admin", subject="admin-2")
        attacks: list[tuple[str, str, str | None]] = [
            ("https://evil.test", "cross-site", None),
            ("null", "cross-site", None),
            ("", "", None),
        ]
        # The invitation's first form is sent by somebody who is nobody yet: there is no token to know.
        if route.path != "/invite/{token}":
            attacks += [(PUBLIC_URL, "same-origin", token) for token in ("forged", _token_of(other))]
        for visit.origin, visit.fetch_site, csrf in attacks:
            for answer in await scene.answers(route, visit, ids, csrf=csrf):
                assert answer.status_code == 403, (route, visit.origin, csrf)
                assert "not sent from our page" in answer.text
    assert await scene.truth() == before
    _without_check_form(monkeypatch)
    for route in forms:
        visit, ids = scene.owned.of(route)
        visit.origin, visit.fetch_site = "https://evil.test", "cross-site"
        for answer in await scene.answers(route, visit, ids, csrf="forged"):
            assert answer.status_code != 403, route


def _token_of(visit: Visit) -> str:
    return csrf_token(visit.cookie)


async def test_no_page_can_be_framed_or_run_what_is_in_it(scene: Scene, monkeypatch: Patch) -> None:
    for visit in (scene.owned.holder, scene.site.browser()):
        for route in scene.pages():
            owner, ids = scene.owned.of(route)
            for answer in await scene.answers(route, owner if visit is scene.owned.holder else visit, ids):
                policy = answer.headers["content-security-policy"].split("; ")
                assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy), route
                assert "unsafe" not in str(policy), route
                assert answer.headers["x-frame-options"] == "DENY", route
                assert answer.headers["x-content-type-options"] == "nosniff", route
                assert "no-store" in answer.headers["cache-control"], route


async def test_markup_in_what_others_named_is_text_on_every_page(scene: Scene, monkeypatch: Patch) -> None:
    """Stored: names of tenants, people, accounts. Reflected: every parameter that any page reads."""
    database = scene.core.database
    await database["tenants"].update_many({}, {"$set": {"tenant_name": MARKUP, "primary_domain": MARKUP}})
    await database["people"].update_many({}, {"$set": {"name": MARKUP}})
    await database["sessions"].update_many({}, {"$set": {"name": MARKUP, "account_name": MARKUP}})
    await database["attempts"].update_many({}, {"$set": {"account_name": MARKUP, "error_code": MARKUP}})
    await database["invitations"].update_many({}, {"$set": {"account_name": MARKUP}})
    names = [
        *("app", "after", "details", "add", "notice", "tenant", "cursor", "before", "q", "status", "set", "next"),
        *("state", "error", "error_description", "error_uri", "code", "admin_consent", "iss", "version", "account"),
    ]
    query = "?" + "&".join(f"{name}={quote(MARKUP)}" for name in names)

    async def raw(query: str) -> list[Route]:
        return [
            route
            for route in scene.pages()
            if route.method == "GET"
            for answer in await scene.answers(route, *scene.owned.of(route), query=query)
            if MARKUP in answer.text
        ]

    assert await raw("") == []
    assert await raw(query) == []
    page = await scene.owned.holder.post(
        f"{SCREEN}/consents", {"permission_set_id": MARKUP, "tenant_id": MARKUP, "from": "add", "app": MARKUP}
    )
    assert (page.status_code, MARKUP in page.text) == (422, False)
    pages._environment.cache_clear()
    monkeypatch.setattr(pages, "Environment", lambda **how: _Environment(**{**how, "autoescape": False}))
    try:
        assert Route("GET", SCREEN) in await raw("")
    finally:
        pages._environment.cache_clear()


_Environment = jinja2.Environment


async def test_what_entra_says_of_an_error_is_never_shown(scene: Scene) -> None:
    said = f"AADSTS65004: {MARKUP} call +1 555 0100 now"
    mine = scene.owned.holder
    for error in ("access_denied", "server_error", MARKUP):
        begun = await mine.post(f"{SCREEN}/consents", {"permission_set_id": "read-directory-data"})
        state = begun.headers["location"].partition("state=")[2].partition("&")[0]
        params = {"error": error, "error_description": said, "error_uri": EVIL, "state": state}
        ended = await mine.get("/consent/callback", params=params)
        assert ended.status_code == 303
        page = await mine.get(ended.headers["location"])
        assert page.status_code in {200, 403, 409, 502, 503}
        assert "Reference" in page.text
        for word in ("555 0100", "onerror", "evil.test"):
            assert word not in page.text


async def test_nobody_is_led_to_another_site(scene: Scene, monkeypatch: Patch) -> None:
    """By any parameter of any route, nor by the name of the host that is asked for."""
    names = ("next", "return_url", "return_to", "redirect_uri", "url", "app", "state", "tenant", "error_uri", "iss")
    query = "?" + "&".join(f"{name}={EVIL}" for name in names)
    for visit in (scene.owned.holder, scene.site.browser()):
        for route in scene.pages():
            owner, ids = scene.owned.of(route)
            asking = owner if visit is scene.owned.holder else visit
            asking.http.headers["host"] = "evil.test"
            for answer in await scene.answers(route, asking, ids, query=query):
                leads_to = urlsplit(answer.headers.get("location", ""))
                assert leads_to.netloc in {"", *(urlsplit(one).netloc for one in (PUBLIC_URL, ENTRA, ISSUER))}, route
                assert 'href="https://evil.test' not in answer.text, route
                assert 'action="https://evil.test' not in answer.text, route


async def test_the_page_of_a_grant_leads_to_the_very_application_of_the_tenant(scene: Scene) -> None:
    await scene.core.database["grants"].update_many({}, {"$set": {"service_principal_id": gateway.HOME}})
    page = await scene.owned.holder.get(ONE_SET.format(**scene.owned.ids))
    client_id = gateway.CLIENT_IDS[scene.owned.ids["permission_set_id"]]
    assert f"ManagedAppMenuBlade/~/Overview/objectId/{gateway.HOME}/appId/{client_id}" in page.text


async def test_failed_runs_are_on_the_screen_of_their_account_until_they_are_reset(scene: Scene) -> None:
    """The latest of equal ones stands for all, and goes together with them."""
    visit = scene.owned.claimant
    page = (await visit.get(SCREEN)).text
    (shown,) = re.findall(r"attempts/([0-9a-f]+)/reset", page)
    assert "This tenant belongs to another account" in page
    assert shown[:12] in page
    assert shown not in (await scene.owned.holder.get(SCREEN)).text
    assert (await visit.post(f"{SCREEN}/attempts/{shown}/reset")).status_code == 303
    assert "/reset" not in (await visit.get(SCREEN)).text
    assert await scene.core.database["attempts"].count_documents({"failure": "tenant_taken"}) == 2


async def test_an_address_that_nothing_is_at_is_a_page_for_browsers_and_a_problem_for_others(scene: Scene) -> None:
    visit = scene.site.browser()
    for path, status in (("/integration", 404), ("/v1/nothing", 404), (f"{SCREEN}/consents", 405)):
        page = await visit.get(path, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "There is nothing here" in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        for accept in ("application/json", "*/*"):
            problem = await visit.get(path, headers={"accept": accept})
            assert problem.status_code == status
            assert problem.headers["content-type"] == "application/problem+json"
            assert (problem.headers["vary"], page.headers["vary"]) == ("Accept", "Accept")
        assert page.headers.get("allow") == problem.headers.get("allow") == ("POST" if status == 405 else None)
