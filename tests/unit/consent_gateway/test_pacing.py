"""How fast Entra is asked, and how small writes travel together."""

import asyncio

import pytest

from consent_gateway.checks.pacing import Pace
from consent_gateway.grants.health_notes import Notes


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_no_more_than_the_rate_is_allowed_whatever_is_wanted() -> None:
    clock = Clock()
    pace, taken = Pace(50, monotonic=clock), 0
    for _ in range(400):
        taken += pace.take(64)
        clock.seconds += 0.025
    assert 450 <= taken <= 551
    assert pace.take(1000) <= 50


def test_what_was_not_needed_comes_back() -> None:
    clock = Clock()
    pace = Pace(10, monotonic=clock)
    assert pace.take(64) == 10
    assert pace.take(1) == 0
    assert pace.seconds() == pytest.approx(0.1)
    pace.give_back(4)
    assert (pace.seconds(), pace.take(64)) == (0, 4)


def answers(pace: Pace, clock: Clock, *, busy: int, fine: int) -> float:
    for number in range(busy + fine):
        pace.note(busy=number < busy)
    clock.seconds += 10
    pace.note(busy=False)
    return pace.per_second


def test_a_busy_entra_slows_everything_down_and_one_busy_tenant_does_not() -> None:
    clock = Clock()
    pace = Pace(100, monotonic=clock)
    assert answers(pace, clock, busy=5, fine=200) == 100
    assert answers(pace, clock, busy=10, fine=0) == 100
    assert answers(pace, clock, busy=50, fine=100) == 50
    assert answers(pace, clock, busy=150, fine=0) == 25
    assert answers(pace, clock, busy=0, fine=30) == 31.25
    for _ in range(10):
        answers(pace, clock, busy=0, fine=30)
    assert pace.per_second == 100
    for _ in range(20):
        answers(pace, clock, busy=150, fine=0)
    assert pace.per_second == 1


async def test_notes_that_come_while_one_is_written_go_together() -> None:
    written: list[list[int]] = []
    gate = asyncio.Event()

    async def write(notes: list[int]) -> None:
        written.append(notes)
        await gate.wait()
        if 13 in notes:
            raise ValueError("unlucky")

    notes: Notes[int] = Notes(write)
    first = asyncio.create_task(notes.add(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(notes.add(number)) for number in range(1, 6)]
    gate.set()
    await asyncio.gather(first, *rest)
    assert written == [[0], [1, 2, 3, 4, 5]]
    bad = [asyncio.create_task(notes.add(number)) for number in (12, 13)]
    assert [type(one) for one in await asyncio.gather(*bad, return_exceptions=True)] == [ValueError, ValueError]
    await notes.add(14)
    assert written[-1] == [14]
