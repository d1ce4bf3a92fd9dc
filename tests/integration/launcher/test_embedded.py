"""The real mongod and the real broker that the demonstration and the tests stand on."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from pymongo import AsyncMongoClient

from launcher.kafka import EmbeddedKafka
from launcher.mongo import EmbeddedMongo
from support.topics import Topics, topics_of_a_test


async def test_mongod_takes_transactions(mongo_url: str, mongo_database: str) -> None:
    async with AsyncMongoClient[dict[str, object]](mongo_url) as client:
        notes = client[mongo_database].notes
        async with client.start_session() as session, await session.start_transaction():
            await notes.insert_one({"_id": 1}, session=session)
            await notes.insert_one({"_id": 2}, session=session)
        assert await notes.count_documents({}) == 2


async def test_the_broker_takes_transactional_producers_and_groups(
    kafka_bootstrap: str, topics: Topics, kafka_group: str
) -> None:
    topic = await topics.create()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=kafka_group)
    async with producer, producer.transaction():
        await producer.send_and_wait(topic, b"value", key=b"key")
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka_bootstrap,
        group_id=kafka_group,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    ) as consumer:
        record = await asyncio.wait_for(consumer.getone(), timeout=60)
    assert (record.key, record.value) == (b"key", b"value")


async def test_acknowledged_writes_survive_a_killed_mongod(
    private_mongo: Callable[[], Awaitable[EmbeddedMongo]],
) -> None:
    server = await private_mongo()
    async with AsyncMongoClient[dict[str, object]](server.url) as client:
        await client.test.notes.insert_one({"_id": "acknowledged"})
        await server.kill()
        assert not server.process.running
        await server.restart()
        assert await client.test.notes.find_one({}) == {"_id": "acknowledged"}


async def test_mongod_finds_its_data_on_another_port(private_mongo: Callable[[], Awaitable[EmbeddedMongo]]) -> None:
    server = await private_mongo()
    async with AsyncMongoClient[dict[str, object]](server.url) as client:
        await client.test.notes.insert_one({"_id": 1})
    await server.stop()
    moved = EmbeddedMongo(data_dir=server.data_dir, log_file=server.process.log_file)
    await moved.start()
    try:
        async with AsyncMongoClient[dict[str, object]](moved.url) as client:
            assert await client.test.notes.find_one({}) == {"_id": 1}
    finally:
        await moved.stop()


async def test_records_and_offsets_survive_a_killed_broker(
    private_kafka: Callable[[], Awaitable[EmbeddedKafka]],
) -> None:
    server = await private_kafka()
    async with topics_of_a_test(server.bootstrap_servers) as topics:
        topic = await topics.create(partitions=1)
        await _send(server, topic, b"first", b"second")
        await _commit(server, topic, offset=1)
        await server.kill()
        assert not server.process.running
        await server.restart()
        assert await _next(server, topic) == b"second"


async def test_the_broker_finds_its_data_on_another_port(
    private_kafka: Callable[[], Awaitable[EmbeddedKafka]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # one cluster id in 64 begins with a dash, like an option
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=0xF8 << 120))
        server = await private_kafka()
    async with topics_of_a_test(server.bootstrap_servers) as topics:
        topic = await topics.create(partitions=1)
        topics.keep()
    await _send(server, topic, b"first")
    await server.stop()
    moved = EmbeddedKafka(data_dir=server.data_dir, log_file=server.process.log_file)
    await moved.start()
    try:
        assert await _next(moved, topic) == b"first"
    finally:
        await moved.stop()


async def _send(server: EmbeddedKafka, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=server.bootstrap_servers, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def _commit(server: EmbeddedKafka, topic: str, *, offset: int) -> None:
    async with AIOKafkaConsumer(
        bootstrap_servers=server.bootstrap_servers, group_id="readers", enable_auto_commit=False
    ) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): offset})


async def _next(server: EmbeddedKafka, topic: str) -> bytes | None:
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=server.bootstrap_servers,
        group_id="readers",
        auto_offset_reset="earliest",
        metadata_max_age_ms=1_000,  # right after its start a broker may not know its topics yet
    ) as consumer:
        record = await asyncio.wait_for(consumer.getone(), timeout=60)
    value: bytes | None = record.value
    return value
