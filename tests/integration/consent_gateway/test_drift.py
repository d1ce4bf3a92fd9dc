"""Checks in the background on a real database: fenced, patient, over several replicas, and stopped when it is us."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from pymongo.errors import AutoReconnect

from consent_gateway.catalog.model import Catalog, Resource
from consent_gateway.checks import breakers_command
from consent_gateway.checks import monitor as monitor_module
from consent_gateway.checks import registrations as registrations_module
from consent_gateway.checks.checks import Finding, Judgement, Outcome, judge
from consent_gateway.checks.pacing import Pace
from consent_gateway.checks.registrations import Home
from consent_gateway.checks.schedule import Rules
from consent_gateway.checks.verification import SYSTEM
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import CatalogError
from consent_gateway.grants.grants import Entra, Grant, Reason, Status
from shared.background import background
from shared.events import RegistrationStatusChanged, decode
from support import gateway
from support.entra_sandbox import EntraSandbox
from support.eventually import eventually
from support.gateway import CLIENT_IDS, CONTOSO, SETS
from support.seeded import granted, seed

SET = "read-directory-data"
RULES = Rules(interval_seconds=3600, negatives=3, negatives_span_seconds=0)
GONE = Finding(roles={}, gone=Reason.REMOVED)
OURS = Finding(roles={}, unanswered="ours: AADSTS7000222", ours=True)


@dataclass
class Answers:
    """Stands where Entra is asked; ``finds`` are the tenants in the order in which they were asked about."""

    says: Callable[[str], Finding] | None = None
    home_says: Home = Home.WORKS
    finds: list[str] = field(default_factory=list)
    homes: int = 0
    clients: set[str] = field(default_factory=set)

    async def find(self, *, tenant_id: str, client_id: str, resources: Sequence[Resource], **_: object) -> Finding:
        self.finds.append(tenant_id)
        self.clients.add(client_id)
        if self.says is not None:
            return self.says(tenant_id)
        return Finding(roles={resource.app_id: ROLES for resource in resources}, full=False)

    async def home(self, client_id: str) -> Home:
        self.homes += 1
        return self.home_says


ROLES = frozenset({"Directory.Read.All", "Group.Read.All", "GroupMember.Read.All"})


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What every core of this test asks."""
    made = Answers()
    monkeypatch.setattr("consent_gateway.checks.probe.Probe.find", lambda _, **asked: made.find(**asked))
    monkeypatch.setattr("consent_gateway.checks.probe.Probe.home", lambda _, client_id: made.home(client_id))
    return made


@pytest_asyncio.fixture
async def core(make_core: Any, answers: Answers) -> Core:
    """A core that asks them."""
    made: Core = await make_core()
    return made


def tenant(number: int) -> str:
    return str(UUID(int=number, version=4))


async def due(core: Core, *tenants: str, set_id: str = SET) -> None:
    """Grants that are due since a minute."""
    past = utc_now() - timedelta(minutes=1)
    await seed(core, [granted(core.catalog.sets[set_id], one, next_at=past, full_at=utc_now()) for one in tenants])


async def there(core: Core, tenant_id: str = CONTOSO) -> Grant:
    (grant,) = await core.store.grants.grants_on("northwind", tenant_id)
    return grant


async def none_due(core: Core) -> bool:
    return not await core.database["grants"].count_documents({"check.next_at": {"$lte": utc_now()}})


async def claimed(core: Core, seconds: float = 0) -> tuple[Grant, int]:
    (claim,) = await core.store.grants.claim_due(now=utc_now(), owner="a", seconds=seconds, most=1)
    return claim.grant, claim.token


def judged(grant: Grant, finding: Finding) -> Judgement:
    known = frozenset(grant.accepted)
    return judge(grant, finding, known=known, now=utc_now(), rules=RULES)


async def commit(core: Core, judgement: Judgement, token: int | None = None) -> tuple[Grant, ...]:
    return await core.store.commit_checks(
        "northwind",
        CONTOSO,
        [judgement],
        tokens={SET: token} if token is not None else {},
        organization=None,
        cause="check",
        actor=SYSTEM,
    )


async def test_what_is_due_is_found_without_reading_what_is_not(core: Core) -> None:
    await due(core, CONTOSO)
    far = utc_now() + timedelta(days=1)
    await seed(core, [granted(core.catalog.sets[SET], tenant(number), next_at=far) for number in range(300)])
    await core.database.command("profile", 2)
    assert len(await core.store.grants.claim_due(now=utc_now(), owner="a", seconds=60, most=64, troubled=False)) == 1
    assert await core.store.grants.next_due(after=utc_now()) == far
    await core.database.command("profile", 0)
    read = [one["docsExamined"] async for one in core.database["system.profile"].find({"docsExamined": {"$gt": 0}})]
    assert read
    assert max(read) <= 2


@pytest.mark.parametrize("under_a_lease", [True, False])
async def test_a_holder_who_slept_through_a_good_answer_takes_nothing_away(core: Core, under_a_lease: bool) -> None:
    """A good check raises no revision: revision alone would let the third negative of the sleeper through."""
    await due(core, CONTOSO)
    for _ in range(2):
        negative = judged(await there(core), GONE)
        await core.store.grants.note_health(negative, token=None)
        await core.database["grants"].update_one({}, {"$set": {"check.next_at": utc_now() - timedelta(seconds=1)}})
    sleeper, token = await claimed(core)
    assert sleeper.health.negatives == 2
    revoked = judged(sleeper, GONE)
    assert (revoked.changed, revoked.grant.status) == (True, Status.REVOKED)

    other, others = await claimed(core)
    good = judged(other, Finding(roles={p.resource_app_id: ROLES for p in other.accepted}))
    assert good.grant.health.negatives == 0
    await core.store.grants.note_health(good, token=others)

    assert await commit(core, revoked, token if under_a_lease else None) == ()
    await core.store.grants.note_health(replace(revoked, grant=sleeper, changed=False), token=None)
    grant = await there(core)
    assert (grant.status, grant.health.negatives) == (Status.GRANTED, 0)


async def test_a_lease_that_went_to_somebody_else_commits_nothing(core: Core) -> None:
    await due(core, CONTOSO)
    first, token = await claimed(core)
    _, newer = await claimed(core, seconds=60)
    lost = replace(judged(first, GONE), grant=replace(first, entra=Entra.GONE, reason="removed"), changed=True)
    assert await commit(core, lost, token) == ()
    assert len(await commit(core, lost, newer)) == 1


async def test_a_set_that_left_the_catalogue_is_checked_by_what_was_consented_to(core: Core, answers: Answers) -> None:
    """An older replica, or a newer one without the set: nobody's checks stop, and nothing is claimed in a loop."""
    tenants = [tenant(number) for number in range(4)]
    await due(core, *tenants)
    others = {name: one for name, one in core.catalog.sets.items() if name != SET}
    core.catalog.activate(Catalog(version=99, sets=others, apps=core.catalog.apps))
    assert SET not in core.catalog.sets
    async with background(monitor=core.monitor.run()):
        await eventually(lambda: none_due(core), within=60, what="checks")
    assert {(await there(core, one)).status for one in tenants} == {Status.GRANTED}
    assert (answers.clients, sorted(answers.finds)) == ({CLIENT_IDS[SET]}, sorted(tenants))


async def test_a_grant_of_an_unknown_registration_waits_and_holds_nobody_up(core: Core, answers: Answers) -> None:
    past = utc_now() - timedelta(minutes=2)
    orphans = [granted(core.catalog.sets[SET], tenant(number), next_at=past) for number in range(3)]
    await seed(core, [replace(one, client_id=None, permission_set_id="long-gone") for one in orphans])
    await due(core, CONTOSO)
    async with background(monitor=core.monitor.run()):
        await eventually(lambda: none_due(core), within=60, what="checks")
    assert answers.finds == [CONTOSO]
    errors = await core.database["grants"].distinct("check.error")
    assert "unknown_registration" in errors


async def test_an_answer_nobody_thought_of_is_not_asked_for_in_a_loop(core: Core, answers: Answers) -> None:
    poison = tenant(666)

    def says(tenant_id: str) -> Finding:
        if tenant_id == poison:
            raise AttributeError("an answer of a new kind")
        return Finding(roles={p.resource_app_id: ROLES for p in core.catalog.sets[SET].required}, full=False)

    answers.says = says
    await due(core, poison, *[tenant(number) for number in range(5)])
    async with background(monitor=core.monitor.run()):
        await eventually(lambda: none_due(core), within=60, what="checks")
    assert answers.finds.count(poison) == 1
    document = await core.database["grants"].find_one({"tenant_id": poison})
    assert document is not None
    assert document["check"]["lease"] is None
    assert document["check"]["next_at"] > utc_now() + timedelta(seconds=60)


async def test_nobody_is_asked_again_before_entra_wants_to_be(core: Core, answers: Answers) -> None:
    answers.says = lambda _: Finding(roles={}, unanswered="transient: AADSTS90055", retry_after=600)
    begun = utc_now()
    await due(core, CONTOSO)
    async with background(monitor=core.monitor.run()):
        await eventually(lambda: none_due(core), within=60, what="a check")
    after = (await there(core)).health
    assert after.not_before is not None
    assert after.not_before > begun + timedelta(seconds=599)
    await core.store.grants.check_now("northwind", CONTOSO, SET, now=utc_now())
    await core.store.grants.check_soon(CONTOSO, [SET], by=utc_now())
    assert (await there(core)).health.next_at == after.not_before


async def test_what_is_said_to_be_removed_is_certain_within_seconds_whoever_looks(
    core: Core, answers: Answers, make_core: Any
) -> None:
    """The word is in the database: the replica that heard it need not be there any more."""
    answers.says = lambda _: GONE
    await seed(core, [granted(core.catalog.sets[SET], CONTOSO, next_at=utc_now() + timedelta(hours=1))])
    assert await core.store.grants.check_now("northwind", CONTOSO, SET, now=utc_now(), removed=True)
    other = await make_core()
    rules = Rules(interval_seconds=3600, negatives=2, negatives_span_seconds=900)
    other.verification._rules = rules

    async def revoked() -> bool:
        # The pause between two answers is over at once: what is due by then is what counts here.
        soon = {"check.next_at": {"$lte": utc_now() + timedelta(seconds=6)}}
        await core.database["grants"].update_many(soon, {"$set": {"check.next_at": utc_now()}})
        return (await there(core)).status is Status.REVOKED

    async with background(monitor=other.monitor.run()):
        await eventually(revoked, within=30, what="the removal")
    assert answers.finds == [CONTOSO, CONTOSO]


async def test_a_check_that_is_asked_for_while_one_is_under_way_is_made(core: Core, answers: Answers) -> None:
    await due(core, CONTOSO)
    before = await there(core)
    good = Finding(roles={p.resource_app_id: ROLES for p in before.accepted})
    asked_at = utc_now()
    await core.store.grants.check_now("northwind", CONTOSO, SET, now=asked_at, removed=True)
    # It was due before that as well; what comes now is a check that began earlier, and one after that.
    await core.database["grants"].update_one({}, {"$set": {"check.next_at": asked_at}})
    await core.store.grants.note_health(judged(before, good), token=None)
    after = await there(core)
    assert (after.health.next_at, after.health.removal_said_at) == (asked_at, asked_at)
    lost = Finding(roles={**good.roles, before.accepted[0].resource_app_id: frozenset({"Directory.Read.All"})})
    for _ in range(RULES.negatives - 1):
        await core.store.grants.note_health(judged(await there(core), lost), token=None)
    decided = judged(await there(core), lost)
    await core.store.grants.check_now("northwind", CONTOSO, SET, now=asked_at)
    (written,) = await commit(core, decided)
    assert written.status is Status.PARTIAL
    assert (await there(core)).health.next_at == asked_at


async def test_a_person_who_waits_does_not_make_us_ask_a_busy_entra_again(core: Core, answers: Answers) -> None:
    answers.says = lambda _: Finding(roles={}, unanswered="transient: AADSTS90055", retry_after=600)
    await due(core, CONTOSO)
    await core.database["grants"].update_one({}, {"$set": {"entra": "verifying"}})
    await asyncio.wait_for(core.verification.settle("northwind", CONTOSO, [SET], seconds=60), timeout=50)
    assert answers.finds == [CONTOSO]


async def test_checks_of_one_tenant_share_one_question_and_never_an_older_answer(core: Core, answers: Answers) -> None:
    await due(core, CONTOSO)
    gate = asyncio.Event()
    asked = asyncio.Event()

    async def find(**_: object) -> Finding:
        answers.finds.append(CONTOSO)
        asked.set()
        await gate.wait()
        return OURS

    answers.find = find  # type: ignore[method-assign]  # slower than usual
    first = asyncio.create_task(core.verification.check("northwind", CONTOSO, {SET}))
    await asked.wait()
    others = [asyncio.create_task(core.verification.check("northwind", CONTOSO, {SET})) for _ in range(10)]

    async def met() -> bool:
        turn: Any = core.verification._rounds._turns.get(CONTOSO)
        return len(answers.finds) > 1 or bool(turn is not None and turn._waiters)

    await eventually(met, within=30, what="a second check")
    assert answers.finds == [CONTOSO], "a tenant is asked by one check at a time"
    gate.set()
    await asyncio.gather(first, *others)
    assert len(answers.finds) == 2


async def test_a_check_under_a_lease_waits_for_one_that_a_person_asked_for(core: Core, answers: Answers) -> None:
    await due(core, CONTOSO)
    (grant,) = await core.store.grants.grants_on("northwind", CONTOSO)
    busy, most = [0], [0]

    async def find(**_: object) -> Finding:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        # Whoever may ask meanwhile has time to.
        for _turn in range(20):
            await asyncio.sleep(0)
        answers.finds.append(CONTOSO)
        busy[0] -= 1
        return OURS

    answers.find = find  # type: ignore[method-assign]  # slower than usual
    await asyncio.gather(
        core.verification.check("northwind", CONTOSO, {SET}),
        *(core.verification.check_claimed([grant], {SET: 0}) for _ in range(5)),
    )
    assert (len(answers.finds), most[0]) == (6, 1)


async def test_a_refused_registration_stops_the_storm_and_its_end_lets_checks_go_on(
    make_core: Any, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two replicas, a hundred grants of the registration that is refused, and some of another one that works."""
    monkeypatch.setattr(monitor_module, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(registrations_module, "TRY_SECONDS", 0.2)
    cores: list[Core] = [await make_core() for _ in range(2)]
    ours, fine = [tenant(number) for number in range(300)], [tenant(number) for number in range(1000, 1020)]
    roles = {p.resource_app_id: ROLES for p in cores[0].catalog.sets[SET].required}
    working = {one: Finding(roles=roles, full=False) for one in fine}
    answers.says = lambda tenant_id: working.get(tenant_id, OURS)
    answers.home_says = Home.OURS
    await due(cores[0], *ours)
    await seed(
        cores[0],
        [
            replace(
                granted(cores[0].catalog.sets[SET], one, next_at=utc_now(), full_at=utc_now()),
                client_id=CLIENT_IDS["manage-accounts"],
            )
            for one in fine
        ],
    )
    async with AsyncExitStack() as stack:
        for core in cores:
            await stack.enter_async_context(background(monitor=core.monitor.run()))

        async def breaker() -> dict[str, Any]:
            found: dict[str, Any] | None = await cores[0].database["registrations"].find_one({})
            return found or {}

        await eventually(breaker, lambda one: one.get("state") == "open", within=60, what="the breaker")

        async def fine_checked() -> bool:
            return set(fine) <= set(answers.finds)

        await eventually(fine_checked, within=60, what="checks of the other registration")
        homes = answers.homes
        await eventually(lambda: _is(lambda: answers.homes >= homes + 3), within=60, what="tries at home")
        # What was on its way when it opened was asked about; the rest never was, and nothing is claimed anew.
        assert len(set(answers.finds) & set(ours)) < len(ours)
        assert await cores[0].database["grants"].count_documents({"status": {"$ne": "granted"}}) == 0
        assert await told(cores[0]) == [("working", "failing", "AADSTS7000222")]

        answers.says = lambda _: Finding(roles=roles, full=False)
        answers.home_says = Home.WORKS
        await eventually(breaker, lambda one: one.get("state") == "closed", within=60, what="its end")
        # What is overdue by then is due little by little.
        times = await cores[0].database["grants"].distinct("check.next_at", {"check.last_at": None})
        assert all(isinstance(one, datetime) for one in times)
        assert len(times) > 50
    assert (await breaker())["token"] == 2
    assert await told(cores[0]) == [("working", "failing", "AADSTS7000222"), ("failing", "working", None)]


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


async def told(core: Core) -> list[tuple[str, str, str | None]]:
    """What was said of client registrations, in order: from what, to what, and why."""
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    events = [decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows]
    return [
        (one.previous_status, one.status, one.error_code)
        for one in events
        if isinstance(one, RegistrationStatusChanged) and one.registration == SET and one.client_id == CLIENT_IDS[SET]
    ]


async def test_what_all_replicas_see_at_once_is_told_once(make_core: Any, answers: Answers) -> None:
    cores: list[Core] = [await make_core() for _ in range(3)]
    client = CLIENT_IDS[SET]
    opened = await asyncio.gather(
        *(core.breakers.open(client, why="refused", next_try_at=utc_now()) for core in cores * 4)
    )
    assert sum(opened) == 1
    now = utc_now()
    tries = [
        core.breakers.take_try(client, now=now, next_try_at=now + timedelta(minutes=number + 1))
        for number, core in enumerate(cores * 4)
    ]
    assert sum(await asyncio.gather(*tries)) == 1
    assert not await cores[0].breakers.close(client, why="mass_removal")
    closed = await asyncio.gather(*(core.breakers.close(client) for core in cores * 4))
    assert sum(closed) == 1
    again = await asyncio.gather(
        *(core.breakers.open(client, why="refused", next_try_at=utc_now()) for core in cores * 4)
    )
    assert sum(again) == 1
    there_and_back = [("working", "failing", None), ("failing", "working", None)]
    assert await told(cores[0]) == [*there_and_back, ("working", "failing", None)]


async def test_a_breaker_and_its_event_are_written_together_or_not_at_all(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise AutoReconnect("away")

    with monkeypatch.context() as patch:
        patch.setattr("shared.outbox.Outbox.add", fail)
        with pytest.raises(AutoReconnect):
            await core.breakers.open(CLIENT_IDS[SET], why="refused", next_try_at=utc_now())
    assert (await core.breakers.opened())[0] == []
    assert await core.breakers.open(CLIENT_IDS[SET], why="refused", next_try_at=utc_now())
    assert await told(core) == [("working", "failing", None)]


async def test_a_check_that_the_database_got_in_the_way_of_is_made_again_at_once(
    core: Core, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease would keep everybody else away for two minutes."""
    monkeypatch.setattr(monitor_module, "SOON_SECONDS", 0.1)
    await due(core, CONTOSO)
    check, failures = core.verification.check_claimed, iter([AutoReconnect("away")])

    async def fails_once(*claimed: Any) -> Any:
        for failure in failures:
            raise failure
        return await check(*claimed)

    monkeypatch.setattr(core.verification, "check_claimed", fails_once)
    async with background(monitor=core.monitor.run()):

        async def good() -> bool:
            return (await there(core)).health.last_good_at is not None

        await eventually(good, within=30, what="the check")
    assert answers.finds == [CONTOSO]


async def test_a_mass_removal_waits_for_an_operator(
    make_core: Any, answers: Answers, monkeypatch: pytest.MonkeyPatch, mongo_url: str, mongo_database: str
) -> None:
    monkeypatch.setattr(monitor_module, "WATCH_SECONDS", 0.05)
    core: Core = await make_core()
    tenants = [tenant(number) for number in range(60)]
    answers.says = lambda _: GONE
    await due(core, *tenants)
    await core.database["grants"].update_many({}, {"$set": {"check.negatives": 0}})
    async with background(monitor=core.monitor.run()):

        async def state() -> str | None:
            found = await core.database["registrations"].find_one({})
            return found["why"] if found is not None and found["state"] == "open" else None

        await eventually(state, lambda why: why == "mass_removal", within=60, what="the breaker")
        await eventually(lambda: _is(lambda: CLIENT_IDS[SET] in core.registrations.resting), within=60)
    assert await core.database["grants"].count_documents({"status": "granted"}) == len(tenants)
    assert await told(core) == [("working", "held", None)]
    wanted = gateway.settings(mongo_url=mongo_url, database=mongo_database)
    lines = await breakers_command.status(wanted)
    assert {line.registration: line.status for line in lines} == dict.fromkeys(SETS, "working") | {SET: "held"}
    assert breakers_command.exit_code(lines) == 1
    assert json.loads(breakers_command.shown(lines, as_json=True))[0]["client_id"]
    with pytest.raises(CatalogError, match="no client registration 'another'"):
        await breakers_command.resume(wanted, "another", believe_hours=1)
    assert await breakers_command.resume(wanted, SET, believe_hours=1)
    assert not await breakers_command.resume(wanted, CLIENT_IDS[SET], believe_hours=1)
    assert await told(core) == [("working", "held", None), ("held", "working", None)]
    lines = await breakers_command.status(wanted)
    assert breakers_command.exit_code(lines) == 0
    assert "removals are believed until" in breakers_command.shown(lines, as_json=False)
    await core.registrations.refresh()
    assert core.registrations.resting == frozenset()
    assert await core.registrations.doubt(CLIENT_IDS[SET], [_removed(await there(core, tenants[0]))]) is None


async def test_a_mass_removal_is_seen_by_replicas_that_each_see_a_part_of_it(make_core: Any, answers: Answers) -> None:
    """Fifteen tenants at one replica and fifteen at another are thirty, and what both found well counts too."""
    cores: list[Core] = [await make_core() for _ in range(2)]
    leaving, fine = [tenant(number) for number in range(30)], [tenant(number) for number in range(100, 200)]
    roles = {p.resource_app_id: ROLES for p in cores[0].catalog.sets[SET].required}
    answers.says = lambda one: Finding(roles=roles, full=False) if one in fine else GONE
    await due(cores[0], *leaving, *fine)
    await cores[0].tallies.create_indexes()

    async def look(tenants: Sequence[str]) -> None:
        for number, one in enumerate(tenants):
            await cores[number % 2].verification.check("northwind", one, {SET})

    # Among as many as this, a few are believed: 20 of 120 tenants, however the replicas share them.
    await look(fine)
    for core in cores:
        await core.registrations.refresh()
    await look(leaving[:20])
    assert await cores[0].database["registrations"].find_one({}) is None
    assert await cores[0].database["leaving_tenants"].count_documents({}) == 20
    # And thirty of 130 are not: neither replica has seen more than 15 of them.
    await look(leaving[20:])
    held = await cores[0].database["registrations"].find_one({})
    assert (held or {}).get("why") == "mass_removal"
    # Both are told by what they share: a second negative would take these away at either of them.
    for core in cores:
        await core.registrations.refresh()
        assert core.registrations.resting == {CLIENT_IDS[SET]}
    await look(leaving)
    assert await cores[0].database["grants"].count_documents({"status": {"$ne": "granted"}}) == 0


async def test_an_index_finds_what_was_counted_against_a_registration(core: Core) -> None:
    """An operator's word must not read a million grants that nothing was counted against."""
    query = {"client_id": CLIENT_IDS[SET], "check.negatives": {"$gt": 0}}
    plan = str((await core.database["grants"].find(query).explain())["queryPlanner"]["winningPlan"])
    assert "'doubted'" in plan
    assert "COLLSCAN" not in plan


async def test_a_held_registration_that_goes_on_unbelieved_takes_nothing_away_for_what_it_met_before(
    core: Core, answers: Answers
) -> None:
    """The operator thought the fault mended, long after it began; it was not."""
    tenants = [tenant(number) for number in range(30)]
    answers.says = lambda _: GONE
    await due(core, *tenants)
    for attempt in range(2):
        for one in tenants:
            await core.verification.check("northwind", one, {SET})
        held = await core.database["registrations"].find_one({})
        assert (held or {}).get("state") == "open", f"time {attempt}"
        await core.database["leaving_tenants"].delete_many({})
        assert await core.breakers.confirm(CLIENT_IDS[SET], until=utc_now())
        await core.registrations.refresh()
    assert await core.database["grants"].count_documents({"status": {"$ne": "granted"}}) == 0


def _removed(grant: Grant) -> Judgement:
    return Judgement(before=grant, grant=grant, changed=False, outcome=Outcome.NEGATIVE)


async def test_one_tenant_that_hangs_throttles_or_fails_delays_none_of_a_thousand(
    make_core: Any, entra: EntraSandbox
) -> None:
    """Four tenants are in trouble, each in its own way; all others are checked, as if there were none.

    The one that hangs does so for longer than anybody waits here: whoever came after it would never be checked.
    """
    core: Core = await make_core(
        login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca, timeout_seconds=3_600
    )
    pace = core.monitor._pace.per_second
    made = await entra.api("POST", "tenant-batches", count=1_000, prefix="many", consented=[CLIENT_IDS[SET]])
    troubled, fine = made["items"][:4], made["items"][4:]
    for tenant_id, kind in zip(troubled, ("hang", "throttle", "unavailable", "reset"), strict=True):
        more = {"seconds": 3_600} if kind == "hang" else {}
        await entra.api("POST", "faults", kind=kind, endpoint="token", tenant_id=tenant_id, **more)
    # The troubled ones come first: whoever waited for them would be late.
    await due(core, *troubled)
    await due(core, *fine)
    async with background(monitor=core.monitor.run()):

        async def good() -> int:
            return await core.database["grants"].count_documents({"check.last_good_at": {"$ne": None}})

        await eventually(good, lambda count: count == len(fine), within=90, what="all the others")
        hangs = await core.database["grants"].find_one({"tenant_id": troubled[0]})
        assert (hangs or {})["check"]["last_at"] is None, "it was not under way all the time"
        # Nobody is slowed down for their sake.
        assert core.monitor._pace.per_second == pace
    grants = core.database["grants"]
    assert await grants.count_documents({"check.last_good_at": None}) == len(troubled)
    assert await grants.count_documents({"status": {"$ne": "granted"}}) == 0
    # Each of the others was asked about once, and no answer was waited for twice.
    once = {"check.token": 1, "check.failures": 0, "check.not_before": None, "check.last_good_at": {"$ne": None}}
    assert await grants.count_documents(once) == len(fine)


async def test_however_many_tenants_hang_they_hold_a_part_of_the_slots(core: Core, answers: Answers) -> None:
    """Twice as many as there are slots, all of them due before the others, and none of them ever answers."""
    hanging, fine = [tenant(number) for number in range(64)], [tenant(number) for number in range(100, 140)]
    roles = {p.resource_app_id: ROLES for p in core.catalog.sets[SET].required}

    async def find(*, tenant_id: str, **_: object) -> Finding:
        answers.finds.append(tenant_id)
        if tenant_id in hanging:
            await asyncio.Event().wait()
        return Finding(roles=roles, full=False)

    answers.find = find  # type: ignore[method-assign]  # some never answer
    await due(core, *hanging)
    await core.database["grants"].update_many({}, {"$set": {"check.failures": 1}})
    await due(core, *fine)
    async with background(monitor=core.monitor.run()):

        async def good() -> int:
            return await core.database["grants"].count_documents({"check.last_good_at": {"$ne": None}})

        async def tried() -> int:
            return len(set(answers.finds) & set(hanging))

        await eventually(good, lambda count: count == len(fine), within=30, what="all the others")
        slots = sum(lane.slots for lane in core.monitor._lanes)
        await eventually(tried, bool, within=30, what="some of those that hang")
        # Once more around, and none is taken in addition.
        await due(core, tenant(200))
        await eventually(good, lambda count: count == len(fine) + 1, within=30, what="one that came later")
        assert await tried() == slots // 4


async def rounds(core: Core, count: int) -> None:
    """The monitor's steps by hand, each with all checks that it begins."""
    for _ in range(count):
        await core.monitor._step()
        await asyncio.gather(*core.monitor._tasks)


async def test_no_more_is_asked_than_the_pace_allows(core: Core, answers: Answers) -> None:
    monitor: Any = core.monitor
    monitor._pace = Pace(5, monotonic=lambda: 0.0)
    await due(core, *(tenant(number) for number in range(20)))
    await rounds(core, 3)
    assert len(answers.finds) == 5


async def test_a_busy_entra_is_asked_more_slowly(core: Core, answers: Answers) -> None:
    now = [0.0]
    monitor: Any = core.monitor
    monitor._pace = Pace(100, monotonic=lambda: now[0])
    answers.says = lambda _: Finding(roles={}, unanswered="transient: AADSTS90055", throttled=True)
    for first, last in ((0, 30), (30, 31)):
        await due(core, *(tenant(number) for number in range(first, last)))
        await rounds(core, 2)
        # The next answer is the first one after the window.
        now[0] = 11
    assert (len(answers.finds), monitor._pace.per_second) == (31, 50)


async def test_a_tenant_that_is_being_checked_takes_no_further_slot(core: Core, answers: Answers) -> None:
    """Its other grants, of whatever account, are left until it has answered."""
    hangs, fine = tenant(1), tenant(2)
    roles = {p.resource_app_id: ROLES for p in core.catalog.sets[SET].required}

    async def find(*, tenant_id: str, **_: object) -> Finding:
        answers.finds.append(tenant_id)
        if tenant_id == hangs:
            await asyncio.Event().wait()
        return Finding(roles=roles, full=False)

    answers.find = find  # type: ignore[method-assign]  # one never answers
    await due(core, hangs)
    async with background(monitor=core.monitor.run()):
        await eventually(lambda: _is(lambda: answers.finds == [hangs]), within=30, what="the first check")
        waiting = granted(core.catalog.sets[SET], hangs, next_at=utc_now() - timedelta(hours=1), full_at=utc_now())
        await seed(core, [replace(waiting, account_id="adatum")])
        await due(core, fine)
        await eventually(lambda: _is(lambda: fine in answers.finds), within=30, what="the other tenant")
        there = await core.database["grants"].find_one({"tenant_id": hangs, "account_id": "adatum"})
        assert there is not None
        assert (there["check"].get("lease"), there["check"].get("token", 0)) == (None, 0)
