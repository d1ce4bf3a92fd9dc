"""Attacks over HTTP with real cookies: each is refused, asks nobody outside, and changes no grant, link or slot."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Proven, Requester
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind
from support import gateway, gateway_site
from support.entra_sandbox import EntraSandbox, Visitor
from support.gateway import CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR
from support.gateway_site import Site, Visit, form_token
from support.ledger import accepted_on, take, waiting

SET = "read-directory-data"
SCREEN = "/integrations/microsoft-entra-id"
TRUTH = ("grants", "links", "slots", "tenants", "invitations", "transfers")


@dataclass
class Scene:
    """The gateway in front of the sandbox, and what must not change."""

    site: Site
    core: Core
    entra: EntraSandbox

    async def truth(self) -> dict[str, Any]:
        return {name: await self.core.database[name].find({}).sort("_id", 1).to_list(None) for name in TRUTH}

    async def asked(self) -> int:
        """How often Entra was asked by the gateway."""
        return len([one for one in await self.entra.requests() if one["listener"] != "browser"])


@pytest_asyncio.fixture
async def scene(core: Core, entra: EntraSandbox, mongo_url: str, mongo_database: str) -> AsyncIterator[Scene]:
    settings = gateway.settings(
        mongo_url=mongo_url,
        database=mongo_database,
        login_url=entra.login,
        graph_url=entra.graph,
        ca_bundle=entra.ca,
        wait_seconds=0,
    )
    async with gateway_site.site(settings, core.database) as site:
        yield Scene(site, core, entra)


async def refused(scene: Scene, answer: Any, status: int, what: str) -> None:
    assert (answer.status_code, what in answer.text) == (status, True), (answer.status_code, answer.text[:3000])
    assert "no-store" in answer.headers["cache-control"]


async def start(visit: Visit, **fields: str) -> str:
    """Begin at the screen; the state that Entra would bring back."""
    answer = await visit.post(f"{SCREEN}/consents", {"permission_set_id": SET, **fields})
    assert answer.status_code == 303, answer.text
    return parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]


def claim(state: str, tenant: str = CONTOSO) -> str:
    return f"/consent/callback?admin_consent=True&tenant={tenant}&state={state}"


async def test_the_callback_belongs_to_the_browser_that_began(scene: Scene) -> None:
    mine = await scene.site.signed_in()
    state = await start(mine, tenant_id=CONTOSO)
    colleague = await scene.site.signed_in(subject="operator-9")
    stranger = await scene.site.signed_in("adatum", subject="operator-2")
    nobody = scene.site.browser()
    before, asked = await scene.truth(), await scene.asked()
    for visit, path, status, what in (
        (colleague, claim(state), 403, "Started in another browser"),
        (stranger, claim(state), 403, "Started in another browser"),
        (nobody, claim(state), 403, "Started in another browser"),
        (mine, claim("unknown"), 400, "not known"),
        (mine, f"{claim(state)}&tenant={FABRIKAM}", 400, "cannot be read"),
        (mine, f"{claim(state)}&state=x", 400, "cannot be read"),
        (mine, claim(state, "../common"), 400, "cannot be read"),
        (mine, "/consent/callback?admin_consent=True", 400, "Something is missing"),
        (mine, f"/consent/proof?code=c&state={state}", 400, "not known"),
    ):
        await refused(scene, await visit.get(path), status, what)
    assert (await scene.truth(), await scene.asked()) == (before, asked)
    assert (await mine.get(claim(state))).status_code == 303


async def test_a_role_that_was_lost_or_a_sign_out_on_the_way_ends_it(scene: Scene, visitor: Visitor) -> None:
    """Looked at again right before the commit, after the code was redeemed."""
    for change in ({"$set": {"roles": ["viewer"]}}, {"$set": {"seen_at": utc_now().replace(year=2020)}}, None):
        mine = await scene.site.signed_in()
        step = await mine.get(claim(await start(mine, tenant_id=CONTOSO)))
        tokens = scene.site.app.state.core.entra.tokens
        redeem = tokens.redeem

        async def redeem_slowly(*args: Any, change: Any = change, redeem: Any = redeem, **how: Any) -> Any:
            token = await redeem(*args, **how)
            sessions = scene.core.database["sessions"]
            await (sessions.update_many({}, change) if change else sessions.delete_many({}))
            return token

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tokens, "redeem", redeem_slowly)
            # Silently first, then with pages.
            while not step.headers["location"].startswith("/consent/attempts/"):
                params = await visitor.go(step.headers["location"])
                step = await mine.get("/consent/proof", params=dict(params))
        attempt = await scene.core.store.attempts.get(step.headers["location"].rpartition("/")[2])
        assert attempt is not None
        assert attempt.failure is Kind.SESSION_CHANGED
    assert await scene.core.database["grants"].count_documents({}) == 0


async def test_a_link_of_an_app_is_for_its_account_its_form_and_once(scene: Scene) -> None:
    app = Requester(account_id="northwind", account_name=None, subject="app", app_id="mobile-security")
    _, token = await scene.core.consent.create_link(app, permission_set_ids=[SET])
    mine = await scene.site.signed_in()
    other = await scene.site.signed_in("adatum", subject="operator-2")
    viewer = await scene.site.signed_in("northwind", "viewer", subject="viewer-1")
    path = f"/connect/{token}"
    # Pages with forms name Entra's origin in their policy, which is learnt once.
    assert (await mine.get(path)).status_code == 200
    before, asked = await scene.truth(), await scene.asked()
    await refused(scene, await other.get(path), 400, "not known")
    await refused(scene, await other.post(path), 400, "not known")
    await refused(scene, await viewer.post(path), 403, "role")
    await refused(scene, await mine.post(path, csrf="forged"), 403, "not sent from our page")
    evil = await scene.site.signed_in()
    evil.origin, evil.fetch_site = "https://evil.test", "cross-site"
    await refused(scene, await evil.post(path), 403, "not sent from our page")
    assert (await mine.get(path)).status_code == 200
    assert (await scene.site.browser().get(path)).status_code in {303, 503}
    assert (await scene.truth(), await scene.asked()) == (before, asked)
    assert (await mine.post(path)).status_code == 303
    await refused(scene, await mine.post(path), 400, "already used")
    assert (await scene.truth(), await scene.asked()) == (before, asked)


async def test_an_invitation_is_used_by_nothing_but_the_yes_of_who_proved(scene: Scene, visitor: Visitor) -> None:
    mine = await scene.site.signed_in()
    made = await mine.post(f"{SCREEN}/invitations", {"permission_set_id": SET})
    assert made.status_code == 201
    token = made.text.partition("/invite/")[2].partition("<")[0].partition('"')[0]
    path = f"/invite/{token}"
    assert token not in (await mine.get(f"{SCREEN}/invitations")).text
    guest, stranger = scene.site.browser(), scene.site.browser()
    before, asked = await scene.truth(), await scene.asked()
    for _ in range(3):  # scanners of mail open every link, some more than once
        assert (await guest.get(path)).status_code == 200
    await refused(scene, await guest.get("/invite/unknown"), 400, "not known")
    await refused(scene, await guest.post(path, {"step": "connect"}), 403, "not sent from our page")
    stranger.origin, stranger.fetch_site = "https://evil.test", "cross-site"
    await refused(scene, await stranger.post(path, {"step": "sign-in"}), 403, "not sent from our page")
    assert (await scene.truth(), await scene.asked()) == (before, asked)

    begun = await guest.post(path, {"step": "sign-in"})
    assert begun.status_code == 303
    params = await visitor.go(begun.headers["location"])
    await refused(scene, await stranger.get("/consent/proof", params=dict(params)), 403, "another browser")
    await refused(scene, await mine.get("/consent/proof", params=dict(params)), 403, "another browser")
    back = await guest.get("/consent/proof", params=dict(params))
    assert (back.status_code, back.headers["location"]) == (303, path)
    page = await guest.get(path)
    assert all(text in page.text for text in (CONTOSO, "Northwind", "operator-1 by name", "Contoso Administrator"))
    await refused(scene, await guest.post(path, {"step": "connect"}, csrf="forged"), 403, "not sent from our page")
    asked = await scene.asked()
    await refused(scene, await stranger.post(path, {"step": "connect"}, csrf=form_token(page)), 403, "not sent from")
    assert (await scene.truth(), await scene.asked()) == (before, asked)
    assert (await guest.post(path, {"step": "connect"}, csrf=form_token(page))).status_code == 303
    await refused(scene, await guest.post(path, {"step": "connect"}, csrf=form_token(page)), 400, "already used")


async def test_ids_of_another_account_are_as_if_they_were_not_there(scene: Scene) -> None:
    """On every page and form that takes one."""
    mine = await scene.site.signed_in()
    await accepted_on(scene.core, CONTOSO, OPERATOR, SET)
    await start(mine, tenant_id=CONTOSO)
    await mine.post(f"{SCREEN}/invitations", {"permission_set_id": SET})
    attempt_id, invitation_id = [
        (await scene.core.database[name].find({}).to_list(None))[-1]["_id"] for name in ("attempts", "invitations")
    ]
    transfer_id = await asked_for(scene)
    other = await scene.site.signed_in("fabrikam-account", "admin", subject="admin-9")
    before, asked = await scene.truth(), await scene.asked()
    await refused(scene, await other.get(f"/consent/attempts/{attempt_id}"), 404, "nothing here")
    for path in (
        f"/consent/attempts/{attempt_id}/transfer",
        f"{SCREEN}/invitations/{invitation_id}/revoke",
        f"{SCREEN}/invitations/{invitation_id}/confirm",
        f"{SCREEN}/transfers/{transfer_id}/accept",
    ):
        await refused(scene, await other.post(path), 404, "nothing here")
    for page in (f"{SCREEN}/invitations", f"{SCREEN}/transfers", SCREEN):
        answer = await other.get(page)
        assert answer.status_code == 200
        assert not any(
            known in answer.text for known in (CONTOSO, "Northwind", "northwind", invitation_id, transfer_id)
        )
    assert (await scene.truth(), await scene.asked()) == (before, asked)


async def asked_for(scene: Scene) -> str:
    """A transfer that adatum asks northwind for."""
    _, state = await waiting(scene.core, OTHER_OPERATOR, SET)
    attempt = await take(scene.core, state, OTHER_OPERATOR)
    assert attempt is not None
    proven = Proven(tenant_id=CONTOSO, object_id="6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22", at=utc_now())
    await scene.core.store.fail_attempt(
        attempt, kind=Kind.TENANT_TAKEN, stage="redeem", error_code=None, tenant_id=CONTOSO, proven=proven
    )
    return (await scene.core.flow.transfers.request(attempt.id, OTHER_OPERATOR, tell_name=False)).id


async def test_a_tenant_is_given_away_by_an_admin_of_its_holder_only(scene: Scene) -> None:
    await accepted_on(scene.core, CONTOSO, OPERATOR, SET)
    transfer_id = await asked_for(scene)
    path = f"{SCREEN}/transfers/{transfer_id}/accept"
    claimant = await scene.site.signed_in("adatum", "admin", subject="admin-2")
    # Pages with forms name Entra's origin in their policy, which is learnt once.
    await claimant.get(f"{SCREEN}/transfers")
    before, asked = await scene.truth(), await scene.asked()
    operator = await scene.site.signed_in("northwind", "operator")
    await refused(scene, await claimant.post(path), 404, "nothing here")
    await refused(scene, await operator.post(path), 403, "role")
    admin = await scene.site.signed_in("northwind", "admin", subject="admin-1")
    await refused(scene, await admin.post(path, csrf="forged"), 403, "not sent from our page")
    page = (await admin.get(f"{SCREEN}/transfers")).text
    assert "Give it away" in page
    assert "adatum" not in page.lower()
    assert (await scene.truth(), await scene.asked()) == (before, asked)
    assert (await admin.post(path)).status_code == 303
    link = await scene.core.database["links"].find_one({"_id": CONTOSO})
    assert (link or {})["account_ids"] == ["adatum"]


@pytest.mark.parametrize("path", ["invitations", "transfers", "history"])
async def test_pages_need_a_sign_in_and_their_forms_a_role(scene: Scene, path: str) -> None:
    assert (await scene.site.browser().get(f"{SCREEN}/{path}")).status_code in {303, 503}
    viewer = await scene.site.signed_in("northwind", "viewer")
    assert (await viewer.get(f"{SCREEN}/{path}")).status_code == 200
    if path == "history":
        assert "cannot be read at the moment" in viewer.pages[-1].text
    if path == "invitations":
        await refused(scene, await viewer.post(f"{SCREEN}/{path}", {"permission_set_id": SET}), 403, "role")


async def test_a_grant_is_blocked_and_checked_by_operators_of_its_account_only(scene: Scene) -> None:
    await accepted_on(scene.core, CONTOSO, OPERATOR, SET)
    path = f"{SCREEN}/tenants/{CONTOSO}/permission-sets/{SET}"
    mine = await scene.site.signed_in()
    page = await mine.get(path)
    client_id = gateway.CLIENT_IDS[SET]
    assert (
        f"https://entra.microsoft.com/#view/Microsoft_AAD_IAM/ManagedAppMenuBlade/~/Overview/appId/{client_id}"
        in page.text
    )
    for action, status in (
        ("block", "blocked"),
        ("block", "blocked"),
        ("unblock", "verifying"),
        ("verify", "verifying"),
    ):
        assert (await mine.post(f"{path}/{action}")).status_code == 303
        (grant,) = await scene.core.store.grants.grants_on("northwind", CONTOSO)
        assert str(grant.status) == status
    before, asked = await scene.truth(), await scene.asked()
    other = await scene.site.signed_in("adatum", subject="operator-2")
    viewer = await scene.site.signed_in("northwind", "viewer", subject="viewer-1")
    await refused(scene, await other.get(path), 404, "nothing here")
    for action in ("block", "unblock", "verify", "delete"):
        await refused(scene, await other.post(f"{path}/{action}"), 404, "nothing here")
        await refused(scene, await viewer.post(f"{path}/{action}"), 403, "role")
    assert (await scene.truth(), await scene.asked()) == (before, asked)


async def test_somebody_who_came_from_an_app_may_grant_what_the_app_does_not_use(scene: Scene) -> None:
    catalog = scene.site.app.state.core.catalog
    app_id, other = next(
        (app.id, one.id) for app in catalog.apps.values() for one in catalog.sets.values() if one.id not in app.sets
    )
    urls = {app_id: ("https://app.example/done",)}
    apps = {one.id: replace(one, return_urls=urls.get(one.id, ())) for one in catalog.apps.values()}
    catalog.activate(Catalog(version=1, sets=catalog.sets, apps=apps))
    mine = await scene.site.signed_in()
    answer = await mine.post(f"{SCREEN}/consents", {"permission_set_id": other, "app": app_id})
    assert answer.status_code == 303
