"""Each check by itself: the attack is refused, and with exactly this check switched off it gets through.

Entra is played in this process, so that a test can have any token signed that an attacker could wish for.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from time import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa

from consent_gateway.consent import attempt_store, consent, proof, starts, transfer_records, transfers
from consent_gateway.consent.attempts import Attempt, Person, Proven, Requester
from consent_gateway.consent.neighbours import SignIn
from consent_gateway.consent.proof import APPLICATION_ADMINISTRATOR, GLOBAL_ADMINISTRATOR, SigningKey
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind
from consent_gateway.web import guard, invite_pages, security, sessions
from consent_gateway.web.sessions import Sessions, csrf_token
from support import gateway, gateway_site
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR
from support.gateway_site import Site, Visit
from support.ledger import accepted_on, take, waiting

SET = "read-directory-data"
SCREEN = "/integrations/microsoft-entra-id"
ADMINISTRATOR = "6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WRONG_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
Patch = pytest.MonkeyPatch


@dataclass
class Scene:
    """The gateway, with an Entra that says whatever ``claims`` say."""

    site: Site
    core: Core
    claims: dict[str, Any] = field(default_factory=dict)
    signed_with: Any = KEY
    # What went out to Entra since the hostile step, and what was in the books right before it.
    out: list[str] = field(default_factory=list)
    books: dict[str, Any] | None = None

    async def read_books(self) -> dict[str, Any]:
        names = ("grants", "links", "slots", "tenants")
        return {name: await self.core.database[name].find({}).sort("_id", 1).to_list(None) for name in names}

    async def hostile(self) -> None:
        """What comes now is the attack."""
        self.books = await self.read_books()
        self.out.clear()

    def token(self, tenant_id: str, client_id: str) -> str:
        now = int(time())
        claims = {
            "aud": client_id,
            "iss": f"https://login.entra.test/{tenant_id}/v2.0",
            "tid": tenant_id,
            "exp": now + 600,
            "iat": now,
            "nonce": hashlib.sha256(b"nonce").hexdigest(),
            "oid": ADMINISTRATOR,
            "wids": [GLOBAL_ADMINISTRATOR],
        }
        return jwt.encode(claims | self.claims, self.signed_with, algorithm="RS256", headers={"kid": "key-1"})

    async def granted(self, account_id: str = "northwind") -> bool:
        return await self.core.database["grants"].count_documents({"account_id": account_id}) > 0


@pytest_asyncio.fixture
async def scene(mongo_url: str, mongo_database: str) -> AsyncIterator[Scene]:
    settings = gateway.settings(mongo_url=mongo_url, database=mongo_database, wait_seconds=0)
    # Without indexes, for the sake of time: no check here relies on one.
    inside = Core.of(settings)
    async with inside.open(), gateway_site.site(settings, inside.database, indexes=False) as site:
        scene = Scene(site, site.app.state.core)
        inside = site.app.state.core

        async def origin() -> str:
            scene.out.append("discovery")
            return "https://login.entra.test"

        async def begin(*, state: str, **_: object) -> SignIn:
            scene.out.append("sign-in")
            return SignIn(url=f"https://login.entra.test/?state={state}", nonce="nonce", verifier="v", scope=())

        async def redeem(leg: Any, **_: object) -> str:
            scene.out.append("redeem")
            tenant_id = leg.tenant_id if leg.tenant_id != "organizations" else CONTOSO
            return scene.token(tenant_id, leg.client_id)

        async def signing_key(*, tenant_id: str, **_: object) -> tuple[SigningKey, str]:
            scene.out.append("keys")
            jwk = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "key-1", "alg": "RS256"}
            return SigningKey(key=jwt.PyJWK(jwk), issuer=None), f"https://login.entra.test/{tenant_id}/v2.0"

        async def settle(*_: object, **__: object) -> None:
            scene.out.append("verification")

        with pytest.MonkeyPatch.context() as patch:
            for name, played in (("authorization_origin", origin), ("begin_sign_in", begin), ("redeem", redeem)):
                patch.setattr(inside.entra.tokens, name, played)
            patch.setattr(inside.entra.tokens, "signing_key", signing_key)
            patch.setattr(inside.verification, "settle", settle)
            yield scene


def state_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


async def begun(visit: Visit, tenant_id: str = CONTOSO) -> str:
    answer = await visit.post(f"{SCREEN}/consents", {"permission_set_id": SET, "tenant_id": tenant_id})
    assert answer.status_code == 303, answer.text
    return state_of(answer.headers["location"])


def claim(state: str, tenant_id: str = CONTOSO) -> str:
    return f"/consent/callback?admin_consent=True&tenant={tenant_id}&state={state}"


async def proven(scene: Scene, visit: Visit, state: str) -> None:
    step = await visit.get(claim(state))
    if step.status_code == 303 and "login.entra.test" in step.headers["location"]:
        await scene.hostile()
        await visit.get(f"/consent/proof?code=c&state={state_of(step.headers['location'])}")


# Attacks: each says whether it got through.


async def flawed(scene: Scene, signed_with: Any = None, **claims: Any) -> bool:
    mine = await scene.site.signed_in()
    scene.claims, scene.signed_with = claims, signed_with or KEY
    await proven(scene, mine, await begun(mine))
    return await scene.granted()


async def by_another_browser(scene: Scene) -> bool:
    mine, colleague = await scene.site.signed_in(), await scene.site.signed_in(subject="operator-9")
    state = await begun(mine)
    await scene.hostile()
    return (await colleague.get(claim(state))).status_code == 303


async def too_late(scene: Scene) -> bool:
    mine = await scene.site.signed_in()
    state = await begun(mine)
    await scene.core.database["attempts"].update_many({}, {"$set": {"expires_at": utc_now()}})
    await scene.hostile()
    return (await mine.get(claim(state))).status_code == 303


async def twice_the_tenant(scene: Scene) -> bool:
    mine = await scene.site.signed_in()
    state = await begun(mine)
    await scene.hostile()
    return (await mine.get(f"{claim(state, FABRIKAM)}&tenant={CONTOSO}")).status_code == 303


async def a_state_again(scene: Scene) -> bool:
    mine = await scene.site.signed_in()
    state = await begun(mine)
    await mine.get(claim(state))
    await scene.hostile()
    return (await mine.get(claim(state))).status_code == 303


async def another_tenant_than_was_named(scene: Scene) -> bool:
    mine = await scene.site.signed_in()
    state = await begun(mine, CONTOSO)
    await scene.hostile()
    step = await mine.get(claim(state, FABRIKAM))
    return "login.entra.test" in step.headers["location"]


def claiming(tenant_id: str) -> Callable[[Scene], Awaitable[bool]]:
    """A callback that says so, of a run for which nobody named a tenant."""

    async def attack(scene: Scene) -> bool:
        mine = await scene.site.signed_in()
        state = await begun(mine, "")
        await scene.hostile()
        step = await mine.get(claim(state, tenant_id))
        return "login.entra.test" in step.headers.get("location", "")

    return attack


async def for_another_account(scene: Scene) -> bool:
    """The same browser session, whose person has come to act for another account meanwhile."""
    mine = await scene.site.signed_in()
    state = await begun(mine)
    await scene.core.database["sessions"].update_many({}, {"$set": {"account_id": "adatum"}})
    await scene.hostile()
    return (await mine.get(claim(state))).status_code == 303


async def a_link_of_another_account(scene: Scene) -> bool:
    requester = Requester(account_id="adatum", account_name=None, subject="operator-2", app_id=None)
    _, token = await scene.core.consent.create_link(requester, permission_set_ids=[SET])
    mine = await scene.site.signed_in()
    await scene.hostile()
    return (await mine.post(f"/connect/{token}")).status_code == 303


async def without_the_role_any_more(scene: Scene) -> bool:
    mine = await scene.site.signed_in()
    step = await mine.get(claim(await begun(mine)))
    await scene.core.database["sessions"].update_many({}, {"$set": {"roles": ["viewer"]}})
    await scene.hostile()
    await mine.get(f"/consent/proof?code=c&state={state_of(step.headers['location'])}")
    return await scene.granted()


async def a_tenant_of_somebody_else(scene: Scene) -> bool:
    await accepted_on(scene.core, CONTOSO, OTHER_OPERATOR, SET)
    mine = await scene.site.signed_in()
    await proven(scene, mine, await begun(mine))
    return await scene.granted()


async def a_forged_form(scene: Scene) -> bool:
    mine = await scene.site.signed_in()
    await scene.hostile()
    answer = await mine.post(f"{SCREEN}/consents", {"permission_set_id": SET}, csrf="forged")
    return answer.status_code == 303


async def a_form_of_another_site(scene: Scene) -> bool:
    mine = await scene.site.signed_in()
    mine.origin, mine.fetch_site = "https://evil.test", "cross-site"
    await scene.hostile()
    return (await mine.post(f"{SCREEN}/consents", {"permission_set_id": SET})).status_code == 303


async def a_viewer_starts(scene: Scene) -> bool:
    viewer = await scene.site.signed_in("northwind", "viewer")
    await scene.hostile()
    return (await viewer.post(f"{SCREEN}/consents", {"permission_set_id": SET})).status_code == 303


async def invited(scene: Scene) -> tuple[str, Visit]:
    mine = await scene.site.signed_in()
    page = (await mine.post(f"{SCREEN}/invitations", {"permission_set_id": SET})).text
    guest = scene.site.browser()
    path = f"/invite/{page.partition('/invite/')[2].partition('<')[0].partition(chr(34))[0]}"
    step = await guest.post(path, {"step": "sign-in"})
    await guest.get(f"/consent/proof?code=c&state={state_of(step.headers['location'])}")
    return path, guest


async def a_revoked_invitation(scene: Scene) -> bool:
    path, guest = await invited(scene)
    page = await guest.get(path)
    await scene.core.database["invitations"].update_many({}, {"$set": {"status": "revoked"}})
    await scene.hostile()
    answer = await guest.post(path, {"step": "connect"}, csrf=gateway_site.form_token(page))
    return answer.status_code == 303


async def a_yes_without_its_form(scene: Scene) -> bool:
    path, guest = await invited(scene)
    await scene.hostile()
    return (await guest.post(path, {"step": "connect"}, csrf="forged")).status_code == 303


async def a_planted_invitation(scene: Scene) -> bool:
    """The cookie that an attacker had before, put into the browser of whoever signs in."""
    mine = await scene.site.signed_in()
    page = (await mine.post(f"{SCREEN}/invitations", {"permission_set_id": SET})).text
    path = f"/invite/{page.partition('/invite/')[2].partition('<')[0].partition(chr(34))[0]}"
    attacker, guest = scene.site.browser(), scene.site.browser()
    await attacker.post(path, {"step": "sign-in"})
    planted = attacker.http.cookies["consent_invite"]
    guest.http.cookies.set("consent_invite", planted)
    step = await guest.post(path, {"step": "sign-in"})
    await guest.get(f"/consent/proof?code=c&state={state_of(step.headers['location'])}")
    await scene.hostile()
    answer = await attacker.post(path, {"step": "connect"}, csrf=csrf_token(planted))
    return answer.status_code == 303


async def a_planted_session(scene: Scene) -> bool:
    """The cookie that an attacker had before, put into the browser of whoever signs in."""
    sessions, attacker = scene.site.sessions, await scene.site.signed_in("stranger")
    victim = await scene.site.signed_in()
    mine = await sessions.open(victim.cookie)
    assert mine is not None
    await sessions.end(victim.cookie)
    await sessions.start(mine.identity, replacing=attacker.cookie)
    await scene.hostile()
    answer = await attacker.post(f"{SCREEN}/consents", {"permission_set_id": SET})
    return "login.entra.test" in answer.headers.get("location", "")


async def an_unconfirmed_tenant(scene: Scene) -> bool:
    path, guest = await invited(scene)
    step = await guest.post(path, {"step": "connect"}, csrf=gateway_site.form_token(await guest.get(path)))
    await proven(scene, guest, state_of(step.headers["location"]))
    return await scene.granted()


async def asked(scene: Scene, at: Any = None) -> Attempt:
    await accepted_on(scene.core, CONTOSO, OPERATOR, SET)
    _, state = await waiting(scene.core, OTHER_OPERATOR, SET)
    attempt = await take(scene.core, state, OTHER_OPERATOR)
    assert attempt is not None
    shown = Proven(tenant_id=CONTOSO, object_id=ADMINISTRATOR, at=at or utc_now())
    await scene.core.store.fail_attempt(
        attempt, kind=Kind.TENANT_TAKEN, stage="redeem", error_code=None, tenant_id=CONTOSO, proven=shown
    )
    return attempt


async def a_transfer_after_seven_days(scene: Scene) -> bool:
    attempt = await asked(scene)
    transfer = await scene.core.flow.transfers.request(attempt.id, OTHER_OPERATOR, tell_name=False)
    await scene.core.database["transfers"].update_many({}, {"$set": {"expires_at": utc_now()}})
    admin = await scene.site.signed_in("northwind", "admin")
    await scene.hostile()
    await admin.post(f"{SCREEN}/transfers/{transfer.id}/accept")
    return await scene.granted("adatum")


async def a_transfer_by_an_operator(scene: Scene) -> bool:
    attempt = await asked(scene)
    transfer = await scene.core.flow.transfers.request(attempt.id, OTHER_OPERATOR, tell_name=False)
    operator = await scene.site.signed_in("northwind", "operator")
    await scene.hostile()
    await operator.post(f"{SCREEN}/transfers/{transfer.id}/accept")
    return await scene.granted("adatum")


async def a_transfer_by_an_old_proof(scene: Scene) -> bool:
    attempt = await asked(scene, at=utc_now().replace(year=2020))
    person = await scene.site.signed_in("adatum", subject="operator-2")
    document = await scene.core.database["sessions"].find_one({"account_id": "adatum"})
    await scene.core.database["attempts"].update_one(
        {"_id": attempt.id}, {"$set": {"session_hash": (document or {})["binding"]}}
    )
    await scene.hostile()
    await person.post(f"/consent/attempts/{attempt.id}/transfer")
    return await scene.core.database["transfers"].count_documents({}) == 1


# How to switch one check off.


def nothing(*_: object, **__: object) -> None:
    return None


def off(module: Any, name: str, value: Any = nothing) -> Callable[[Patch, Scene], None]:
    return lambda patch, _: patch.setattr(module, name, value)


def any_session(patch: Patch, scene: Scene) -> None:
    take_ = attempt_store.AttemptStore.take

    async def taken(self: Any, *, session_hash: str, **how: Any) -> Any:
        document = await scene.core.database["attempts"].find_one({"states": how["state_hash"]})
        return await take_(self, session_hash=(document or {})["session_hash"], **how)

    patch.setattr(attempt_store.AttemptStore, "take", taken)


def at_any_time(patch: Patch, _: Scene) -> None:
    take_ = attempt_store.AttemptStore.take

    async def taken(self: Any, *, now: Any, **how: Any) -> Any:
        return await take_(self, now=now.replace(year=2020), **how)

    patch.setattr(attempt_store.AttemptStore, "take", taken)


def again_and_again(patch: Patch, scene: Scene) -> None:
    take_ = attempt_store.AttemptStore.take
    as_it_was: dict[str, Any] = {}

    async def taken(self: Any, *, state_hash: str, **how: Any) -> Any:
        attempts = scene.core.database["attempts"]
        document: Any = as_it_was.setdefault(state_hash, await attempts.find_one({"states": state_hash}))
        await attempts.replace_one({"_id": document["_id"]}, document)
        return await take_(self, state_hash=state_hash, **how)

    patch.setattr(attempt_store.AttemptStore, "take", taken)


def of_any_account(patch: Patch, scene: Scene) -> None:
    take_ = attempt_store.AttemptStore.take

    async def taken(self: Any, *, state_hash: str, **how: Any) -> Any:
        document = await scene.core.database["attempts"].find_one({"states": state_hash})
        return await take_(self, state_hash=state_hash, **(how | {"account_id": (document or {})["account_id"]}))

    patch.setattr(attempt_store.AttemptStore, "take", taken)


def nobody_named_one(patch: Patch, _: Scene) -> None:
    take_ = attempt_store.AttemptStore.take

    async def taken(self: Any, **how: Any) -> Any:
        attempt = await take_(self, **how)
        return replace(attempt, tenant_id=None) if attempt is not None else None

    patch.setattr(attempt_store.AttemptStore, "take", taken)


def links_of_everybody(patch: Patch, _: Scene) -> None:
    follow = attempt_store.AttemptStore.follow

    async def followed(self: Any, **how: Any) -> bool:
        return await follow(self, **(how | {"account_id": "adatum"}))

    async def opened(*_: object) -> None:
        return None

    patch.setattr(attempt_store.AttemptStore, "follow", followed)
    patch.setattr(starts.Starts, "open_link", opened)


def unsigned(patch: Patch, _: Scene) -> None:
    def claims(id_token: str, *_: object) -> dict[str, Any]:
        return dict(jwt.decode(id_token, options={"verify_signature": False}))

    patch.setattr(proof, "_signed_claims", claims)


def any_audience(patch: Patch, _: Scene) -> None:
    checked = proof._signed_claims

    def claims(id_token: str, key: Any, expected: Any) -> dict[str, Any]:
        said = jwt.decode(id_token, options={"verify_signature": False})["aud"]
        return checked(id_token, key, replace(expected, client_id=said))

    patch.setattr(proof, "_signed_claims", claims)


def any_tenant(patch: Patch, _: Scene) -> None:
    validate = proof.validate

    def validated(id_token: str, *, expected: Any, **how: Any) -> Any:
        tid = jwt.decode(id_token, options={"verify_signature": False})["tid"]
        issuer = expected.issuer.replace(expected.tenant_id, tid)
        return validate(id_token, expected=replace(expected, tenant_id=tid, issuer=issuer), **how)

    patch.setattr(consent, "validate", validated)


def shared_tenants(patch: Patch, scene: Scene) -> None:
    patch.setattr(scene.site.app.state.core.operations._ledger, "_exclusive", False)


def any_form_token(patch: Patch, _: Scene) -> None:
    def origin_only(request: Any, _: Any, *, origin: str, **__: object) -> None:
        if not security.from_our_page(request, origin=origin):
            raise security.FormRefused("another origin")

    patch.setattr(guard, "check_form", origin_only)
    patch.setattr(invite_pages, "check_form", origin_only)


def any_invitation(patch: Patch, scene: Scene) -> None:
    inside = scene.site.app.state.core
    consume = inside.store.invitations.consume

    async def opened(token: str) -> Any:
        return await inside.store.invitations.of_token(hashlib.sha256(token.encode()).hexdigest())

    async def consumed(invitation_id: str, **how: Any) -> bool:
        await consume(invitation_id, **how)
        return True

    patch.setattr(inside.flow.invitations, "_open", opened)
    patch.setattr(inside.store.invitations, "consume", consumed)


def cookie_of_before(patch: Patch, _: Scene) -> None:
    start = Sessions.start

    async def kept(self: Sessions, identity: Any, *, replacing: str | None) -> str:
        if replacing is None:
            return await start(self, identity, replacing=None)
        await self.end(replacing)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(sessions, "random_token", lambda: replacing)
            return await start(self, identity, replacing=None)

    patch.setattr(Sessions, "start", kept)


def fresh_for_ever(patch: Patch, _: Scene) -> None:
    patch.setattr(transfers, "ASK_WITHIN", transfers.LIFE * 1_000)


def never_ends(patch: Patch, _: Scene) -> None:
    document_of = transfer_records._of

    def endless(document: Any) -> Any:
        transfer = document_of(document)
        return replace(transfer, expires_at=utc_now().replace(year=2099)) if transfer is not None else None

    patch.setattr(transfer_records, "_of", endless)


def everybody(attribute: str) -> Callable[[Patch, Scene], None]:
    return lambda patch, _: patch.setattr(Person, attribute, property(lambda _: True))


def token_with(signed_with: Any = None, **claims: Any) -> Callable[[Scene], Awaitable[bool]]:
    return lambda scene: flawed(scene, signed_with, **claims)


OLD, FUTURE = int(time()) - 7_200, int(time()) + 7_200
CHECKS: dict[str, tuple[Callable[[Scene], Awaitable[bool]], Callable[[Patch, Scene], None]]] = {
    "signature": (token_with(WRONG_KEY), unsigned),
    "audience": (token_with(aud=CLIENT_IDS["manage-accounts"]), any_audience),
    "expiry": (token_with(exp=OLD), off(proof, "_check_times")),
    "not before": (token_with(nbf=FUTURE), off(proof, "_check_times")),
    "nonce": (token_with(nonce="another"), off(proof, "_check_nonce")),
    "issuer": (token_with(iss="https://evil.test/v2.0"), off(proof, "_check_issuer")),
    "tenant": (token_with(tid=FABRIKAM, iss=f"https://login.entra.test/{FABRIKAM}/v2.0"), any_tenant),
    "administrator's role": (token_with(wids=[APPLICATION_ADMINISTRATOR]), off(consent, "require_role")),
    "role is said": (token_with(wids=None), off(consent, "require_role")),
    "browser": (by_another_browser, any_session),
    "time": (too_late, at_any_time),
    "state once": (a_state_again, again_and_again),
    "tenant that was named": (another_tenant_than_was_named, nobody_named_one),
    "tenant is a GUID": (
        claiming("../common"),
        off(consent, "claimed_tenant", lambda query: query["tenant"]),
    ),
    "no personal accounts": (claiming(proof.CONSUMER_TENANT), off(consent, "CONSUMER_TENANT", "none")),
    "account": (for_another_account, of_any_account),
    "link's account": (a_link_of_another_account, links_of_everybody),
    "parameters once": (twice_the_tenant, off(consent, "parse", dict)),
    "role before the commit": (without_the_role_any_more, off(consent, "_same", lambda *_: True)),
    "one account": (a_tenant_of_somebody_else, shared_tenants),
    "form token": (a_forged_form, any_form_token),
    "origin": (a_form_of_another_site, off(security, "from_our_page", lambda *_, **__: True)),
    "role at the start": (a_viewer_starts, everybody("may_consent")),
    "invitation's standing": (a_revoked_invitation, any_invitation),
    "invitation's form token": (a_yes_without_its_form, any_form_token),
    "new invitation cookie": (a_planted_invitation, off(invite_pages, "random_token", lambda: "always")),
    "new session cookie": (a_planted_session, cookie_of_before),
    "transfer's end": (a_transfer_after_seven_days, never_ends),
    "transfer's admin": (a_transfer_by_an_operator, everybody("may_administer")),
    "transfer's proof": (a_transfer_by_an_old_proof, fresh_for_ever),
}


# What a sign-in says can be held against the rules only once its code is redeemed; every other refusal comes first.
SAID_BY_THE_SIGN_IN = {
    *("signature", "audience", "expiry", "not before", "nonce", "issuer", "tenant"),
    *("administrator's role", "role is said", "role before the commit", "one account"),
}


@pytest.mark.parametrize("name", CHECKS)
async def test_an_attack_gets_through_only_where_its_check_is_off(scene: Scene, monkeypatch: Patch, name: str) -> None:
    """The refusal asks Entra nothing, and leaves grants, links and slots as they were."""
    attack, switch_off = CHECKS[name]
    assert not await attack(scene)
    assert scene.books is not None, "nobody said which step is the attack"
    assert await scene.read_books() == scene.books
    assert scene.out == (["redeem", "keys"] if name in SAID_BY_THE_SIGN_IN else [])
    for collection in ("attempts", "grants", "links", "slots", "tenants", "invitations", "transfers", "sessions"):
        await scene.core.database[collection].delete_many({})
    switch_off(monkeypatch, scene)
    assert await attack(scene)


async def test_a_tenant_that_nobody_named_is_not_granted_before_it_is_confirmed(scene: Scene) -> None:
    assert not await an_unconfirmed_tenant(scene)
    invitation = await scene.core.database["invitations"].find_one({})
    assert (invitation or {})["status"] == "awaiting_confirmation"
