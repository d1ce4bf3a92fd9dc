"""What flows leave behind: no token, secret, state or code in any log line, page or event; names can be erased."""

import asyncio
import logging
import re
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from consent_gateway import people_command
from consent_gateway.consent.proof import Administrator
from consent_gateway.core import Core
from consent_gateway.people import user_id
from shared import logs
from shared.settings import AuthSettings, LogSettings
from support import gateway, gateway_site
from support.browsing import Browser
from support.entra_sandbox import EntraSandbox, Visitor
from support.gateway import CONTOSO, FABRIKAM, OPERATOR, SETS
from support.gateway_site import Visit, form_token
from support.ledger import accepted, accepted_on
from support.tokens import AUDIENCE, Issuer, issuing

SCREEN = "/integrations/microsoft-entra-id"


# Signed tokens of whatever kind begin like this: a JSON object in base64, and its end.
SIGNED = re.compile(r"eyJ[\w-]+\.")


@dataclass
class Told:
    """What the platform told browsers and Entra alone, and the pages on which none of it may be."""

    secrets: set[str] = field(default_factory=lambda: {"sandbox-secret", "AT.operator-1", "IT.operator-1"})
    pages: list[str] = field(default_factory=list)

    async def through(self, visit: Visit, step: httpx.Response, by: Visitor, **how: Any) -> httpx.Response:
        """Go through Entra as often as the gateway sends the browser there; the page of the end."""
        while not (url := step.headers["location"]).startswith(("/consent/attempts/", "/invite/")):
            params = dict(await by.go(url, **how))
            self.secrets.update(params[name] for name in ("state", "code") if name in params)
            leg = "callback" if "adminconsent" in url else "proof"
            step = await visit.get(f"/consent/{leg}", params=params)
        return await visit.get(step.headers["location"])

    async def invited(self, mine: Visit, guest: Visit, admin: Visitor) -> None:
        """An invitation, followed to its end."""
        made = await mine.post(f"{SCREEN}/invitations", {"permission_set_id": SETS[2]})
        token = made.text.partition("/invite/")[2].partition("<")[0].partition(chr(34))[0]
        path = f"/invite/{token}"
        # Its link is shown on this page, once.
        mine.pages.remove(made)
        asking = await self.through(guest, await guest.post(path, {"step": "sign-in"}), admin)
        yes = await guest.post(path, {"step": "connect"}, csrf=form_token(asking))
        await self.through(guest, yes, admin)
        self.secrets |= {token, guest.http.cookies["consent_invite"]}
        # The page of an invitation holds its own address: it is the link's own.
        self.pages += [page.text.replace(path, "") for page in guest.pages]

    async def transferred(self, holder: Visit, claimant: Visit, admin: Visitor) -> None:
        """The same tenant for another account: refused, asked for, given away."""
        begun = await claimant.post(f"{SCREEN}/consents", {"permission_set_id": SETS[0], "tenant_id": CONTOSO})
        refused = await self.through(claimant, begun, admin)
        await claimant.post(f"{refused.url.path}/transfer", {"tell_name": "yes"})
        asked = await holder.get(f"{SCREEN}/transfers")
        action = re.search(rf"{SCREEN}/transfers/\w+/accept", asked.text)
        assert action is not None, asked.text
        assert (await holder.post(action[0])).status_code == 303
        for visit in (claimant, holder):
            await visit.get(f"{SCREEN}/transfers")

    async def called(self, visit: Visit, issuer: Issuer) -> None:
        """The API by bearer tokens: one that holds, one that doesn't, and an app's link that nobody follows yet."""
        good, bad = (issuer.headers("admin", account_id="northwind", **more) for more in ({}, {"seconds": -600}))
        made = await visit.http.post("/v1/consents", json={"permission_set_ids": [SETS[0]]}, headers=good)
        assert made.status_code == 201, made.text
        self.secrets |= {made.json()["consent_url"].rpartition("/")[2]}
        self.secrets |= {one["Authorization"].removeprefix("Bearer ") for one in (good, bad)}
        for headers, status in ((good, 200), (bad, 401)):
            for path in ("/v1/transfers", "/v1/invitations", made.headers["location"]):
                assert (await visit.get(path, headers=headers)).status_code == status


def state_of(step: httpx.Response) -> str:
    return dict(parse_qsl(urlsplit(step.headers["location"]).query))["state"]


async def test_nothing_secret_is_left_in_logs_pages_or_the_database(  # noqa: PLR0917 - fixtures
    core: Core,
    entra: EntraSandbox,
    visitor: Visitor,
    mongo_url: str,
    mongo_database: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = gateway.settings(
        mongo_url=mongo_url,
        database=mongo_database,
        login_url=entra.login,
        graph_url=entra.graph,
        ca_bundle=entra.ca,
        wait_seconds=2,
    )
    level, handlers = logging.getLogger().level, list(logging.getLogger().handlers)
    logs.configure(LogSettings(level="debug", format="json"), service="consent-gateway")
    told = Told()
    try:
        async with AsyncExitStack() as stack:
            issuer = await stack.enter_async_context(issuing())
            auth = AuthSettings(issuer=issuer.url, audience=AUDIENCE, jwks_url=f"{issuer.url}/jwks")
            settings = settings.model_copy(update={"auth": auth})
            site = await stack.enter_async_context(gateway_site.site(settings, core.database))
            admin = Visitor(entra, await stack.enter_async_context(Browser()))
            mine = await site.signed_in("northwind", "admin")
            theirs = await site.signed_in("adatum", subject="operator-2")
            begun = {"permission_set_id": SETS[0], "tenant_id": CONTOSO}
            await told.through(mine, await mine.post(f"{SCREEN}/consents", begun), visitor, accept=False)
            await told.through(mine, await mine.post(f"{SCREEN}/consents", begun), visitor)
            await told.invited(mine, site.browser(), admin)
            await told.transferred(mine, theirs, admin)
            await told.called(mine, issuer)
            for page in (SCREEN, f"{SCREEN}/invitations", f"{SCREEN}/history", "/consent/callback?state=made-up-state"):
                await mine.get(page)
            # Two runs are still under way: at the consent page, and at the sign-in, which has a nonce and a verifier.
            told.secrets |= {state_of(await mine.post(f"{SCREEN}/consents", begun))}
            under_way = await mine.post(f"{SCREEN}/consents", begun)
            claim = {"admin_consent": "True", "tenant": CONTOSO, "state": state_of(under_way)}
            at_sign_in = await mine.get("/consent/callback", params=claim)
            told.secrets |= {state_of(one) for one in (under_way, at_sign_in)}
            told.secrets |= {mine.cookie, theirs.cookie, "made-up-state"}
            told.pages += [page.text for page in (*mine.pages, *theirs.pages)]
    finally:
        logging.getLogger().setLevel(level)
        logging.getLogger().handlers[:] = handlers
    names = await core.database.list_collection_names()
    assert {"attempts", "grants", "invitations", "outbox", "people", "sessions", "sign_ins", "transfers"} <= {*names}
    stored = {name: str(await core.database[name].find({}).to_list(None)) for name in names}
    assert CONTOSO in stored["transfers"]
    logged = capsys.readouterr()
    for line in ("consent.proven", "transfer.accepted", "/v1/transfers"):
        assert line in logged.out
    assert len(told.secrets) > 20
    attempt = await core.database["attempts"].find_one({"leg.silent": True})
    assert attempt is not None
    for text in (logged.out, logged.err, *told.pages):
        assert not [name for name in ("nonce", "verifier") if attempt["leg"][name] in text]
    for text in (logged.out, logged.err, *told.pages, *stored.values()):
        assert not [secret for secret in told.secrets if secret in text]
        assert SIGNED.search(text) is None


ADMINISTRATOR = "6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22"
COLLEAGUE = "operator-1@adatum"
ELSEWHERE = ("known elsewhere", "signed in elsewhere")


@pytest.mark.parametrize(
    ("person_id", "stays"),
    [
        ("operator-1", {COLLEAGUE, "Admin by name"}),
        ("user:northwind:operator-1", {COLLEAGUE, "Admin by name", *ELSEWHERE}),
        (ADMINISTRATOR, {COLLEAGUE, "operator-1 by name", *ELSEWHERE}),
        (f"{CONTOSO}:{ADMINISTRATOR}", {COLLEAGUE, "operator-1 by name", *ELSEWHERE}),
        (f"{FABRIKAM}:{ADMINISTRATOR}", {COLLEAGUE, "operator-1 by name", *ELSEWHERE, "Admin by name"}),
    ],
)
async def test_a_person_is_forgotten_by_any_of_their_ids(
    make_core: Any, mongo_url: str, mongo_database: str, person_id: str, stays: set[str]
) -> None:
    """Names, where from, and sessions, which hold a name too; nobody else's."""
    core: Core = await make_core(wait_seconds=0)
    settings = gateway.settings(mongo_url=mongo_url, database=mongo_database)
    where = {"address": "203.0.113.7", "family": "Firefox"}
    async with gateway_site.site(settings, core.database) as site:
        for account_id, subject in (("northwind", "operator-1"), ("adatum", "operator-1"), ("adatum", COLLEAGUE)):
            await site.signed_in(account_id, subject=subject)
            await core.store.people.remember(user_id(account_id, subject), f"{subject} by name")
    # The same subject of another account has names of its own.
    adatums = {"account_id": "adatum", "subject": "operator-1"}
    await core.database["people"].update_one({"_id": user_id(**adatums)}, {"$set": {"name": "known elsewhere"}})
    await core.database["sessions"].update_one(adatums, {"$set": {"name": "signed in elsewhere"}})
    admin = Administrator(tenant_id=CONTOSO, object_id=ADMINISTRATOR, name="Admin by name", roles=None)
    await accepted(core, admin, OPERATOR, SETS[0])
    # Somebody else made the link that the operator followed.
    run = {"started_from": where, "last_from": where, "subject": "maker-1", "follower": "operator-1"}
    await core.database["attempts"].update_many({}, {"$set": run})

    known = await people_command.forget(settings, person_id)

    left = str([await core.database[name].find({}).to_list(None) for name in ("people", "sessions", "attempts")])
    names = {"Admin by name", "operator-1 by name", *ELSEWHERE, COLLEAGUE}
    assert {name for name in names if name in left} == stays
    # The run was the operator's and the administrator's: whoever of them is forgotten takes along where it came from.
    assert ("203.0.113.7" in left) == (person_id.startswith(FABRIKAM))
    assert known == (not person_id.startswith(FABRIKAM))


async def test_a_command_erases_a_person(core: Core, mongo_url: str, mongo_database: str) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SETS[0])
    (tenant,) = await core.store.grants.grants_of("northwind")
    (object_id,) = tenant.people
    environment = {
        "PUBLIC_URL": gateway.PUBLIC_URL,
        "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "MONGO__URL": mongo_url,
        "MONGO__DATABASE": mongo_database,
        "AUTH__ISSUER": "http://idp.test",
        "AUTH__AUDIENCE": "consent-platform",
        "AUTH__JWKS_URL": "http://idp.test/jwks",
        "CATALOG__CLIENT_IDS": str(gateway.CLIENT_IDS).replace("'", '"'),
        "ENTRA__HOME_TENANT_ID": gateway.HOME,
        "ENTRA__CLIENT_SECRET": "secret",
        "CONSOLE__ISSUER": "http://idp.test",
        "CONSOLE__CLIENT_SECRET": "secret",
        "CONSOLE__SESSION_SECRET": "a secret that is long enough for it",
        "REGISTRY_URL": "http://registry.test",
        "NOTIFIER_URL": "http://notifier.test",
    }
    for said, code in (("what was known is erased", 0), ("nothing was known", 1)):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "consent_gateway", "people", "forget", object_id),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert (process.returncode, said in out.decode()) == (code, True)
    (tenant,) = await core.store.grants.grants_of("northwind")
    assert tenant.people == {}
