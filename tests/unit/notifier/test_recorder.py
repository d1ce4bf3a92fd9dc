"""Results are written at once when it is quiet, in batches under load, and never dropped."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from pymongo.errors import AutoReconnect

from notifier.clock import ServerClock
from notifier.deliveries import DELIVERED, Attempt, Result
from notifier.delivery_store import DeliveryStore
from notifier.recorder import Recorder

NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


class Clock:
    def now(self) -> datetime:
        return NOW


class Store:
    """Takes batches, or fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.batches: list[list[str]] = []
        self._failures = failures

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
    task = asyncio.create_task(made.run())
    try:
        for name in names:
            made.put(result(name))
        async with asyncio.timeout(10):
            await made.drained()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_came_together_is_written_together() -> None:
    store = Store()
    await drained(recorder(store, []), [str(number) for number in range(30)])
    assert sum(store.batches, []) == [str(number) for number in range(30)]
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
