"""Offsets of the group that follow a moment later: many share one commit, and none goes back."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition

from shared.commits import Commits
from support.eventually import eventually

FIRST, SECOND = TopicPartition("topic", 0), TopicPartition("topic", 1)


class Consumer:
    """Has two partitions, and remembers what was committed; while it is not open, a commit is on its way."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.asked = 0
        self.commits: list[dict[TopicPartition, int]] = []
        self.failures = 0
        self.owned = {FIRST, SECOND}

    def assignment(self) -> set[TopicPartition]:
        return self.owned

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.asked += 1
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.commits.append(dict(offsets))


@pytest.fixture
def consumer() -> Any:
    return Consumer()


async def committed(consumer: Consumer) -> dict[TopicPartition, int]:
    return {partition: offset for each in consumer.commits for partition, offset in each.items()}


async def test_many_batches_share_a_commit(consumer: Any) -> None:
    commits = Commits()
    for offset in range(1, 51):
        commits.put(consumer, {FIRST: offset})
    commits.put(consumer, {SECOND: 7})
    await eventually(lambda: committed(consumer), lambda found: found == {FIRST: 50, SECOND: 7})
    assert len(consumer.commits) == 1
    commits.put(consumer, {FIRST: 51})
    await eventually(lambda: committed(consumer), lambda found: found == {FIRST: 51, SECOND: 7})


async def test_after_a_failure_the_newest_is_committed(consumer: Any) -> None:
    commits = Commits()
    consumer.failures = 1
    commits.put(consumer, {FIRST: 1, SECOND: 1})
    await eventually(lambda: failures_left(consumer), lambda left: left == 0)
    commits.put(consumer, {FIRST: 2})
    await eventually(lambda: committed(consumer), lambda found: found == {FIRST: 2, SECOND: 1})


async def failures_left(consumer: Consumer) -> int:
    return consumer.failures


async def test_what_went_to_another_member_is_left_to_it(consumer: Any) -> None:
    commits = Commits()
    consumer.owned = {SECOND}
    commits.put(consumer, {FIRST: 5, SECOND: 3})
    await eventually(lambda: committed(consumer), bool)
    assert consumer.commits == [{SECOND: 3}]


async def test_before_partitions_are_handed_over_everything_is_committed_at_once(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.commits.PAUSE_SECONDS", 3600.0)
    commits = Commits()
    commits.put(consumer, {FIRST: 5})
    await commits.flush(consumer)
    assert consumer.commits == [{FIRST: 5}]
    await commits.close()


async def test_what_is_on_its_way_when_everything_ends_is_committed_as_well(
    consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit under way is cut off with its task."""
    monkeypatch.setattr("shared.commits.PAUSE_SECONDS", 0.0)
    commits = Commits()
    consumer.open.clear()
    commits.put(consumer, {FIRST: 5, SECOND: 2})
    await eventually(lambda: asked(consumer), lambda count: count == 1)
    commits.put(consumer, {SECOND: 3})
    flushing = asyncio.create_task(commits.flush(consumer))
    await eventually(lambda: asked(consumer), lambda count: count == 2)
    await commits.close()
    consumer.open.set()
    await flushing
    assert consumer.commits == [{FIRST: 5, SECOND: 3}]


async def asked(consumer: Consumer) -> int:
    return consumer.asked


async def test_where_nothing_waits_nobody_is_asked(consumer: Any) -> None:
    commits = Commits()
    await commits.flush(consumer)
    assert consumer.asked == 0
