"""What an attempt makes of a delivery."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.deliveries import Attempt, RetryPolicy, Verdict, delivery_id, judge, retry_after_seconds
from notifier.settings import STANDARD_WEBHOOKS_SCHEDULE

NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
POLICY = RetryPolicy(schedule=STANDARD_WEBHOOKS_SCHEDULE, max_age=timedelta(days=5), retry_after_max=3600)


def attempt(status: int | None = None, *, error: str | None = None, retry_after: str | None = None) -> Attempt:
    return Attempt(at=NOW, duration_ms=5, status_code=status, error=error, retry_after=retry_after)


def judged(made: Attempt, *, tries: int = 0, age: timedelta = timedelta(), spread: float = 0.0) -> Verdict:
    return judge(made, tries=tries, started_at=NOW - age, now=NOW, policy=POLICY, spread=spread)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_complete_2xx_is_delivered(status: int) -> None:
    assert judged(attempt(status)) == Verdict(status="delivered")


@pytest.mark.parametrize(
    "made",
    [
        *(attempt(status) for status in (100, 300, 301, 302, 307, 308, 400, 401, 404, 500, 501, 503)),
        attempt(error="timeout"),
        attempt(200, error="timeout"),
    ],
)
def test_anything_else_is_tried_again_by_the_schedule(made: Attempt) -> None:
    for tries, wait in enumerate(STANDARD_WEBHOOKS_SCHEDULE):
        verdict = judged(made, tries=tries)
        assert verdict == Verdict(status="pending", next_at=NOW + timedelta(seconds=wait))


def test_the_default_schedule_is_that_of_standard_webhooks() -> None:
    hours = [wait / 3600 for wait in STANDARD_WEBHOOKS_SCHEDULE[3:]]
    assert (STANDARD_WEBHOOKS_SCHEDULE[:3], hours) == ((5, 300, 1800), [2, 5, 10, 14, 20, 24])
    assert all(a < b for a, b in pairwise(STANDARD_WEBHOOKS_SCHEDULE))


@given(spread=st.floats(-1, 1), tries=st.integers(0, 8))
def test_jitter_moves_a_retry_by_a_fifth_at_most(spread: float, tries: int) -> None:
    next_at = judged(attempt(500), tries=tries, spread=spread).next_at
    assert next_at is not None
    share = (next_at - NOW).total_seconds() / STANDARD_WEBHOOKS_SCHEDULE[tries]
    assert 0.8 - 1e-6 <= share <= 1.2 + 1e-6
    assert share == pytest.approx(1 + 0.2 * spread, rel=1e-5)


def test_an_endpoints_own_schedule_goes_before_the_platforms() -> None:
    def verdict(schedule: tuple[float, ...] | None, tries: int) -> Verdict:
        policy = POLICY.with_schedule(schedule)
        return judge(attempt(500), tries=tries, started_at=NOW, now=NOW, policy=policy, spread=0.0)

    assert verdict((7.0, 9.0), 1) == Verdict(status="pending", next_at=NOW + timedelta(seconds=9))
    assert verdict((7.0, 9.0), 2) == Verdict(status="dead", reason="attempts_exhausted")
    assert verdict((), 0) == Verdict(status="dead", reason="attempts_exhausted")
    assert verdict(None, 0) == Verdict(status="pending", next_at=NOW + timedelta(seconds=STANDARD_WEBHOOKS_SCHEDULE[0]))
    assert POLICY.with_schedule((7.0,)).max_age == POLICY.max_age


def test_after_the_last_wait_it_is_dead() -> None:
    assert judged(attempt(500), tries=9) == Verdict(status="dead", reason="attempts_exhausted")


def test_what_would_be_tried_after_its_time_is_dead() -> None:
    assert judged(attempt(500), tries=8, age=timedelta(days=4, hours=1)).reason == "too_old"
    assert judged(attempt(500), tries=8, age=timedelta(days=3)).status == "pending"


def test_gone_ends_the_delivery_and_the_endpoint() -> None:
    assert judged(attempt(410)) == Verdict(status="dead", reason="endpoint_gone", endpoint_gone=True)


@pytest.mark.parametrize("status", [429, 502, 504])
def test_an_overloaded_endpoint_is_held_back_whole(status: int) -> None:
    verdict = judged(attempt(status), tries=1)
    assert verdict.throttle_until == NOW + timedelta(seconds=5)
    assert verdict.next_at == NOW + timedelta(seconds=300)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["120", " 120 ", "Mon, 23 Nov 2026 13:02:00 GMT"])
def test_retry_after_is_honoured_in_both_forms(status: int, value: str) -> None:
    verdict = judged(attempt(status, retry_after=value))
    assert verdict.next_at == NOW + timedelta(seconds=120)
    assert verdict.throttle_until == (NOW + timedelta(seconds=120) if status == 429 else None)


def test_retry_after_never_shortens_the_schedule_and_never_exceeds_its_bound() -> None:
    assert judged(attempt(429, retry_after="1"), tries=2).next_at == NOW + timedelta(seconds=1800)
    assert judged(attempt(429, retry_after="99999999999999999999")).next_at == NOW + timedelta(seconds=3600)


def test_retry_after_of_other_answers_is_ignored() -> None:
    assert judged(attempt(500, retry_after="120")).next_at == NOW + timedelta(seconds=5)


# Dates that the parser of the standard library takes apart and then fails on, each in its own way.
ABSURD = [
    "Mon, 01 Jan 99999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2026 00:00:00 +999999999999",
    "Mon, 01 Jan 2026 99999999999999:00:00 GMT",
]


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "²", "Mon, 99 Nov 2026 13:02:00 GMT", *ABSURD])
def test_a_retry_after_that_is_neither_form_says_nothing(value: str) -> None:
    assert retry_after_seconds(value, now=NOW) is None


def test_a_retry_after_in_the_past_is_now() -> None:
    assert retry_after_seconds("Mon, 23 Nov 2026 12:00:00 GMT", now=NOW) == 0


def test_the_id_of_a_delivery_follows_from_event_and_subscription() -> None:
    assert delivery_id("e", "s") == delivery_id("e", "s")
    assert len({delivery_id("e", "s"), delivery_id("e", "t"), delivery_id("f", "s"), delivery_id("e s", "")}) == 4
