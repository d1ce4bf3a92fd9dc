"""Results are written at once when it is quiet, in batches under load, and never dropped."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import AutoReconnect, OperationFailure

from notifier.clock import ServerClock
from notifier.deliveries import DELIVERED, Attempt, Result
from notifier.delivery_store import DeliveryStore
from notifier.recorder import BATCH, Recorder

NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


class Clock:
    def now(self) -> datetime:
        return NOW


class Store:
    """Takes batches, or fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.batches: list[list[str]] = []
        self._failures = failures

    def written(self) -> list[str]:
        return [name for batch in self.batches for name in batch]

    async def record(self, results: Sequence[Result], *, now: datetime) -> int:
        await asyncio.sleep(0)
        if self._failures:
            self._failures -= 1
            raise AutoReconnect("away")
        self.batches.append([result.delivery_id for result in results])
        return len(results)


def result(name: str) -> Result:
    return Result(
        delivery_id=name, claim="c", attempt=Attempt(at=NOW, duration_ms=1, status_code=204), verdict=DELIVERED
    )


def recorder(store: Store, recovered: list[str]) -> Recorder:
    return Recorder(
        cast("DeliveryStore", store), cast("ServerClock", Clock()), on_recovery=lambda: recovered.append("yes")
    )


async def drained(made: Recorder, names: Sequence[str]) -> None:
    await recorded(made, [result(name) for name in names])


async def recorded(made: Recorder, results: Sequence[Result]) -> None:
    task = asyncio.create_task(made.run())
    try:
        for each in results:
            made.put(each)
        async with asyncio.timeout(60):
            await made.drained()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_came_together_is_written_together() -> None:
    store = Store()
    await drained(recorder(store, []), [str(number) for number in range(30)])
    assert store.written() == [str(number) for number in range(30)]
    assert len(store.batches) <= 2


async def test_while_the_store_is_away_results_wait_and_readiness_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    store, recovered = Store(failures=2), list[str]()
    made = recorder(store, recovered)
    original = store.record

    async def observed(results: Sequence[Result], *, now: datetime) -> int:
        seen.append(made.failing)
        return await original(results, now=now)

    monkeypatch.setattr(store, "record", observed)
    await drained(made, ["a"])
    assert seen == [None, "AutoReconnect", "AutoReconnect"]
    assert (store.batches, made.failing, recovered) == ([["a"]], None, ["yes"])


class Refusing(Store):
    """A server that takes no batch in which an answer is too large, and no name that is on its list at all."""

    def __init__(self, *, never: str = "") -> None:
        super().__init__()
        self.bare: list[str] = []
        self._never = never

    async def record(self, results: Sequence[Result], *, now: datetime) -> int:
        if sum(len(each.attempt.response_body) for each in results) > 1000:
            raise OperationFailure("BSONObj size is invalid")
        if any(each.delivery_id == self._never for each in results):
            raise InvalidDocument("cannot encode")
        self.bare += [each.delivery_id for each in results if each.attempt.truncated]
        return await super().record(results, now=now)


async def test_a_batch_that_the_server_refuses_is_cut_until_it_takes_it() -> None:
    store = Refusing()
    made = recorder(store, [])
    answers = [replace(result(str(n)), attempt=replace(result("").attempt, response_body="x" * 300)) for n in range(20)]
    await recorded(made, answers)
    assert sorted(store.written(), key=int) == [str(number) for number in range(20)]
    assert store.bare == []
    assert made.failing is None


async def test_an_answer_that_can_not_be_stored_is_left_out_of_the_record() -> None:
    store = Refusing()
    huge = replace(result("huge"), attempt=replace(result("").attempt, response_body="x" * 5000))
    await recorded(recorder(store, []), [result("a"), huge, result("b")])
    assert sorted(store.written()) == ["a", "b", "huge"]
    assert store.bare == ["huge"]


async def test_a_result_that_is_refused_whatever_it_holds_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Refusing(never="bad")
    made = recorder(store, [])
    task = asyncio.create_task(made.run())
    try:
        for name in ("a", "bad", "b", "c"):
            made.put(result(name))
        async with asyncio.timeout(60):
            while sorted(store.written()) != ["a", "b", "c"]:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_one_statement_holds_so_many_bytes_of_answers() -> None:
    store = Store()
    body = "\N{REPLACEMENT CHARACTER}" * 10_000
    answers = [replace(result(str(n)), attempt=replace(result("").attempt, response_body=body)) for n in range(BATCH)]
    await recorded(recorder(store, []), answers)
    assert sum(len(batch) for batch in store.batches) == BATCH
    assert max(len(batch) for batch in store.batches) * len(body.encode()) < 15_000_000
