"""Writing to Kafka: what was given up is not written later, when the broker can take it again."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NotEnoughReplicasError
from aiokafka.protocol.produce import ProduceRequest

from shared import kafka
from shared.kafka import Publisher, PublishFailed, Record, client_options
from shared.settings import KafkaSettings
from support.eventually import eventually
from support.records import records_on
from support.topics import Topics


@pytest.fixture
async def publisher(kafka_settings: KafkaSettings) -> AsyncIterator[Publisher]:
    publisher = Publisher(kafka_settings, client_id="test")
    yield publisher
    await publisher.close()


def records(topic: str, *values: bytes) -> Sequence[Record]:
    return [Record(topic=topic, key=b"k", value=value) for value in values]


def senders() -> list[str]:
    """The producers that are at work in this process."""
    return [task.get_name() for task in asyncio.all_tasks() if "_sender_routine" in repr(task.get_coro())]


class Shortage:
    """The broker is short of in-sync replicas: as long as it lasts, every write is refused with a retriable error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lasts = True
        self._send = AIOKafkaClient.send
        shortage = self

        async def send(client: AIOKafkaClient, node_id: int, request: object, **options: object) -> object:
            if shortage.lasts and isinstance(request, ProduceRequest):
                raise NotEnoughReplicasError
            return await shortage._send(client, node_id, request, **options)

        monkeypatch.setattr(AIOKafkaClient, "send", send)


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Shortage:
    return Shortage(monkeypatch)


async def test_a_producer_that_was_given_up_writes_nothing_when_the_broker_recovers(
    publisher: Publisher, kafka_settings: KafkaSettings, topics: Topics, shortage: Shortage
) -> None:
    """An idempotent producer never lets go of a batch, and flushes before it stops."""
    topic = await topics.create(partitions=1)
    for attempt in range(2):
        with pytest.raises(PublishFailed):
            await publisher.publish(records(topic, f"old {attempt}".encode()), timeout=0.5)
        assert senders() == []
    shortage.lasts = False
    await publisher.publish(records(topic, b"new"))
    assert len(senders()) == 1
    values = [record.value for record in await records_on(kafka_settings.bootstrap_servers, topic)]
    assert set(values) == {b"new"}


async def test_closing_does_not_wait_for_ever_and_leaves_nothing_behind(
    kafka_settings: KafkaSettings, topics: Topics, shortage: Shortage, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = await topics.create(partitions=1)
    producer = AIOKafkaProducer(**client_options(kafka_settings), acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send(topic, value=b"stuck")
    monkeypatch.setattr(kafka, "STOP_TIMEOUT_SECONDS", 0.5)
    await kafka.stop(producer)
    await eventually(lambda: asyncio.sleep(0, senders()), lambda left: not left)


async def test_closing_sends_what_is_still_to_be_sent(kafka_settings: KafkaSettings, topics: Topics) -> None:
    topic = await topics.create(partitions=1)
    producer = AIOKafkaProducer(**client_options(kafka_settings), acks="all", linger_ms=1000)
    await producer.start()
    await producer.send(topic, value=b"last")
    await kafka.stop(producer)
    assert [record.value for record in await records_on(kafka_settings.bootstrap_servers, topic)] == [b"last"]
