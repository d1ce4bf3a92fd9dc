"""Hostile callbacks: each is refused before anything goes on the wire, and leaves the database as it was."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from consent_gateway.consent.attempts import AttemptStatus, Ended, Person, Redirect, Requester
from consent_gateway.consent.consent import Consent
from consent_gateway.consent.legs import Legs, Rules
from consent_gateway.consent.neighbours import Neighbours, SignIn
from consent_gateway.consent.proof import CONSUMER_TENANT, SigningKey
from consent_gateway.consent.starts import Starts
from consent_gateway.core import Core, utc_now
from consent_gateway.entra.answers import Answer, Class, EntraFailed, Stage
from consent_gateway.errors import Kind, Refused
from support.gateway import CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR, PUBLIC_URL

SET = "read-directory-data"
VIEWER = replace(OPERATOR, roles=frozenset({"viewer"}))
Params = list[tuple[str, str]]


@dataclass
class Wire:
    """Stands where Entra is, and notes whatever would have gone out."""

    calls: list[str] = field(default_factory=list)
    fails: Class | None = None

    async def authorization_origin(self) -> str:
        return "https://login.entra.test"

    async def begin_sign_in(self, *, tenant_id: str, silent: bool, state: str, **_: object) -> SignIn:
        self._note(f"sign-in on {tenant_id} {'silently' if silent else 'with pages'}")
        return SignIn(url=f"https://login.entra.test/?state={state}", nonce="n", verifier="v", scope=("openid",))

    async def redeem(self, *_: object, **__: object) -> str:
        self._note("redeem")
        raise EntraFailed(Answer(stage=Stage.REDEEM, klass=Class.REPLAY))

    async def signing_key(self, **_: object) -> tuple[SigningKey, str]:
        raise AssertionError("nothing was redeemed")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.fails is not None:
            raise EntraFailed(Answer(stage=Stage.DISCOVERY, klass=self.fails))


class Nobody:
    """Nothing is ever verified here."""

    async def settle(self, *_: object, **__: object) -> None:
        raise AssertionError("no consent was proven")


@dataclass
class Scene:
    """A gateway with one attempt that waits for its callback."""

    core: Core
    consent: Consent
    wire: Wire
    state: str

    async def dump(self) -> dict[str, Any]:
        names = ("attempts", "grants", "links", "slots", "tenants", "outbox")
        return {name: await self.core.database[name].find({}).sort("_id", 1).to_list(None) for name in names}

    async def books(self) -> dict[str, Any]:
        dump = await self.dump()
        return {name: dump[name] for name in ("grants", "links", "slots", "tenants")}

    async def proving(self) -> str:
        """Go on to the proof; its state."""
        step = await self.consent.callback(success(self.state), person=OPERATOR, session_hash="session-1")
        assert isinstance(step, Redirect)
        self.wire.calls.clear()
        return state_of(step.url)


def state_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


def success(state: str, tenant: str = CONTOSO) -> Params:
    return [("admin_consent", "True"), ("tenant", tenant), ("scope", "x"), ("state", state)]


@pytest_asyncio.fixture
async def scene(make_core: Any) -> AsyncIterator[Scene]:
    core, wire = await make_core(), Wire()
    rules = Rules(public_url=PUBLIC_URL, attempt_seconds=600, wait_seconds=0, verify_deadline_seconds=60)
    neighbours = Neighbours(
        attempts=core.store.attempts,
        records=core.store,
        entra=wire,
        grants=core.store.grants,
        verification=Nobody(),
        committed=lambda: None,
        clock=utc_now,
    )
    legs = Legs(core.catalog, rules, entra=wire)
    starts = Starts(core.catalog, legs, attempts=core.store.attempts, clock=utc_now)
    consent = Consent(core.catalog, starts, legs, neighbours)
    yield Scene(core, consent, wire, state_of(await consent.start(OPERATOR, permission_set_ids=[SET])))


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ([], Kind.MISSING),
        ([("state", ""), ("admin_consent", "True"), ("tenant", CONTOSO)], Kind.MISSING),
        ([("admin_consent", "True"), ("tenant", CONTOSO)], Kind.MISSING),
        (success("another state"), Kind.UNKNOWN),
        ([*success("{state}"), ("state", "{state}")], Kind.MALFORMED),
        ([*success("{state}"), ("tenant", FABRIKAM)], Kind.MALFORMED),
        (success("{state}", "contoso.com"), Kind.MALFORMED),
        (success("{state}", "../common"), Kind.MALFORMED),
        (success("{state}", f"{CONTOSO}/../common"), Kind.MALFORMED),
        (success("{state}", "00000000-0000-0000-0000-000000000000"), Kind.MALFORMED),
        (success("{state}", CONTOSO.replace("-", "")), Kind.MALFORMED),
        (success("{state}", f"{{{CONTOSO}}}"), Kind.MALFORMED),
        (success("{state}", ""), Kind.MALFORMED),
        ([("tenant", CONTOSO), ("state", "{state}")], Kind.MALFORMED),
        ([("admin_consent", "False"), ("tenant", CONTOSO), ("state", "{state}")], Kind.MALFORMED),
        ([("error", ""), ("state", "{state}")], Kind.MALFORMED),
        ([*success("{state}"), ("x", "y" * 9000)], Kind.MALFORMED),
        ([*success("{state}"), *((f"p{n}", "") for n in range(30))], Kind.MALFORMED),
    ],
)
async def test_a_bad_callback_is_refused_and_the_attempt_stays_usable(scene: Scene, params: Params, kind: Kind) -> None:
    filled = [(name, value.replace("{state}", scene.state)) for name, value in params]
    before = await scene.dump()
    with pytest.raises(Refused) as refused:
        await scene.consent.callback(filled, person=OPERATOR, session_hash="session-1")
    assert refused.value.kind is kind
    assert scene.wire.calls == []
    assert await scene.dump() == before
    assert await scene.proving()


@pytest.mark.parametrize(
    ("person", "session_hash", "kind"),
    [
        (replace(OPERATOR, session_hash="session-9"), "session-9", Kind.OTHER_BROWSER),
        (OTHER_OPERATOR, "session-2", Kind.OTHER_BROWSER),
        (OPERATOR, "session-9", Kind.OTHER_BROWSER),
        (OPERATOR, None, Kind.OTHER_BROWSER),
        (None, None, Kind.OTHER_BROWSER),
        (None, "session-1", Kind.NOT_SIGNED_IN),
        (replace(OPERATOR, account_id="adatum"), "session-1", Kind.USED),
    ],
)
@pytest.mark.parametrize("leg", ["callback", "proof"])
async def test_another_browser_person_or_account_is_refused_on_both_legs(
    scene: Scene, person: Person | None, session_hash: str | None, kind: Kind, leg: str
) -> None:
    if leg == "proof":
        params: Params = [("code", "c"), ("state", await scene.proving())]
    else:
        params = success(scene.state)
    use = scene.consent.prove if leg == "proof" else scene.consent.callback
    before = await scene.dump()
    with pytest.raises(Refused) as refused:
        await use(params, person=person, session_hash=session_hash)
    assert refused.value.kind is kind
    assert scene.wire.calls == []
    assert await scene.dump() == before


async def test_a_state_is_good_for_its_own_leg_only(scene: Scene) -> None:
    before = await scene.dump()
    with pytest.raises(Refused, match="unknown"):
        await scene.consent.prove([("code", "c"), ("state", scene.state)], person=OPERATOR, session_hash="session-1")
    assert await scene.dump() == before
    proof_state = await scene.proving()
    before = await scene.dump()
    with pytest.raises(Refused, match="unknown"):
        await scene.consent.callback(success(proof_state), person=OPERATOR, session_hash="session-1")
    with pytest.raises(Refused, match="used"):
        await scene.consent.callback(success(scene.state), person=OPERATOR, session_hash="session-1")
    assert scene.wire.calls == []
    assert await scene.dump() == before


async def test_fifty_callbacks_with_one_state_send_one_browser_on(scene: Scene) -> None:
    answers = await asyncio.gather(
        *(scene.consent.callback(success(scene.state), person=OPERATOR, session_hash="session-1") for _ in range(50)),
        return_exceptions=True,
    )
    assert len([one for one in answers if isinstance(one, Redirect)]) == 1
    assert {str(one) for one in answers if isinstance(one, BaseException)} == {"used"}
    assert scene.wire.calls == [f"sign-in on {CONTOSO} silently"]
    assert not any((await scene.books()).values())


async def test_a_code_is_redeemed_once(scene: Scene) -> None:
    params: Params = [("code", "c"), ("state", await scene.proving())]
    answers = await asyncio.gather(
        *(scene.consent.prove(params, person=OPERATOR, session_hash="session-1") for _ in range(20)),
        return_exceptions=True,
    )
    assert len([one for one in answers if isinstance(one, Ended)]) == 1
    assert scene.wire.calls == ["redeem"]
    assert not any((await scene.books()).values())


@pytest.mark.parametrize(
    "query",
    [
        [],
        [("code", "")],
        [("error", "")],
        [("error", ""), ("code", "c")],
        [("code", "c"), ("code", "d")],
        [("code", "c" * 9_000)],
        [("code", "c"), *((f"p{number}", "") for number in range(30))],
    ],
)
async def test_a_proof_without_code_or_error_is_refused(scene: Scene, query: Params) -> None:
    state = await scene.proving()
    before = await scene.dump()
    with pytest.raises(Refused, match="malformed"):
        await scene.consent.prove([*query, ("state", state)], person=OPERATOR, session_hash="session-1")
    assert scene.wire.calls == []
    assert await scene.dump() == before


@pytest.mark.parametrize(
    ("params", "kind", "code"),
    [
        ([("error", "access_denied"), ("error_subcode", "cancel")], Kind.DECLINED, "access_denied"),
        (
            [("error", "access_denied"), ("admin_consent", "True"), ("tenant", CONTOSO)],
            Kind.DECLINED,
            "access_denied",
        ),
        ([("error", "invalid_client"), ("error_description", "AADSTS650051: x")], Kind.STILL_CHANGING, "AADSTS650051"),
        ([("error", "<b>x</b>"), ("error_description", "<script>")], Kind.UNKNOWN_ANSWER, None),
        ([("admin_consent", "True"), ("tenant", CONSUMER_TENANT)], Kind.PERSONAL_ACCOUNT, None),
    ],
)
async def test_an_error_of_entra_ends_the_attempt_without_asking_anybody(
    scene: Scene, params: Params, kind: Kind, code: str | None
) -> None:
    step = await scene.consent.callback([*params, ("state", scene.state)], person=OPERATOR, session_hash="session-1")
    assert isinstance(step, Ended)
    view = await scene.consent.attempt(step.attempt_id, session_hash="session-1")
    assert (view.failure, view.error_code) == (kind, code)
    assert scene.wire.calls == []
    assert not any((await scene.books()).values())


async def test_what_an_answer_names_in_other_letters_is_the_same_tenant(scene: Scene) -> None:
    """GUIDs have no case; the sign-in goes to the canonical one."""
    params = success(scene.state, CONTOSO.upper())
    assert isinstance(await scene.consent.callback(params, person=OPERATOR, session_hash="session-1"), Redirect)
    assert scene.wire.calls == [f"sign-in on {CONTOSO} silently"]


async def test_silence_is_tried_before_a_page_and_only_once(scene: Scene) -> None:
    params: Params = [("error", "login_required"), ("state", await scene.proving())]
    step = await scene.consent.prove(params, person=OPERATOR, session_hash="session-1")
    assert isinstance(step, Redirect)
    assert scene.wire.calls == [f"sign-in on {CONTOSO} with pages"]
    params = [("error", "login_required"), ("state", state_of(step.url))]
    assert isinstance(await scene.consent.prove(params, person=OPERATOR, session_hash="session-1"), Ended)
    assert len(scene.wire.calls) == 1


@pytest.mark.parametrize(
    ("klass", "kind"),
    [(Class.TENANT, Kind.TENANT_UNKNOWN), (Class.TRANSIENT, Kind.ENTRA_UNAVAILABLE)],
)
async def test_a_tenant_that_cannot_be_signed_in_to_ends_the_attempt(scene: Scene, klass: Class, kind: Kind) -> None:
    scene.wire.fails = klass
    step = await scene.consent.callback(success(scene.state), person=OPERATOR, session_hash="session-1")
    assert isinstance(step, Ended)
    assert (await scene.consent.attempt(step.attempt_id, session_hash="session-1")).failure is kind


async def test_starting_is_for_operators_and_for_what_exists(scene: Scene) -> None:
    before = await scene.dump()
    for person, arguments, kind in (
        (VIEWER, {"permission_set_ids": [SET]}, Kind.FORBIDDEN),
        (OPERATOR, {"permission_set_ids": []}, Kind.INVALID),
        (OPERATOR, {"permission_set_ids": ["nothing"]}, Kind.INVALID),
        (OPERATOR, {"permission_set_ids": [SET], "tenant_id": "contoso.com"}, Kind.MALFORMED),
        (OPERATOR, {"permission_set_ids": [SET], "return_url": "https://evil.test/"}, Kind.INVALID),
    ):
        with pytest.raises(Refused) as refused:
            await scene.consent.start(person, **arguments)
        assert refused.value.kind is kind
    assert await scene.dump() == before


async def test_the_page_of_an_attempt_is_for_its_own_session_and_states_are_kept_as_hashes_only(
    scene: Scene,
) -> None:
    (document,) = await scene.core.database["attempts"].find({}).to_list(None)
    assert scene.state not in str(document)
    for session_hash in ("session-9", None):
        with pytest.raises(Refused, match="not_found"):
            await scene.consent.attempt(document["_id"], session_hash=session_hash)
    view = await scene.consent.attempt(document["_id"], session_hash="session-1")
    assert view.status is AttemptStatus.PENDING


async def test_an_app_asks_for_its_own_sets_and_reads_its_own_consents(scene: Scene) -> None:
    app = Requester(account_id="northwind", account_name=None, subject="app", app_id="mobile-security")
    with pytest.raises(Refused, match="forbidden"):
        await scene.consent.create_link(app, permission_set_ids=["manage-accounts"])
    view, token = await scene.consent.create_link(app, permission_set_ids=[SET])
    assert (await scene.consent.consent_of(view.id, account_id=None, app_id="mobile-security")).id == view.id
    for account_id, app_id in (("adatum", None), (None, "workbench")):
        with pytest.raises(Refused, match="not_found"):
            await scene.consent.consent_of(view.id, account_id=account_id, app_id=app_id)
    (document,) = await scene.core.database["attempts"].find({"_id": view.id}).to_list(None)
    assert token not in str(document)
    followers = (
        scene.consent.follow_link(token, replace(OPERATOR, session_hash=f"session-{number}")) for number in range(20)
    )
    answers = await asyncio.gather(*followers, return_exceptions=True)
    assert len([one for one in answers if isinstance(one, str)]) == 1
