"""Batches under way: offsets move up to the first that isn't durable, and a failure takes what is behind it with it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from shared.batches import Batches

PARTITION = TopicPartition("t", 0)


def records(*offsets: int, partition: int = 0) -> Sequence[ConsumerRecord[bytes, bytes]]:
    made = [ConsumerRecord("t", partition, offset, 0, 0, b"", b"", None, 0, 0, ()) for offset in offsets]
    return cast("Sequence[ConsumerRecord[bytes, bytes]]", made)


class Consumer:
    """Knows how far it was read."""

    def __init__(self) -> None:
        self.at = 0

    async def position(self, _: TopicPartition) -> int:
        return self.at


class Service:
    """Handles a batch when it is told to, and notes what happens to the offsets."""

    def __init__(self, most: int) -> None:
        self.consumer = Consumer()
        self.begun: dict[int, asyncio.Future[None]] = {}
        self.advanced: list[tuple[dict[TopicPartition, int], int]] = []
        self.rewound: list[dict[TopicPartition, int]] = []
        self.may_advance = asyncio.Event()
        self.may_advance.set()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.batches = Batches(most=most, handle=self._handle, advance=self._advance, rewind=self._rewind)

    async def add(self, *offsets: int) -> None:
        self.consumer.at = max(self.consumer.at, offsets[-1] + 1)
        async with asyncio.timeout(5):
            await self.batches.add(cast("AIOKafkaConsumer", self.consumer), records(*offsets))

    async def idle(self) -> None:
        async with asyncio.timeout(5):
            await self.batches.idle.wait()

    async def _handle(self, given: Sequence[Any]) -> None:
        done = self.begun[given[0].offset] = asyncio.get_running_loop().create_future()
        await done

    async def _advance(self, _: Any, after: Mapping[TopicPartition, int], count: int) -> None:
        await self.may_advance.wait()
        self.advanced.append((dict(after), count))

    async def _rewind(self, _: Any, first: Mapping[TopicPartition, int], __: BaseException) -> None:
        self.rewound.append(dict(first))
        self.consumer.at = first[PARTITION]
        await self.may_go_on.wait()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0)


async def test_one_at_a_time_is_handled_before_the_next_is_taken() -> None:
    service = Service(most=1)
    adding = asyncio.create_task(service.add(0, 1))
    await until(lambda: 0 in service.begun)
    assert not adding.done()
    service.begun[0].set_result(None)
    await adding
    assert service.advanced == [({PARTITION: 2}, 2)]


async def test_offsets_move_up_to_the_first_batch_that_is_not_durable_and_many_at_once() -> None:
    service = Service(most=5)
    for offset in range(4):
        await service.add(offset)
    await until(lambda: len(service.begun) == 4)
    service.begun[1].set_result(None)
    service.begun[3].set_result(None)
    service.may_advance.clear()
    service.begun[0].set_result(None)
    await until(service.begun[0].done)
    service.may_advance.set()
    await until(lambda: service.advanced)
    assert service.advanced == [({PARTITION: 2}, 2)]
    assert not service.batches.idle.is_set()
    service.begun[2].set_result(None)
    await service.idle()
    assert service.advanced[1:] == [({PARTITION: 4}, 2)]


@pytest.mark.parametrize("failure", [RuntimeError("store down"), asyncio.CancelledError()], ids=["error", "cancelled"])
async def test_what_is_behind_a_failure_is_taken_again_with_it(failure: BaseException) -> None:
    service = Service(most=4)
    for offset in (0, 10, 20):
        await service.add(offset, offset + 9)
    await until(lambda: len(service.begun) == 3)
    service.begun[0].set_result(None)
    service.begun[10].set_exception(failure)
    await until(lambda: service.advanced)
    # Not before all have ended: what is behind must not become durable after what is ahead has come again.
    assert not service.rewound
    service.begun[20].set_result(None)
    await service.idle()
    assert service.advanced == [({PARTITION: 10}, 2)]
    assert service.rewound == [{PARTITION: 10}]


async def test_what_was_taken_while_another_failed_is_dropped_because_it_comes_again() -> None:
    service = Service(most=4)
    await service.add(0, 1)
    await until(lambda: 0 in service.begun)
    service.may_go_on.clear()
    service.begun[0].set_exception(RuntimeError("store down"))
    await until(lambda: service.rewound)
    # Taken before the position went back, handed over after it.
    adding = asyncio.create_task(service.batches.add(cast("AIOKafkaConsumer", service.consumer), records(2, 3)))
    await asyncio.sleep(0)
    assert not adding.done()
    service.may_go_on.set()
    await adding
    await service.idle()
    assert list(service.begun) == [0]
    await service.add(0, 1, 2, 3)
    await until(lambda: not service.begun[0].done())
    service.begun[0].set_result(None)
    await service.idle()
    assert service.advanced == [({PARTITION: 4}, 4)]


async def test_offsets_that_can_not_be_committed_are_a_failure() -> None:
    service = Service(most=2)

    async def refused(*_: Any) -> None:
        raise ConnectionError

    service.batches._advance = refused
    await service.add(5)
    await until(lambda: 5 in service.begun)
    service.begun[5].set_result(None)
    await service.idle()
    assert service.rewound == [{PARTITION: 5}]


async def test_there_is_no_room_for_more_than_was_asked_for() -> None:
    service = Service(most=2)
    await service.add(0)
    adding = asyncio.create_task(service.add(1))
    await until(lambda: 1 in service.begun)
    assert not adding.done()
    service.begun[1].set_result(None)
    await asyncio.sleep(0)
    assert not adding.done()
    service.begun[0].set_result(None)
    await adding
    await service.idle()


async def test_what_is_given_up_is_neither_committed_nor_taken_back() -> None:
    service = Service(most=2)
    await service.add(0)
    await until(lambda: 0 in service.begun)
    await service.batches.close()
    assert service.begun[0].cancelled()
    assert service.batches.idle.is_set()
    assert (service.advanced, service.rewound) == ([], [])


async def test_nothing_is_begun_behind_a_failure_that_nobody_has_seen_yet() -> None:
    """Its effects would be there before those of what failed."""
    service = Service(most=4)
    await service.add(0)
    await until(lambda: 0 in service.begun)
    service.begun[0].set_exception(RuntimeError("store down"))
    # Added in the very moment, before the failure has come up.
    service.consumer.at = 20
    adding = asyncio.create_task(service.batches.add(cast("AIOKafkaConsumer", service.consumer), records(10)))
    await service.idle()
    await adding
    assert list(service.begun) == [0]
    assert service.rewound == [{PARTITION: 0}]
    # And it is over with the rewinding.
    await service.add(0)
    await until(lambda: not service.begun[0].done())
    service.begun[0].set_result(None)
    await service.idle()
    assert service.advanced == [({PARTITION: 1}, 1)]


async def test_what_is_taken_again_begins_at_the_first_of_all() -> None:
    """Not at that of the batch that failed: its partition may have been given anew from further back meanwhile."""
    service = Service(most=4)
    await service.add(10)
    await service.add(5)
    await until(lambda: len(service.begun) == 2)
    service.begun[10].set_exception(RuntimeError("store down"))
    service.begun[5].set_result(None)
    await service.idle()
    assert service.rewound == [{PARTITION: 5}]


async def test_records_of_which_the_client_can_not_tell_the_position_are_not_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Service(most=1)
    position, failures = service.consumer.position, [KafkaError(), KafkaError()]

    async def unknown(partition: TopicPartition) -> int:
        if failures:
            raise failures.pop()
        return await position(partition)

    monkeypatch.setattr(service.consumer, "position", unknown)
    monkeypatch.setattr("shared.batches.Backoff.next", lambda _: 0.0)
    adding = asyncio.create_task(service.add(0))
    await until(lambda: 0 in service.begun)
    service.begun[0].set_result(None)
    await adding
    assert service.advanced == [({PARTITION: 1}, 1)]
