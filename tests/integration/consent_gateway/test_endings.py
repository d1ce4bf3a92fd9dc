"""What attempts leave behind: one event each, that names who and why; and what a limited app's tenants learn."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempt_sweeper import AttemptSweeper
from consent_gateway.consent.attempts import AttemptStatus, Browser, Channel, Phase, Requester
from consent_gateway.consent.consent import _same
from consent_gateway.consent.legs import Legs, Rules
from consent_gateway.consent.starts import Starts
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind, Refused
from shared.events import Actor, decode
from support.gateway import CONTOSO, FABRIKAM, HOME, OPERATOR
from support.ledger import accepted_on, lost, take, waiting
from support.played import PlayedEntra

SET = "read-directory-data"
USER = Actor(kind="user", id="operator-1")
THIRD = "0d2c1f5e-8a47-4c1b-9f36-7be2d1a4c905"


@pytest_asyncio.fixture
async def core(make_core: Any) -> Core:
    core: Core = await make_core(wait_seconds=0)
    return core


async def events(core: Core, name: str | None = None) -> list[Any]:
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    found = [decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows]
    return [one for one in found if name is None or type(one).__name__ == name]


async def test_what_nobody_finished_ends_once_with_its_event_on_any_number_of_replicas(
    make_core: Any, core: Core
) -> None:
    left, state = await waiting(core, OPERATOR, SET, seconds=-1)
    crashed, taken = await waiting(core, OPERATOR, SET, seconds=300)
    assert await take(core, taken, OPERATOR) is not None
    await core.database["attempts"].update_one(
        {"_id": crashed.id}, {"$set": {"expires_at": utc_now() - timedelta(seconds=121)}}
    )
    fresh, _ = await waiting(core, OPERATOR, SET)
    busy, at_work = await waiting(core, OPERATOR, SET)
    assert await take(core, at_work, OPERATOR) is not None
    # Its time is over, but whoever took it may still wait for Entra.
    await core.database["attempts"].update_one(
        {"_id": busy.id}, {"$set": {"expires_at": utc_now() - timedelta(seconds=60)}}
    )
    cores = [core, await make_core(), await make_core()]
    sweepers = [
        AttemptSweeper(one.database, one.store, owner=str(n), committed=lambda: None, clock=utc_now)
        for n, one in enumerate(cores)
    ]
    await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers * 3))
    failed = await events(core, "ConsentFailed")
    assert sorted((one.attempt_id, one.reason, one.stage) for one in failed) == sorted(
        [(left.id, "expired", "consent"), (crashed.id, "expired", "taken")]
    )
    assert {(one.versions[SET], one.channel, one.actor) for one in failed} == {
        (core.catalog.sets[SET].version, "console", USER)
    }
    for attempt_id, phase in ((left.id, Phase.CLOSED), (fresh.id, Phase.CONSENT), (busy.id, Phase.TAKEN)):
        attempt = await core.store.attempts.get(attempt_id)
        assert attempt is not None
        assert attempt.phase is phase
    assert attempt is not None
    ended = await core.store.attempts.get(left.id)
    assert ended is not None
    assert ended.status(utc_now()) is AttemptStatus.EXPIRED
    assert await take(core, state, OPERATOR) is None


async def test_a_failure_names_who_followed_a_link_or_the_app_that_made_it(core: Core) -> None:
    app = Requester(account_id="northwind", account_name=None, subject="client-7", app_id="mobile-security")
    for followed in (False, True):
        attempt, token = await core.consent._starts.create_link(app, permission_set_ids=[SET])
        if followed:
            await core.database["attempts"].update_one({"_id": attempt.id}, {"$set": {"follower": "operator-1"}})
        known = await core.store.attempts.get(attempt.id)
        assert known is not None
        assert (known.channel, token in str(known)) == (Channel.APP, False)
        await core.store.expire_attempt(known)
    by_app, by_person = await events(core, "ConsentFailed")
    assert by_app.actor == Actor(kind="app", id="mobile-security")
    assert by_person.actor == Actor(kind="user", id="operator-1")
    assert {(one.channel, one.requested_by) for one in (by_app, by_person)} == {("app", "mobile-security")}


async def test_why_a_proof_failed_is_kept_with_the_attempt_and_its_event(core: Core) -> None:
    _, state = await waiting(core, OPERATOR, SET)
    attempt = await take(core, state, OPERATOR)
    assert attempt is not None
    await core.store.fail_attempt(
        attempt, kind=Kind.PROOF_FAILED, stage="redeem", error_code=None, detail="nonce", tenant_id=None
    )
    (failed,) = await events(core)
    kept = await core.store.attempts.get(attempt.id)
    assert kept is not None
    assert (failed.detail, kept.detail) == ("nonce", "nonce")


async def test_an_app_names_its_own_return_urls_only(core: Core) -> None:
    urls = {"mobile-security": ("https://mobile.example/done",), "workbench": ("https://workbench.example/done",)}
    apps = {one.id: replace(one, return_urls=urls.get(one.id, ())) for one in core.catalog.apps.values()}
    catalog = Catalog(version=1, sets=core.catalog.sets, apps=apps)
    rules = Rules(public_url="http://gateway.test", attempt_seconds=60, wait_seconds=0, verify_deadline_seconds=60)
    legs = Legs(catalog, rules, entra=core.entra.tokens)
    starts = Starts(catalog, legs, attempts=core.store.attempts, clock=utc_now)
    app = Requester(account_id="northwind", account_name=None, subject="client-7", app_id="mobile-security")
    person = replace(app, app_id=None)
    mine, others = "https://mobile.example/done", "https://workbench.example/done"
    shared = [one.id for one in catalog.sets.values() if {"mobile-security", "workbench"} <= set(one.apps)]
    sets = shared[:1] or [SET]
    await starts.create_link(app, permission_set_ids=sets, return_url=mine)
    if shared:
        await starts.create_link(person, permission_set_ids=sets, return_url=others)
    with pytest.raises(Refused, match="invalid"):
        await starts.create_link(app, permission_set_ids=sets, return_url=others)


async def test_where_a_run_began_is_kept_however_it_began_and_for_its_own_account(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    entra = PlayedEntra()
    for name in ("authorization_origin", "begin_sign_in"):
        monkeypatch.setattr(core.entra.tokens, name, getattr(entra, name))
    browsers = [Browser(address=f"203.0.113.{number}", family="Firefox") for number in range(3)]
    requester = Requester(account_id="northwind", account_name=None, subject="operator-1", app_id=None)
    await core.consent.start(replace(OPERATOR, browser=browsers[0]), permission_set_ids=[SET])
    _, token = await core.consent.create_link(requester, permission_set_ids=[SET])
    await core.consent.follow_link(token, replace(OPERATOR, browser=browsers[1]))
    _, url = await core.flow.invitations.create(requester, permission_set_ids=[SET])
    await core.flow.invitations.begin(url.rpartition("/")[2], guest="guest-1", browser=browsers[2])
    ids = [one["_id"] for one in await core.database["attempts"].find({}).sort("created_at", 1).to_list(None)]
    found = await core.store.origins.latest(("northwind", one) for one in ids)
    assert sorted(str(one.address) for one in found.values()) == [one.address for one in browsers]
    assert await core.store.origins.latest(("adatum", one) for one in ids) == {}


async def test_one_browser_session_has_a_bounded_number_of_open_attempts(core: Core) -> None:
    for _ in range(20):
        await waiting(core, OPERATOR, SET)
    with pytest.raises(Refused, match="too_many"):
        await core.consent.start(OPERATOR, permission_set_ids=[SET])


async def test_a_tenant_whose_grants_all_ended_can_be_removed(core: Core) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    (grant,) = await core.store.grants.grants_on("northwind", CONTOSO)
    await lost(core, grant)
    for _ in range(2):
        await core.operations.disconnect("northwind", CONTOSO, actor=USER)
    (removed,) = await events(core, "TenantRemoved")
    assert removed.reason == "disconnected"
    (tenant,) = await core.store.grants.grants_of("northwind")
    assert tenant.removed_at is not None
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    (tenant,) = await core.store.grants.grants_of("northwind")
    assert tenant.removed_at is None


async def held(core: Core) -> dict[str, Any]:
    """The tenant that the limited app uses, and what each live grant says of it."""
    slot = await core.database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert slot is not None
    said: dict[str, Any] = {}
    for tenant in await core.store.grants.grants_of("northwind"):
        for grant in tenant.grants:
            if grant.live:
                uses = "mobile-security" in grant.apps
                said[tenant.tenant_id] = [(one.tenant_id, one.epoch) for one in grant.held_apps] or uses
    return {"slot": (slot["tenant_id"], slot["epoch"]), **said}


async def test_a_freed_limited_app_goes_to_the_tenant_that_waited_longest_and_the_others_are_told(core: Core) -> None:
    for tenant_id in (CONTOSO, FABRIKAM, HOME, THIRD):
        await accepted_on(core, tenant_id, OPERATOR, SET)
    await core.operations.disconnect("northwind", CONTOSO, actor=USER)
    assert await held(core) == {
        "slot": (FABRIKAM, 2),
        FABRIKAM: True,
        HOME: [(FABRIKAM, 2)],
        THIRD: [(FABRIKAM, 2)],
    }
    await core.operations.move_app("northwind", "mobile-security", THIRD, actor=USER)
    assert await held(core) == {
        "slot": (THIRD, 3),
        FABRIKAM: [(THIRD, 3)],
        HOME: [(THIRD, 3)],
        THIRD: True,
    }
    gained = [one for one in await events(core, "PermissionChanged") if one.app_epochs.get("mobile-security") == 2]
    assert [(one.tenant_id, one.previous_apps) for one in gained] == [
        (FABRIKAM, tuple(app for app in gained[0].apps if app != "mobile-security"))
    ]
    for tenant_id in (THIRD, FABRIKAM, HOME):
        await core.operations.disconnect("northwind", tenant_id, actor=USER)
    assert (await held(core))["slot"][0] is None


async def test_a_freed_limited_app_goes_to_a_tenant_that_can_be_used_before_one_that_waited_longer(core: Core) -> None:
    for tenant_id in (CONTOSO, FABRIKAM, HOME):
        await accepted_on(core, tenant_id, OPERATOR, SET)
    await core.database["grants"].update_one({"tenant_id": HOME}, {"$set": {"entra": "complete"}})
    await core.operations.disconnect("northwind", CONTOSO, actor=USER)
    assert await held(core) == {"slot": (HOME, 2), FABRIKAM: [(HOME, 2)], HOME: True}


async def test_who_is_asked_again_before_a_commit_may_be_gone(core: Core) -> None:
    attempt, _ = await waiting(core, OPERATOR, SET)
    assert _same(OPERATOR, attempt)
    for person in (
        None,
        replace(OPERATOR, roles=frozenset({"viewer"})),
        replace(OPERATOR, account_id="adatum"),
        replace(OPERATOR, session_hash="session-9"),
    ):
        assert not _same(person, attempt)
