"""The ledger on a real replica set, on both drivers: what must happen once happens once, and nothing is half done."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from consent_gateway.checks.checks import Finding, Judgement, Organization, Outcome, judge
from consent_gateway.checks.schedule import Rules
from consent_gateway.checks.verification import SYSTEM
from consent_gateway.consent.attempts import Person, Phase
from consent_gateway.consent.legs import hashed
from consent_gateway.consent.proof import Administrator
from consent_gateway.core import Core
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Entra, Grant, Reason, gone
from shared.events import Actor, decode
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR
from support.ledger import accepted, take, waiting

SET = "read-directory-data"
USER = Actor(kind="user", id="operator-1")
RULES = Rules(interval_seconds=3600, negatives=2, negatives_span_seconds=0)


@pytest_asyncio.fixture
async def core(make_core: Any, driver: str) -> AsyncIterator[Core]:
    yield await make_core(driver=driver)


def now() -> datetime:
    return datetime.now(UTC)


async def accept(core: Core, tenant_id: str, person: Person = OPERATOR, *sets: str) -> tuple[Grant, ...]:
    """A proven consent of some administrator, committed."""
    administrator = Administrator(tenant_id=tenant_id, object_id=str(uuid4()), name="Admin", roles=None)
    return await accepted(core, administrator, person, *(sets or (SET,)))


async def verified(core: Core, grant: Grant) -> Grant:
    """The grant after everything was found."""
    roles: dict[str, set[str]] = {}
    for permission in grant.accepted:
        roles.setdefault(permission.resource_app_id, set()).add(permission.value)
    finding = Finding(roles={resource: frozenset(values) for resource, values in roles.items()})
    judgement = judge(grant, finding, known=frozenset(grant.accepted), now=now(), rules=RULES)
    (written,) = await commit(core, judgement)
    return written


def changed(before: Grant, after: Grant) -> Judgement:
    """What a check decided."""
    return Judgement(before=before, grant=after, changed=True, outcome=Outcome.CHANGED)


def noted(before: Grant, seconds: float) -> Judgement:
    """What a check decided that changed nothing but the time of the next one."""
    health = replace(before.health, last_at=now(), next_at=now() + timedelta(seconds=seconds))
    return Judgement(before=before, grant=replace(before, health=health), changed=False, outcome=Outcome.GOOD)


async def due_at(core: Core, tenant_id: str) -> datetime:
    (grant,) = await core.store.grants.grants_on("northwind", tenant_id)
    assert grant.health.next_at is not None
    return grant.health.next_at


async def commit(core: Core, *judged: Judgement, organization: Organization | None = None) -> tuple[Grant, ...]:
    first = judged[0].grant
    return await core.store.commit_checks(
        first.account_id, first.tenant_id, judged, organization=organization, cause="check", actor=SYSTEM
    )


async def events(core: Core) -> list[Any]:
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    return [decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows]


async def test_of_fifty_callbacks_with_one_state_exactly_one_wins(core: Core) -> None:
    attempt, state = await waiting(core, OPERATOR, SET)
    won = [one for one in await asyncio.gather(*(take(core, state, OPERATOR) for _ in range(50))) if one is not None]
    assert [one.id for one in won] == [attempt.id]
    why = await core.store.attempts.why_not(
        state_hash=hashed(state), bindings={"session-1"}, phase=Phase.CONSENT, now=now()
    )
    assert why is Kind.USED


async def test_a_state_is_good_for_its_own_browser_account_phase_and_time_only(core: Core) -> None:
    _, state = await waiting(core, OPERATOR, SET)
    assert await take(core, state, replace(OPERATOR, session_hash="session-9")) is None
    assert await take(core, state, replace(OPERATOR, account_id="adatum")) is None
    proof = await core.store.attempts.take(
        state_hash=hashed(state), session_hash="session-1", account_id="northwind", phase=Phase.PROOF, now=now()
    )
    assert proof is None
    assert await take(core, state, OPERATOR) is not None
    _, late = await waiting(core, OPERATOR, SET, seconds=-1)
    assert await take(core, late, OPERATOR) is None
    reasons = core.store.attempts.why_not
    at: dict[str, Any] = {"phase": Phase.CONSENT, "now": now()}
    assert await reasons(state_hash=hashed(late), bindings={"session-1"}, **at) is Kind.EXPIRED
    assert await reasons(state_hash=hashed(late), bindings={"session-9"}, **at) is Kind.OTHER_BROWSER
    assert await reasons(state_hash=hashed("never"), bindings={"session-1"}, **at) is Kind.UNKNOWN


async def test_an_attempt_ends_once(core: Core) -> None:
    _, state = await waiting(core, OPERATOR, SET)
    attempt = await take(core, state, OPERATOR)
    assert attempt is not None
    fail = core.store.fail_attempt
    details: dict[str, Any] = {"kind": Kind.DECLINED, "stage": "consent", "error_code": None, "tenant_id": None}
    assert sorted(await asyncio.gather(*(fail(attempt, **details) for _ in range(10)))) == [False] * 9 + [True]
    assert len(await events(core)) == 1


async def test_one_tenant_goes_to_one_account_however_many_try_at_once(core: Core) -> None:
    people = [OPERATOR, OTHER_OPERATOR] * 10
    answers = await asyncio.gather(*(accept(core, CONTOSO, person) for person in people), return_exceptions=True)
    for one in answers:
        if isinstance(one, BaseException) and not isinstance(one, Refused):
            raise one
    refused = [one for one in answers if isinstance(one, Refused)]
    assert {one.kind for one in refused} == {Kind.TENANT_TAKEN}
    assert len(refused) == 10
    holders = {document["account_id"] for document in await core.database["grants"].find({}).to_list(None)}
    link = await core.database["links"].find_one({"_id": CONTOSO})
    assert link is not None
    assert {*link["account_ids"]} == holders
    assert len(holders) == 1


async def test_a_shared_tenant_may_be_held_by_several_accounts(make_core: Any, driver: str) -> None:
    core = await make_core(driver=driver, sharing="shared")
    await accept(core, CONTOSO, OPERATOR)
    await accept(core, CONTOSO, OTHER_OPERATOR)
    assert (await core.database["links"].find_one({"_id": CONTOSO}))["account_ids"] == ["adatum", "northwind"]


async def test_revisions_of_a_tenant_grow_by_one_event_each_without_a_gap_in_their_chain(core: Core) -> None:
    await asyncio.gather(*(accept(core, CONTOSO, OPERATOR, one) for one in list(core.catalog.sets)[:4]))
    chain = await events(core)
    revisions = [event.revision for event in chain]
    assert revisions == sorted(set(revisions))
    assert [event.previous_revision for event in chain] == [None, *revisions[:-1]]
    tenant = await core.store.grants.tenant("northwind", CONTOSO)
    assert tenant is not None
    assert tenant.revision == revisions[-1]


async def test_a_counter_that_was_restored_from_a_backup_is_overtaken_by_the_clock(core: Core) -> None:
    (grant,) = await accept(core, CONTOSO)
    await core.database["tenants"].update_one({}, {"$set": {"revision": 7}})
    (again,) = await accept(core, CONTOSO)
    assert again.revision > grant.revision


async def test_a_limited_app_uses_one_tenant_however_many_are_granted_at_once(core: Core) -> None:
    tenants = [str(uuid4()) for _ in range(20)]
    granted = [one[0] for one in await asyncio.gather(*(accept(core, tenant) for tenant in tenants))]
    users = [grant.tenant_id for grant in granted if "mobile-security" in grant.apps]
    slot = await core.database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert slot is not None
    assert users == [slot["tenant_id"]]
    held = [one for grant in granted for one in grant.held_apps]
    assert {(one.app_id, one.tenant_id) for one in held} == {("mobile-security", users[0])}
    assert len(held) == 19


async def test_an_outside_answer_commits_only_on_the_grant_that_was_read_before_asking(core: Core) -> None:
    (before,) = await accept(core, CONTOSO)
    lost = changed(before, gone(before, Reason.REMOVED))
    (after,) = await accept(core, CONTOSO)
    assert await commit(core, lost) == ()
    (now_there,) = await core.store.grants.grants_on("northwind", CONTOSO)
    assert (now_there.entra, now_there.revision) == (Entra.VERIFYING, after.revision)
    await core.store.grants.note_health(noted(before, 5000), token=None)
    assert await core.store.grants.grants_on("northwind", CONTOSO) == [now_there]


async def test_a_check_that_was_overtaken_by_another_one_leaves_no_note(core: Core) -> None:
    (before,) = await accept(core, CONTOSO)
    kept: list[list[Grant]] = []
    for seconds in (100, 200):
        await core.store.grants.note_health(noted(before, seconds), token=None)
        kept.append(await core.store.grants.grants_on("northwind", CONTOSO))
    assert kept[0] == kept[1] != [before]


async def test_a_due_grant_is_claimed_once_and_a_late_holder_writes_nothing(core: Core) -> None:
    (grant,) = await accept(core, CONTOSO)
    claim = partial(core.store.grants.claim_due, most=10)
    later = now() + timedelta(seconds=30)
    claims = await asyncio.gather(*(claim(now=later, owner="a", seconds=0) for _ in range(5)))
    tokens = [one.token for found in claims for one in found]
    assert tokens
    (second,) = await claim(now=later, owner="b", seconds=60)
    assert second.token > max(tokens)
    assert await claim(now=later, owner="c", seconds=60) == []
    await core.store.grants.note_health(noted(grant, 5000), token=tokens[0])
    assert await due_at(core, CONTOSO) < later
    late = next(one for found in claims for one in found)
    await core.store.grants.release([late], now=later, not_before=later + timedelta(hours=1))
    assert await due_at(core, CONTOSO) < later
    assert await claim(now=later, owner="c", seconds=60) == [], "a late holder gave somebody else's lease back"
    await core.store.grants.note_health(noted(grant, 20), token=second.token)
    assert await claim(now=later, owner="c", seconds=60, busy_tenants=(CONTOSO,)) == []
    assert await claim(now=later, owner="c", seconds=60, resting=(CLIENT_IDS[SET],)) == []
    assert await claim(now=later, owner="c", seconds=60, troubled=True) == []
    assert await claim(now=now(), owner="c", seconds=60) == []
    assert len(await claim(now=later, owner="c", seconds=60, troubled=False)) == 1


async def test_blocking_and_unblocking_twice_says_so_once(core: Core) -> None:
    (grant,) = await accept(core, CONTOSO)
    await verified(core, grant)
    for blocked in (True, True, False, False):
        await core.operations.block("northwind", CONTOSO, SET, blocked=blocked, actor=USER, now=now())
    said = [(type(event).__name__, event.status, event.usable) for event in await events(core)]
    assert said[1:] == [
        ("PermissionGranted", "granted", True),
        ("PermissionBlocked", "blocked", False),
        ("PermissionGranted", "granted", True),
    ]
    with pytest.raises(Refused, match="not_found"):
        await core.operations.block("adatum", CONTOSO, SET, blocked=True, actor=USER, now=now())
    await core.operations.disconnect("northwind", CONTOSO, actor=USER)
    for blocked in (True, False):
        with pytest.raises(Refused, match="conflict"):
            await core.operations.block("northwind", CONTOSO, SET, blocked=blocked, actor=USER, now=now())
    assert [type(event).__name__ for event in (await events(core))[4:]] == ["PermissionRevoked", "TenantRemoved"]


async def test_what_is_used_again_is_checked_at_once_but_not_before_entra_wants_to_be_asked(core: Core) -> None:
    await accept(core, CONTOSO)
    for not_before in (None, now() + timedelta(hours=1)):
        later = {"check.next_at": now() + timedelta(hours=6), "check.not_before": not_before}
        for blocked in (True, False):
            await core.database["grants"].update_one({}, {"$set": later})
            at = now()
            await core.operations.block("northwind", CONTOSO, SET, blocked=blocked, actor=USER, now=at)
            due = (await due_at(core, CONTOSO)) - (not_before or at)
            assert (abs(due) < timedelta(seconds=1)) is not blocked


async def test_disconnecting_frees_link_and_slots_and_leaves_the_counter(core: Core) -> None:
    (grant,) = await accept(core, CONTOSO)
    await core.operations.disconnect("northwind", CONTOSO, actor=USER)
    assert await core.operations.disconnect("northwind", CONTOSO, actor=USER) == ()
    _, revoked, removed = await events(core)
    assert (type(revoked).__name__, revoked.reason) == ("PermissionRevoked", "disconnected")
    assert (type(removed).__name__, removed.apps) == ("TenantRemoved", tuple(sorted(grant.apps)))
    assert removed.revision > revoked.revision
    (again,) = await accept(core, CONTOSO, OTHER_OPERATOR)
    assert again.account_id == "adatum"


async def test_moving_a_limited_app_tells_both_tenants_with_a_new_epoch(core: Core) -> None:
    await accept(core, CONTOSO)
    await accept(core, FABRIKAM)
    await core.operations.move_app("northwind", "mobile-security", FABRIKAM, actor=USER)
    assert await core.operations.move_app("northwind", "mobile-security", FABRIKAM, actor=USER) == ()
    lost, gained = (await events(core))[2:]
    assert (lost.tenant_id, "mobile-security" in lost.previous_apps, "mobile-security" in lost.apps) == (
        CONTOSO,
        True,
        False,
    )
    assert [(one.tenant_id, one.epoch) for one in lost.held_apps] == [(FABRIKAM, 2)]
    assert (gained.tenant_id, gained.app_epochs) == (FABRIKAM, {"mobile-security": 2})
    for app_id, tenant_id, kind in (
        ("mobile-security", str(uuid4()), Kind.CONFLICT),
        ("workbench", FABRIKAM, Kind.INVALID),
        ("nothing", FABRIKAM, Kind.NOT_FOUND),
    ):
        with pytest.raises(Refused) as refused:
            await core.operations.move_app("northwind", app_id, tenant_id, actor=USER)
        assert refused.value.kind is kind


async def test_a_new_name_of_a_tenant_is_an_event_and_the_first_one_comes_with_the_grant(core: Core) -> None:
    (grant,) = await accept(core, CONTOSO)
    first = Organization(tenant_id=CONTOSO, name="Contoso Ltd", primary_domain="contoso.com")
    await commit(core, changed(grant, replace(grant, entra=Entra.COMPLETE)), organization=first)
    renamed = replace(first, name="Contoso GmbH")
    for _ in range(2):
        await core.store.commit_checks("northwind", CONTOSO, (), organization=renamed, cause="check", actor=SYSTEM)
    said = [(type(event).__name__, event.tenant_name) for event in await events(core)]
    assert said == [
        ("PermissionChanged", None),
        ("PermissionGranted", "Contoso Ltd"),
        ("TenantUpdated", "Contoso GmbH"),
    ]


async def test_a_person_can_be_forgotten(core: Core) -> None:
    (grant,) = await accept(core, CONTOSO)
    (tenant,) = await core.store.grants.grants_of("northwind")
    assert tenant.people == {grant.granted_by: "Admin"}
    assert await core.store.people.forget(f"{CONTOSO}:{grant.granted_by}") is True
    (tenant,) = await core.store.grants.grants_of("northwind")
    assert tenant.people == {}
