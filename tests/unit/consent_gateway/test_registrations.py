"""Our own fault: seen at home, told once, stopping the checks everywhere, and over as soon as it is over."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from consent_gateway.checks.checks import Finding, Judgement, Outcome
from consent_gateway.checks.registrations import FAILING, HELD, Home, Registrations
from consent_gateway.grants.grants import Entra, Grant, Health, Reason
from support.breakers import SharedBreakers, SharedTallies, guard
from support.gateway import CLIENT_IDS

CLIENT = CLIENT_IDS["read-saas-posture"]
T0 = datetime(2026, 11, 23, tzinfo=UTC)
REFUSED = Finding(roles={}, unanswered="ours: AADSTS7000222", ours=True)
GONE = Finding(roles={}, gone=Reason.REMOVED)
GOOD = Finding(roles={"resource": frozenset({"role"})})


@dataclass
class Fleet:
    """Two replicas, one home tenant, one clock."""

    says: Home = Home.WORKS
    asked: int = 0
    seconds: float = 0.0
    breakers: SharedBreakers = field(default_factory=SharedBreakers)
    tallies: SharedTallies = field(default_factory=SharedTallies)

    def __post_init__(self) -> None:
        self.replicas = [
            Registrations(
                self,
                self.breakers,
                mass=guard(tenants=5, share=0.2, tallies=self.tallies, replica=replica, clock=self.now),
                monotonic=lambda: self.seconds,
                clock=self.now,
            )
            for replica in ("one", "other")
        ]

    def now(self) -> datetime:
        return T0 + timedelta(seconds=self.seconds)

    async def home(self, client_id: str) -> Home:
        self.asked += 1
        await asyncio.sleep(0)
        return self.says

    async def excuse(self, finding: Finding, replica: int = 0) -> Finding:
        return await self.replicas[replica].excuse(finding, client_id=CLIENT)


async def test_a_refused_registration_is_told_once_and_stops_the_checks_of_every_replica() -> None:
    fleet = Fleet(says=Home.OURS)
    excused = await asyncio.gather(*(fleet.excuse(REFUSED, n % 2) for n in range(40)), *[fleet.excuse(GONE)] * 1)
    assert all(one.gone is None and one.unanswered for one in excused)
    assert fleet.breakers.opens == [(CLIENT, "refused")]
    assert fleet.asked == 2
    assert FAILING.labels(CLIENT)._value.get() == 1
    for replica in fleet.replicas:
        await replica.refresh()
        assert replica.resting == {CLIENT}


async def test_recovery_is_noticed_by_one_replica_at_a_time_and_seen_by_all() -> None:
    fleet = Fleet(says=Home.OURS)
    await fleet.excuse(REFUSED)
    for fleet.seconds in (1, 30, 59):
        for replica in fleet.replicas:
            await replica.refresh()
    assert fleet.asked == 1
    fleet.seconds = 61
    for replica in fleet.replicas:
        await replica.refresh()
    assert (fleet.asked, fleet.breakers.closes) == (2, [])
    fleet.says, fleet.seconds = Home.WORKS, 122
    for replica in fleet.replicas:
        await replica.refresh()
    assert (fleet.asked, fleet.breakers.closes) == (3, [CLIENT])
    assert [replica.resting for replica in fleet.replicas] == [frozenset(), frozenset()]
    assert FAILING.labels(CLIENT)._value.get() == 0


async def test_replicas_that_see_at_the_same_moment_that_it_is_time_try_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(says=Home.OURS)
    await fleet.excuse(REFUSED)
    opened = fleet.breakers.opened

    async def opened_for_all() -> Any:
        found = await opened()
        await asyncio.sleep(0)
        return found

    monkeypatch.setattr(fleet.breakers, "opened", opened_for_all)
    fleet.seconds = 61
    await asyncio.gather(*(replica.refresh() for replica in fleet.replicas))
    assert fleet.asked == 2


async def test_one_tenants_odd_answer_never_raises_the_alarm_for_all() -> None:
    fleet = Fleet()
    odd = replace(REFUSED, unanswered="config: AADSTS650057")
    for _ in range(5):
        excused = await fleet.excuse(odd)
        assert (excused.gone, excused.unanswered) == (None, "config: AADSTS650057")
    assert (fleet.asked, fleet.breakers.opens, fleet.replicas[0].resting) == (1, [], frozenset())


async def test_any_token_of_any_tenant_ends_it_at_once() -> None:
    fleet = Fleet(says=Home.OURS)
    await fleet.excuse(REFUSED)
    await fleet.excuse(GOOD)
    assert (fleet.breakers.closes, fleet.replicas[0].resting) == ([CLIENT], frozenset())


async def test_a_home_that_cannot_be_asked_decides_nothing_and_is_asked_again_soon() -> None:
    fleet = Fleet(says=Home.UNKNOWN)
    assert (await fleet.excuse(GONE)).gone is None
    assert fleet.breakers.opens == []
    fleet.says, fleet.seconds = Home.WORKS, 6
    assert (await fleet.excuse(GONE)).gone is Reason.REMOVED


def judgement(number: int, outcome: Outcome, *, negatives: int = 0) -> Judgement:
    grant = Grant(
        account_id="northwind",
        tenant_id=str(UUID(int=number)),
        permission_set_id="read-saas-posture",
        version=1,
        accepted=(),
        entra=Entra.COMPLETE,
        app_epochs={},
        accepted_at=T0,
        verify_until=T0,
        health=Health(negatives=negatives),
    )
    return Judgement(before=grant, grant=grant, changed=False, outcome=outcome)


async def test_some_customers_leaving_are_believed() -> None:
    registrations = Fleet().replicas[0]
    for number in range(30):
        assert await registrations.doubt(CLIENT, [judgement(number, Outcome.GOOD)]) is None
    for number in range(30, 35):
        # The same customer's second and third answer are no further customers.
        for negatives in range(3):
            assert await registrations.doubt(CLIENT, [judgement(number, Outcome.NEGATIVE, negatives=negatives)]) is None


async def test_very_many_at_once_are_not_until_an_operator_says_so() -> None:
    fleet = Fleet()
    one, other = fleet.replicas
    doubts = [await one.doubt(CLIENT, [judgement(number, Outcome.NEGATIVE)]) for number in range(6)]
    assert doubts == [None] * 4 + ["mass_removal"] * 2
    for _ in range(3):
        await one.hold(CLIENT, "mass_removal")
    await other.refresh()
    assert fleet.breakers.opens == [(CLIENT, "mass_removal")]
    assert other.resting == {CLIENT}
    assert HELD.labels(CLIENT)._value.get() == 1
    assert await other.doubt(CLIENT, [judgement(9, Outcome.NEGATIVE, negatives=2)]) == "mass_removal"
    # Neither time nor a token ends it.
    fleet.seconds = 10_000
    await other.refresh()
    await other.excuse(GOOD, client_id=CLIENT)
    assert fleet.breakers.closes == []
    fleet.breakers.confirmed.add(CLIENT)
    await fleet.breakers.close(CLIENT)
    await one.refresh()
    assert one.resting == frozenset()
    assert [await one.doubt(CLIENT, [judgement(number, Outcome.NEGATIVE)]) for number in range(9)] == [None] * 9


@pytest.mark.parametrize("replica", [0, 1])
async def test_a_refusal_at_home_does_not_end_what_only_an_operator_may_end(replica: int) -> None:
    """Held first, refused then: with a token again it is still held, also at a replica that has not heard of it."""
    fleet = Fleet(says=Home.OURS)
    await fleet.replicas[0].hold(CLIENT, "mass_removal")
    await fleet.excuse(REFUSED, replica)
    await fleet.excuse(GOOD, replica)
    assert fleet.breakers.closes == []
    assert fleet.replicas[replica].resting == {CLIENT}
    assert fleet.breakers.opens == [(CLIENT, "mass_removal")]


async def test_a_tenant_that_left_before_leaves_no_second_time() -> None:
    fleet = Fleet()
    one = fleet.replicas[0]
    for number in range(4):
        assert await one.doubt(CLIENT, [judgement(number, Outcome.NEGATIVE)]) is None
    # Their second answers come when the first ones count no more, together with the first one of another tenant.
    fleet.seconds = 700
    for number in range(4):
        assert await one.doubt(CLIENT, [judgement(number, Outcome.NEGATIVE, negatives=1)]) is None
    assert await one.doubt(CLIENT, [judgement(4, Outcome.NEGATIVE)]) is None


async def test_a_fault_that_each_replica_meets_with_a_few_tenants_only_is_seen_by_all_of_them_together() -> None:
    fleet = Fleet()
    doubts = [
        await fleet.replicas[number % 2].doubt(CLIENT, [judgement(number, Outcome.NEGATIVE)]) for number in range(6)
    ]
    assert doubts == [None] * 4 + ["mass_removal"] * 2


async def test_what_other_replicas_found_well_counts_too() -> None:
    """Eight of thirty-three here would be many; eight of fifty-eight are not."""
    fleet = Fleet()
    one, other = fleet.replicas
    for number in range(50):
        await (one if number % 2 else other).doubt(CLIENT, [judgement(number, Outcome.GOOD)])
    await other.refresh()
    leaving = [judgement(number, Outcome.NEGATIVE) for number in range(100, 108)]
    assert [await one.doubt(CLIENT, [each]) for each in leaving] == [None] * 8
    # What the other one has checked is over in time, and a replica that is gone says nothing new.
    fleet.seconds = 601
    assert [await one.doubt(CLIENT, [each]) for each in leaving] == [None] * 4 + ["mass_removal"] * 4


async def test_a_replica_says_what_it_checked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, told = Fleet(), []
    tell = fleet.tallies.tell

    async def noted(client_id: str, *, replica: str, tenants: int, at: datetime) -> None:
        told.append((fleet.seconds, tenants))
        await tell(client_id, replica=replica, tenants=tenants, at=at)

    monkeypatch.setattr(fleet.tallies, "tell", noted)
    for number in range(40):
        fleet.seconds = float(number)
        await fleet.replicas[0].doubt(CLIENT, [judgement(number, Outcome.GOOD)])
        await fleet.replicas[0].refresh()
    assert told == [(0, 1), (10, 11), (20, 21), (30, 31)]
    fleet.seconds = 700
    await fleet.replicas[0].refresh()
    await fleet.replicas[0].refresh()
    assert told[4:] == [(700, 0)]


async def test_what_was_seen_long_ago_is_forgotten() -> None:
    fleet = Fleet()
    for number in range(20):
        fleet.seconds = number * 200.0
        assert await fleet.replicas[0].doubt(CLIENT, [judgement(number, Outcome.NEGATIVE)]) is None


async def test_a_check_that_gave_no_answer_counts_for_nothing() -> None:
    registrations = Fleet().replicas[0]
    for number in range(50):
        inconclusive = judgement(number, Outcome.INCONCLUSIVE)
        not_yet = replace(inconclusive, outcome=Outcome.NOT_YET)
        assert await registrations.doubt(CLIENT, [inconclusive, not_yet]) is None
