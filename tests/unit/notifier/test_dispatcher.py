"""Attempts of one process: every one has an outcome, and an endpoint that was held back goes on by itself."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from notifier.deliveries import Attempt, Result
from notifier.lanes import Job
from notifier.notifications import ping
from notifier.subscriptions import Subscription
from support.dispatching import dispatching
from support.eventually import eventually
from support.notifying import new_subscription


class Records:
    """Takes results, as the recorder does."""

    failing = None

    def __init__(self) -> None:
        self.results: list[Result] = []

    def put(self, result: Result) -> None:
        self.results.append(result)


class Poster:
    """Answers 204, or does what it is told to."""

    def __init__(self, failing: Exception | None = None, *, status: int = 204) -> None:
        self._failing = failing
        self._status = status
        self.headers: list[dict[str, str]] = []

    async def post(self, url: str, *, headers: dict[str, str], **_: Any) -> Attempt:
        self.headers.append(headers)
        if self._failing is not None:
            raise self._failing
        return Attempt(at=datetime.now(UTC), duration_ms=1, status_code=self._status)


def job(name: str, *, started_at: datetime | None = None) -> Job:
    now = datetime.now(UTC)
    notice = ping(notice_id=name, at=now, subscription_id="s", app_id="search", account_id=None)
    return Job(
        delivery_id=name, notice=notice, claim="c", tries=0, started_at=started_at or now, lease_until=monotonic() + 60
    )


def subscription(**fields: Any) -> Subscription:
    return new_subscription("http://127.0.0.1:9/", app_id="search", **fields)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0.005)


async def test_what_is_held_back_for_longer_meanwhile_goes_on_at_the_later_time() -> None:
    records = Records()
    dispatcher, _ = dispatching(Poster(), records)
    now = datetime.now(UTC)
    of = subscription(throttled_until=now + timedelta(seconds=0.1))
    later = replace(of, version=2, throttled_until=now + timedelta(seconds=0.4))
    dispatcher.accept([(of, job("a")), (later, job("b"))])
    await until(lambda: len(records.results) == 2)
    assert all(each.attempt.at >= now + timedelta(seconds=0.4) for each in records.results)


async def test_an_attempt_that_breaks_in_our_hands_counts_and_comes_to_an_end() -> None:
    records = Records()
    dispatcher, _ = dispatching(Poster(RuntimeError("a defect")), records, retry_schedule=(5.0,))
    of = subscription()
    dispatcher.accept([(of, job("young"))])
    await until(lambda: records.results)
    (result,) = records.results
    assert (result.attempt.error, result.attempt.status_code) == ("internal_error", None)
    assert (result.verdict.status, result.verdict.reason) == ("pending", None)
    assert result.verdict.next_at is not None
    dispatcher.accept([(of, job("old", started_at=datetime.now(UTC) - timedelta(days=6)))])
    await until(lambda: len(records.results) == 2)
    assert (records.results[1].verdict.status, records.results[1].verdict.reason) == ("dead", "too_old")


async def test_what_was_held_back_goes_on_when_its_time_has_come() -> None:
    records = Records()
    dispatcher, _ = dispatching(Poster(), records)
    now = datetime.now(UTC)
    # Ends all over a tenth of a second: times are compared in tenths.
    ends = [now + timedelta(milliseconds=100 + 7 * number) for number in range(20)]
    dispatcher.accept([(subscription(throttled_until=end), job(str(index))) for index, end in enumerate(ends)])
    assert records.results == []
    await until(lambda: len(records.results) == len(ends))
    assert all(each.attempt.at >= ends[int(each.delivery_id)] for each in records.results)


async def test_a_rate_is_kept_and_everything_is_sent() -> None:
    records = Records()
    dispatcher, _ = dispatching(Poster(), records)
    of = subscription(rate_limit=50.0)
    dispatcher.accept([(of, job(str(number))) for number in range(6)])
    await until(lambda: len(records.results) == 6)
    at = [each.attempt.at for each in records.results]
    assert at[-1] - at[0] >= timedelta(seconds=5 / 50 - 0.001)


async def test_what_waits_for_an_endpoint_that_was_paused_or_went_away_is_given_up() -> None:
    records = Records()
    dispatcher, lanes = dispatching(Poster(), records)
    future = datetime.now(UTC) + timedelta(hours=1)
    for number, state in enumerate(({"paused": True}, {"enabled": False}, None, {"open_until": future, "trips": 1})):
        of = subscription(throttled_until=datetime.now(UTC) + timedelta(seconds=30))
        dispatcher.accept([(of, job(str(number)))])
        dispatcher.follow(of.id, replace(of, version=2, **state) if state is not None else None)
        assert dispatcher.give_up() == {str(number): "c"}
        assert dispatcher.followed.is_set()
    assert lanes.queued() == 0
    assert records.results == []


async def test_what_the_store_no_longer_holds_back_goes_on_at_once() -> None:
    records = Records()
    dispatcher, _ = dispatching(Poster(), records)
    of = subscription(paused=True)
    dispatcher.follow(of.id, of)
    dispatcher.accept([(of, job("a"))])
    dispatcher.room.clear()
    dispatcher.follow(of.id, replace(of, version=2, paused=False))
    await until(lambda: len(records.results) == 1)


class Holding(Poster):
    """Keeps what it was given until it is let go, and counts how much that is."""

    def __init__(self) -> None:
        super().__init__()
        self.running = self.most = 0
        self.go = asyncio.Event()

    async def post(self, url: str, **options: Any) -> Attempt:
        self.running += 1
        self.most = max(self.most, self.running)
        await self.go.wait()
        self.running -= 1
        return await super().post(url, **options)


async def test_so_many_attempts_run_at_once_over_all_endpoints_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    # None becomes slow, however long this takes: a slow one gives its place back.
    monkeypatch.setattr("notifier.dispatcher.SLOW_SECONDS", 3600.0)
    poster, records = Holding(), Records()
    dispatcher, _ = dispatching(poster, records, concurrency=3)
    dispatcher.accept((each, job(f"{each.id}-{n}")) for each in [subscription() for _ in range(5)] for n in range(2))

    async def running() -> int:
        return poster.running

    await eventually(running, lambda count: count == 3)
    poster.go.set()

    async def done() -> int:
        return len(records.results)

    await eventually(done, lambda count: count == 10)
    assert poster.most == 3


async def test_what_is_under_way_at_the_end_of_the_grace_is_given_up_with_what_waits() -> None:
    poster, records = Holding(), Records()
    dispatcher, _ = dispatching(poster, records, endpoint_concurrency=2)
    of = subscription()
    dispatcher.accept([(of, job(str(number))) for number in range(5)])
    await until(lambda: poster.running == 2)
    assert await dispatcher.stop(grace=0.0) == {str(number): "c" for number in range(5)}
    assert records.results == []


async def test_a_secret_that_no_key_opens_holds_its_endpoint_back_and_costs_no_attempt() -> None:
    records = Records()
    dispatcher, lanes = dispatching(Poster(), records)
    of, other = subscription(), subscription()
    sealed = replace(of.secrets[0], sealed=b"?" * 60)
    dispatcher.accept([(replace(of, secrets=(sealed,)), job(str(number))) for number in range(20)])
    dispatcher.accept([(other, job("other"))])
    await until(lambda: records.results)
    assert [each.delivery_id for each in records.results] == ["other"]
    assert set(lanes.blocked(monotonic())) == {of.id}
    # Those that had begun are left to their leases, the others wait.
    assert lanes.queued() == 4


async def test_each_attempt_has_its_own_timestamp_and_retries_that_began_together_part() -> None:
    poster, records = Poster(status=500), Records()
    dispatcher, _ = dispatching(poster, records, retry_schedule=(1000.0,))
    of, long_ago = subscription(), datetime.now(UTC) - timedelta(hours=3)
    before = int(datetime.now(UTC).timestamp())
    dispatcher.accept([(of, job(str(number), started_at=long_ago)) for number in range(40)])
    await until(lambda: len(records.results) == 40)
    # Receivers refuse what is older than minutes, whenever its delivery began.
    assert all(int(each["webhook-timestamp"]) >= before for each in poster.headers)
    waits = [
        (each.verdict.next_at - each.attempt.at).total_seconds() for each in records.results if each.verdict.next_at
    ]
    assert min(waits) < 990
    assert max(waits) > 1010
