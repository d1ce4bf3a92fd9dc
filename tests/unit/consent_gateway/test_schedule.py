"""When grants are checked again: adaptive, spread, and never all at once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from consent_gateway.checks.schedule import (
    FAILURE_DELAYS,
    REMOVAL_WATCH,
    Rules,
    Schedule,
    failure_pause,
    is_full_due,
    name_again,
    removal_is_watched,
)
from consent_gateway.grants.grants import Entra, Grant, Health
from support.gateway import CONTOSO

T0 = datetime(2026, 11, 23, tzinfo=UTC)
RULES = Rules(interval_seconds=3600, negatives=3, negatives_span_seconds=900)
GRANT = Grant(
    account_id="northwind",
    tenant_id=CONTOSO,
    permission_set_id="read-directory-data",
    version=1,
    accepted=(),
    entra=Entra.COMPLETE,
    app_epochs={},
    accepted_at=T0,
    verify_until=T0 + timedelta(days=1),
    verified_at=T0,
    health=Health(full_at=T0),
)


def pause(days: float, spread: float = 0.5) -> float:
    now = T0 + timedelta(days=days)
    return (Schedule(now=now, rules=RULES, spread=spread).settled(GRANT) - now).total_seconds()


def test_what_stays_as_it_is_is_asked_less_often_up_to_a_limit_and_a_change_starts_over() -> None:
    assert [pause(days) / 3600 for days in (0, 0.9, 1, 2, 5, 300)] == [1, 1, 2, 3, 6, 6]
    now = T0 + timedelta(days=300)
    changed = replace(GRANT, verified_at=now)
    assert Schedule(now=now, rules=RULES).settled(changed) == now + timedelta(hours=1)


@given(st.floats(0, 1), st.floats(0, 400))
def test_due_times_are_spread_by_a_fifth(spread: float, days: float) -> None:
    assert abs(pause(days, spread) / pause(days) - 1) <= 0.2000001


@given(st.floats(0, 1))
def test_the_needed_negatives_fill_the_span_whatever_the_dice_say(spread: float) -> None:
    at = T0
    for _ in range(RULES.negatives - 1):
        at = Schedule(now=at, rules=RULES, spread=spread).confirming(GRANT)
    assert 900 <= (at - T0).total_seconds() <= 900 * 1.2 + 1


def test_what_was_said_to_be_removed_is_looked_at_every_few_seconds_for_a_while() -> None:
    said = replace(GRANT, health=replace(GRANT.health, removal_said_at=T0))
    at, looks = T0, 0
    while removal_is_watched(said, at):
        schedule = Schedule(now=at, rules=RULES)
        assert schedule.confirming(said) - at == timedelta(seconds=5)
        assert schedule.span(said) == 0
        assert timedelta(seconds=5) <= schedule.settled(said) - at <= timedelta(seconds=60)
        at, looks = schedule.settled(said), looks + 1
    assert T0 + REMOVAL_WATCH <= at <= T0 + REMOVAL_WATCH + timedelta(minutes=1)
    assert looks < 60
    assert Schedule(now=at, rules=RULES).span(said) == RULES.negatives_span_seconds
    assert Schedule(now=at, rules=RULES).settled(said) - at == timedelta(hours=1)


def test_a_consent_after_the_word_that_it_was_removed_is_none_of_its_business() -> None:
    said = replace(GRANT, health=replace(GRANT.health, removal_said_at=T0))
    assert not removal_is_watched(replace(said, accepted_at=T0 + timedelta(seconds=1)), T0 + timedelta(seconds=2))
    assert not removal_is_watched(replace(said, entra=Entra.GONE), T0)
    assert not removal_is_watched(GRANT, T0)


def test_failures_are_tried_again_ever_more_slowly_but_for_ever() -> None:
    assert [failure_pause(count) for count in range(1, 9)] == list(FAILURE_DELAYS)
    assert failure_pause(10_000) == 3_600
    assert list(FAILURE_DELAYS) == sorted(FAILURE_DELAYS)


def test_a_name_is_asked_for_with_pauses_that_double() -> None:
    at, pauses = T0, []
    for _ in range(5):
        following = name_again(GRANT, at)
        pauses.append((following - at).total_seconds())
        at = following
    assert pauses == [60, 60, 120, 240, 480]


def test_everything_is_read_once_a_day_and_whenever_something_is_amiss() -> None:
    soon, late = T0 + timedelta(hours=23), T0 + timedelta(hours=24)
    assert [is_full_due(GRANT, at) for at in (soon, late)] == [False, True]
    for amiss in (
        replace(GRANT, entra=Entra.VERIFYING),
        replace(GRANT, entra=Entra.INCOMPLETE),
        replace(GRANT, health=Health(full_at=T0, negatives=1)),
        replace(GRANT, health=Health(full_at=T0, failures=1)),
        replace(GRANT, health=Health()),
    ):
        assert is_full_due(amiss, soon)
