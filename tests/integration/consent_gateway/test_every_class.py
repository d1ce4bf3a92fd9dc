"""Each class of Entra's answers on each leg of a person's way: what is shown and kept, and that nothing changes."""

import html
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
import pytest_asyncio

from consent_gateway.consent.neighbours import SignIn
from consent_gateway.core import Core
from consent_gateway.entra.answers import Class, EntraFailed, Stage
from consent_gateway.entra.discovery import failure
from consent_gateway.web.texts import plain
from support import gateway, gateway_site
from support.entra_classes import EVERY, Leads
from support.gateway import CONTOSO
from support.gateway_site import Visit

SET = "read-directory-data"
# Entra's descriptions hold personal data and, from a stranger, whatever they like.
SAID = "Account <b>someone@contoso.com</b> of\r\nTrace ID: 0000aaaa"
LEFT_BEHIND = ("someone@contoso.com", "Trace ID")


@dataclass
class Scene:
    """The gateway, with somebody who is signed in, and an Entra that refuses as it is told."""

    core: Core
    visit: Visit
    # What was asked of Entra, and whether the person was to choose an account.
    out: list[str] = field(default_factory=list)
    chooses: bool = False
    refuses: Leads | None = None

    async def books(self) -> dict[str, Any]:
        names = ("grants", "links", "slots", "tenants")
        return {name: await self.core.database[name].find({}).to_list(None) for name in names}

    async def begun(self) -> str:
        """A run; its state at the consent page."""
        form = {"permission_set_id": SET, "tenant_id": CONTOSO}
        step = await self.visit.post("/integrations/microsoft-entra-id/consents", form)
        assert step.status_code == 303, step.text
        return state_of(step)

    async def signing_in(self, *, silent: bool) -> str:
        """A run whose consent page said yes; its state at the sign-in."""
        claim = {"admin_consent": "True", "tenant": CONTOSO, "state": await self.begun()}
        step = await self.visit.get(f"/consent/callback?{urlencode(claim)}")
        if not silent:
            step = await self.visit.get(f"/consent/proof?error=login_required&state={state_of(step)}")
        return state_of(step)

    async def refused(self, path: str, state: str, leads: Leads) -> httpx.Response:
        said = {"error": "new_word", "error_description": f"{leads.name}: {SAID}", "state": state}
        return await self.visit.get(f"{path}?{urlencode(said)}")

    async def ended(self, step: httpx.Response, leads: Leads, stage: Stage) -> None:
        """The run is over as the table says, with its event, and with nothing else."""
        path = urlsplit(step.headers["location"]).path
        assert path.startswith("/consent/attempts/"), (leads, step.headers["location"])
        attempt_id = path.rpartition("/")[2]
        attempt = await self.core.database["attempts"].find_one({"_id": attempt_id}) or {}
        assert (attempt["failure"], attempt["error_code"], attempt["stage"], attempt["phase"]) == (
            str(leads.ends_with),
            leads.name,
            str(stage),
            "closed",
        )
        events = [json.loads(row["value"]) for row in await self.core.database["outbox"].find({}).to_list(None)]
        (told,) = [event for event in events if event["attempt_id"] == attempt_id]
        assert (told["reason"], told["error_code"], told["stage"], told["tenant_id"], told["actor"]["id"]) == (
            str(leads.ends_with),
            leads.name,
            str(stage),
            None,
            "operator-1",
        )
        assert not any(word in f"{attempt} {told}" for word in LEFT_BEHIND)
        assert not any((await self.books()).values())


def state_of(step: httpx.Response) -> str:
    return parse_qs(urlsplit(step.headers["location"]).query)["state"][0]


@pytest_asyncio.fixture
async def scene(mongo_url: str, mongo_database: str) -> AsyncIterator[Scene]:
    settings = gateway.settings(mongo_url=mongo_url, database=mongo_database, wait_seconds=0)
    core = Core.of(settings)
    async with core.open(), gateway_site.site(settings, core.database, indexes=False) as site:
        scene = Scene(core, await site.signed_in())

        async def origin() -> str:
            return "https://login.entra.test"

        async def begin(*, state: str, choose_account: bool, **_: object) -> SignIn:
            scene.out.append("sign-in")
            scene.chooses = choose_account
            if scene.refuses is not None:
                raise refusal(Stage.DISCOVERY, scene.refuses)
            return SignIn(url=f"https://login.entra.test/?state={state}", nonce="n", verifier="v", scope=())

        async def redeem(*_: object, **__: object) -> str:
            assert scene.refuses is not None
            raise refusal(Stage.REDEEM, scene.refuses)

        tokens = site.app.state.core.entra.tokens
        with pytest.MonkeyPatch.context() as patch:
            for name, played in (("authorization_origin", origin), ("begin_sign_in", begin), ("redeem", redeem)):
                patch.setattr(tokens, name, played)
            yield scene


def refusal(stage: Stage, leads: Leads) -> EntraFailed:
    body = {"error": "new_word", "error_description": f"{leads.name}: {SAID}", "error_codes": [leads.code]}
    return EntraFailed(failure(stage, 400, body))


async def test_at_the_consent_page_every_class_has_its_page_and_its_next_step(scene: Scene) -> None:
    for klass in Class:
        leads = EVERY[klass]
        step = await scene.refused("/consent/callback", await scene.begun(), leads)
        await scene.ended(step, leads, Stage.CONSENT)
        page = await scene.visit.get(step.headers["location"])
        text = html.unescape(page.text)
        assert page.status_code == leads.status, klass
        for part in ("title", "what", "next"):
            assert plain(f"problem.{leads.ends_with}.{part}") in text, (klass, part)
        assert leads.name in text, "what to quote to support"
        assert not any(word in text for word in LEFT_BEHIND)
        attempt_id = step.headers["location"].rpartition("/")[2]
        attempt = await scene.core.consent.consent_of(attempt_id, account_id="northwind", app_id=None)
        assert attempt.next_step is leads.next_step, klass
    assert scene.out == []


async def test_at_a_sign_in_without_pages_every_class_ends_it_or_gets_pages(scene: Scene) -> None:
    for klass in Class:
        leads = EVERY[klass]
        state = await scene.signing_in(silent=True)
        scene.out.clear()
        step = await scene.refused("/consent/proof", state, leads)
        assert scene.out == (["sign-in"] if leads.with_pages else []), klass
        if leads.with_pages:
            assert step.headers["location"].startswith("https://login.entra.test/"), klass
            assert scene.chooses is leads.choose_account
        else:
            await scene.ended(step, leads, Stage.SIGN_IN)
    assert not any((await scene.books()).values())


async def test_at_a_sign_in_with_pages_every_class_ends_it(scene: Scene) -> None:
    for klass in Class:
        state = await scene.signing_in(silent=False)
        scene.out.clear()
        await scene.ended(await scene.refused("/consent/proof", state, EVERY[klass]), EVERY[klass], Stage.SIGN_IN)
        assert scene.out == []


async def test_a_tenant_or_a_code_that_entra_refuses_ends_it_by_the_class_of_the_refusal(scene: Scene) -> None:
    for klass in Class:
        state = await scene.signing_in(silent=True)
        scene.refuses = EVERY[klass]
        step = await scene.visit.get(f"/consent/proof?code=c&state={state}")
        await scene.ended(step, EVERY[klass], Stage.REDEEM)
        claim = {"admin_consent": "True", "tenant": CONTOSO, "state": await scene.begun()}
        step = await scene.visit.get(f"/consent/callback?{urlencode(claim)}")
        await scene.ended(step, EVERY[klass], Stage.DISCOVERY)
        scene.refuses = None
