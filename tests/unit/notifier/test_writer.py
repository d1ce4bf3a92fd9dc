"""What is sent while it is written: nothing overtakes what failed, and what might be there already is not sent."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect, PyMongoError

from notifier import subscribers, writer
from notifier.clock import ServerClock
from notifier.deliveries import Attempt, Result, delivery_id
from notifier.delivery_documents import NewDelivery
from notifier.delivery_store import DeliveryStore
from notifier.lanes import Lanes
from notifier.notifications import Notice, notice_of
from notifier.recorder import Recorder
from notifier.store import EventStore, Place
from notifier.subscribers import Intake, Told
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Subscription
from notifier.writer import Writer
from support.dispatching import Clock, dispatching
from support.notifying import new_subscription
from support.status_events import status_event

SUBSCRIPTION = new_subscription("http://127.0.0.1:9/", app_id="search")


class Gate:
    """Lets through who comes, holds who is told to wait, or raises."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.asked = 0
        self.failures: list[BaseException] = []

    async def passed(self) -> None:
        self.asked += 1
        failure = self.failures.pop(0) if self.failures else None
        await self.open.wait()
        if failure is not None:
            raise failure


@dataclass
class Store:
    """Events, rows and who subscribes, in memory; each access has its gate. ``log`` is what happened."""

    subscriptions: list[Subscription] = field(default_factory=lambda: [SUBSCRIPTION])
    asking: Gate = field(default_factory=Gate)
    adding: Gate = field(default_factory=Gate)
    inserting: Gate = field(default_factory=Gate)
    there: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, NewDelivery] = field(default_factory=dict)
    statements: list[list[str]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    async def matching(self, notices: Sequence[Notice]) -> list[Subscription]:
        await self.asking.passed()
        return self.subscriptions

    async def stored(self, ids: Collection[str]) -> set[str]:
        return self.there.keys() & set(ids)

    async def add(self, notices: Sequence[tuple[Notice, Place | None]]) -> None:
        await self.adding.passed()
        for notice, _ in notices:
            self.there[notice.id] = notice
            self.log.append(f"stored {notice.id}")

    async def insert(self, deliveries: Sequence[NewDelivery], *, now: datetime) -> set[int]:
        await self.inserting.passed()
        found = {index for index, row in enumerate(deliveries) if row.id in self.rows}
        self.rows.update({row.id: row for index, row in enumerate(deliveries) if index not in found})
        self.statements.append([row.event_id for row in deliveries])
        self.log += [f"row {row.event_id}" for row in deliveries]
        return found


class Records:
    failing = None

    def __init__(self, log: list[str]) -> None:
        self.results: list[Result] = []
        self._log = log

    def put(self, result: Result) -> None:
        self.results.append(result)
        self._log.append("recorded")


class Poster:
    """Notes what is sent, and answers when it may."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.status = 204

    async def post(self, url: str, *, headers: dict[str, str], **_: Any) -> Attempt:
        self.sent.append(headers["webhook-id"])
        await self.answers.wait()
        return Attempt(at=datetime.now(UTC), duration_ms=1, status_code=self.status)


@dataclass
class Stage:
    store: Store
    poster: Poster
    records: Records
    lanes: Lanes
    writer: Writer
    intake: Intake

    def deliver(self, *notices: Notice) -> "asyncio.Task[None]":
        return asyncio.create_task(self.intake.deliver(news(*notices)))


@asynccontextmanager
async def staged(**changes: Any) -> AsyncIterator[Stage]:
    store, poster = Store(), Poster()
    records, clock = Records(store.log), cast("ServerClock", Clock())
    dispatcher, lanes = dispatching(poster, records)
    made = Writer(
        events=cast("EventStore", store),
        deliveries=cast("DeliveryStore", store),
        dispatcher=dispatcher,
        recorder=cast("Recorder", records),
        lanes=lanes,
        clock=clock,
        lease_seconds=60,
        **{"matched_seconds": 60, **changes},
    )
    intake = Intake(events=cast("EventStore", store), subscriptions=cast("SubscriptionStore", store), writer=made)
    running = asyncio.create_task(made.run())
    try:
        async with asyncio.timeout(60):
            yield Stage(store, poster, records, lanes, made, intake)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def notice() -> Notice:
    made = notice_of(status_event())
    assert made is not None
    return made


def news(*notices: Notice) -> list[Told]:
    return [Told(notice=each, place=Place(partition=0, offset=index)) for index, each in enumerate(notices)]


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0)


async def failed(task: "asyncio.Task[None]") -> BaseException:
    with pytest.raises(PyMongoError) as caught:
        await task
    return caught.value


async def test_an_answer_that_comes_at_once_is_in_the_row_and_another_follows_behind_it() -> None:
    async with staged() as stage:
        first, second = notice(), notice()
        await stage.deliver(first)
        (row,) = stage.store.rows.values()
        assert row.delivered is not None
        assert stage.records.results == []
        stage.poster.status = 410
        await stage.deliver(second)
        # Refused before its row is there: the row first, then what came of it, under the row's claim.
        (result,) = stage.records.results
        refused = stage.store.rows[result.delivery_id]
        assert (refused.event_id, refused.delivered, refused.claim) == (second.id, None, result.claim)
        assert stage.store.log[-3:] == [f"stored {second.id}", f"row {second.id}", "recorded"]
        assert stage.poster.sent == [first.id, second.id]


async def test_an_answer_that_comes_while_its_row_is_written_is_recorded_behind_it() -> None:
    async with staged() as stage:
        stage.poster.answers.clear()
        stage.store.inserting.open.clear()
        delivering = stage.deliver(notice())
        await until(lambda: stage.store.inserting.asked)
        stage.poster.answers.set()
        await until(lambda: stage.lanes.known() == [])
        assert stage.records.results == []
        stage.store.inserting.open.set()
        await delivering
        assert [result.verdict.status for result in stage.records.results] == ["delivered"]


async def test_a_result_of_a_row_that_another_process_made_is_not_taken_for_recorded() -> None:
    async with staged() as stage:
        one = notice()
        stage.store.inserting.open.clear()
        delivering = stage.deliver(one)
        await until(lambda: stage.store.inserting.asked)
        delivery = delivery_id(one.id, SUBSCRIPTION.id)
        stage.store.rows[delivery] = cast("NewDelivery", "theirs")
        stage.store.inserting.open.set()
        await delivering
        assert [result.delivery_id for result in stage.records.results] == [delivery]


async def test_what_could_not_be_written_fails_with_its_results_handed_on_and_comes_again_written_first() -> None:
    async with staged() as stage:
        one = notice()
        stage.store.inserting.failures = [AutoReconnect("a new primary")]
        assert isinstance(await failed(stage.deliver(one)), AutoReconnect)
        # Perhaps the row is there: then it is not pending any more.
        assert [result.verdict.status for result in stage.records.results] == ["delivered"]
        stage.store.inserting.open.clear()
        again = stage.deliver(one)
        await until(lambda: stage.store.inserting.asked == 2)
        assert stage.poster.sent == [one.id]
        stage.store.inserting.open.set()
        await again
        await until(lambda: stage.poster.sent == [one.id, one.id])
        (row,) = stage.store.rows.values()
        assert row.delivered is None
        await until(lambda: stage.lanes.known() == [])


async def test_nothing_overtakes_what_could_not_be_looked_up() -> None:
    """A stream that has seen an event never looks for what lay before it."""
    async with staged() as stage:
        first, second = notice(), notice()
        stage.store.asking.failures = [AutoReconnect("away")]
        stage.store.asking.open.clear()
        one = stage.deliver(first)
        await until(lambda: stage.store.asking.asked)
        two = stage.deliver(second)
        await until(lambda: len(stage.intake._arrived) == 1)
        stage.store.asking.open.set()
        await failed(one)
        await failed(two)
        assert stage.store.there == {}
        await stage.deliver(first)
        await stage.deliver(second)
        assert stage.store.log == [f"stored {first.id}", f"row {first.id}", f"stored {second.id}", f"row {second.id}"]


async def test_nothing_overtakes_what_could_not_be_written() -> None:
    async with staged() as stage:
        first, second, third = notice(), notice(), notice()
        stage.store.adding.failures = [AutoReconnect("away")]
        stage.store.adding.open.clear()
        one = stage.deliver(first)
        await until(lambda: stage.store.adding.asked)
        # The next waits for being written, and the one behind it to be looked up.
        two = stage.deliver(second)
        await until(lambda: len(stage.writer._queue) == 2)
        stage.store.asking.open.clear()
        three = stage.deliver(third)
        await until(lambda: stage.store.asking.asked == 3)
        stage.store.adding.open.set()
        await failed(one)
        await failed(two)
        stage.store.asking.open.set()
        await failed(three)
        assert stage.store.there == {}
        await stage.deliver(third)
        assert list(stage.store.there) == [third.id]


async def test_nothing_overtakes_what_failed_before_who_asked_has_heard_of_it() -> None:
    async with staged() as stage:
        first, second = notice(), notice()
        behind: list[asyncio.Task[None]] = []
        fail = stage.writer._fail

        def failing(error: Exception) -> None:
            fail(error)
            behind.append(stage.deliver(second))

        stage.writer._fail = failing  # type: ignore[method-assign]
        stage.store.adding.failures = [AutoReconnect("away")]
        await failed(stage.deliver(first))
        assert isinstance(await failed(behind[0]), subscribers.Overtaking)
        assert stage.store.there == {}
        await stage.deliver(first, second)
        assert list(stage.store.there) == [first.id, second.id]


@pytest.mark.parametrize("gate", ["asking", "adding", "inserting"])
async def test_a_cancellation_from_below_is_a_failure_like_any_other(gate: str) -> None:
    async with staged() as stage:
        one = notice()
        getattr(stage.store, gate).failures = [asyncio.CancelledError()]
        await failed(stage.deliver(one))
        await stage.deliver(one)
        assert list(stage.store.there) == [one.id]
        assert [row.event_id for row in stage.store.rows.values()] == [one.id]


async def test_an_event_that_is_stored_while_the_store_is_asked_for_it_is_not_sent_again() -> None:
    async with staged() as stage:
        one = notice()
        stage.store.adding.open.clear()
        first = stage.deliver(one)
        await until(lambda: stage.store.adding.asked)
        stage.store.asking.open.clear()
        second = stage.deliver(one)
        # It was not there when the store was asked; now it is, and not under way any more.
        await until(lambda: stage.store.asking.asked == 2)
        stage.store.adding.open.set()
        await first
        await until(lambda: not stage.intake._under_way)
        stage.store.asking.open.set()
        await second
        assert stage.poster.sent == [one.id]


async def test_what_is_stored_or_holds_an_event_twice_is_written_before_it_is_sent() -> None:
    async with staged() as stage:
        old, new = notice(), notice()
        stage.store.there[old.id] = old
        for told in ((old,), (new, new)):
            stage.store.inserting.open.clear()
            asked, sent = stage.store.inserting.asked, list(stage.poster.sent)
            delivering = stage.deliver(*told)
            await until(lambda asked=asked: stage.store.inserting.asked > asked)
            assert stage.poster.sent == sent
            stage.store.inserting.open.set()
            await delivering
            await until(lambda told=told: told[0].id in stage.poster.sent)


async def test_what_was_matched_too_long_ago_is_matched_anew() -> None:
    async with staged(matched_seconds=0.0) as stage:
        assert isinstance(await failed(stage.deliver(notice())), writer.WaitedTooLong)
        assert stage.store.there == {}


async def test_what_waits_is_written_with_one_statement_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_ROWS", 3)
    async with staged() as stage:
        stage.store.adding.open.clear()
        made = [notice() for _ in range(6)]
        begun = [stage.deliver(made[0])]
        await until(lambda: stage.store.adding.asked)
        for one in made[1:]:
            begun.append(stage.deliver(one))
            await until(lambda: len(stage.writer._queue) == len(begun))
        await until(lambda: len(stage.poster.sent) == 6 and not stage.lanes.known())
        stage.store.adding.open.set()
        await asyncio.gather(*begun)
        ids = [one.id for one in made]
        assert stage.store.statements == [ids[:1], ids[1:4], ids[4:]]


async def test_answers_are_waited_for_with_little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged() as stage:
        stage.poster.answers.clear()
        # With either of the two bounds an end comes long before the stage gives up.
        for patience, quiet in ((0.2, 3600.0), (3600.0, 0.05)):
            monkeypatch.setattr(writer, "PATIENCE_SECONDS", patience)
            monkeypatch.setattr(writer, "QUIET_SECONDS", quiet)
            await stage.deliver(notice())
        assert all(row.delivered is None for row in stage.store.rows.values())
        assert {row.claim is not None for row in stage.store.rows.values()} == {True}


async def test_a_stopping_process_waits_for_what_is_written_and_for_what_fails() -> None:
    async with staged() as stage:
        await stage.writer.flushed()
        for failures in ([], [AutoReconnect("away")]):
            stage.store.adding.failures = list(failures)
            stage.store.adding.open.clear()
            asked = stage.store.adding.asked
            delivering = stage.deliver(notice())
            await until(lambda asked=asked: stage.store.adding.asked > asked)
            flushing = asyncio.create_task(stage.writer.flushed())
            await asyncio.sleep(0)
            assert not flushing.done()
            stage.store.adding.open.set()
            await flushing
            await asyncio.gather(delivering, return_exceptions=True)


async def test_places_that_were_kept_are_given_back_when_the_writing_fails() -> None:
    async with staged() as stage:
        one = notice()
        stage.store.there[one.id] = one
        stage.store.inserting.failures = [AutoReconnect("away")]
        await failed(stage.deliver(one))
        lane = stage.lanes.get(SUBSCRIPTION.id)
        assert lane is not None
        assert lane.reserved == 0


async def test_what_never_comes_again_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "MOST_REMEMBERED", 3)
    async with staged() as stage:
        stage.store.adding.failures = [AutoReconnect("away") for _ in range(5)]
        for _ in range(5):
            await failed(stage.deliver(notice()))
        assert len(stage.intake._under_way) == 3


async def test_who_is_gone_before_it_was_looked_up_leaves_nothing_behind() -> None:
    """As when a consumer is closed: somebody else is given the record."""
    async with staged() as stage:
        stage.store.asking.open.clear()
        gone = stage.deliver(notice())
        await until(lambda: stage.store.asking.asked)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        stage.store.asking.open.set()
        one = notice()
        await stage.deliver(one)
        assert list(stage.store.there) == [one.id]
        assert not stage.intake._calls


async def test_who_was_late_is_not_waited_for_until_it_is_in_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged() as stage:
        monkeypatch.setattr(writer, "QUIET_SECONDS", 0.05)
        stage.poster.answers.clear()
        late = notice()
        await stage.deliver(late)
        # With this, waiting for an answer would outlast the stage.
        monkeypatch.setattr(writer, "QUIET_SECONDS", 3600.0)
        monkeypatch.setattr(writer, "PATIENCE_SECONDS", 3600.0)
        await stage.deliver(notice())
        stage.poster.answers.set()
        await until(lambda: len(stage.records.results) == 2)
        stage.store.adding.open.clear()
        ahead, prompt = stage.deliver(notice()), notice()
        await until(lambda: stage.store.adding.asked == 3)
        begun = stage.deliver(prompt)
        await until(lambda: len(stage.poster.sent) == 4 and not stage.lanes.known())
        stage.store.adding.open.set()
        await asyncio.gather(ahead, begun)
        # Its answer was there when the rows were written: from now on it is waited for again.
        assert stage.store.rows[delivery_id(prompt.id, SUBSCRIPTION.id)].delivered is not None
        assert not stage.writer._late


async def test_of_who_was_late_so_many_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says that a subscription was deleted: those that never answer again must not be kept for ever."""
    monkeypatch.setattr(writer, "MOST_REMEMBERED", 3)
    monkeypatch.setattr(writer, "QUIET_SECONDS", 0.0)
    async with staged() as stage:
        stage.poster.answers.clear()
        for _ in range(12):
            stage.store.subscriptions = [new_subscription("http://127.0.0.1:9/", app_id="search")]
            await stage.deliver(notice())
            assert stage.store.subscriptions[0].id in stage.writer._late
            assert len(stage.writer._late) <= 4
