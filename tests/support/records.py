"""Reading back what is on a topic."""

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition


async def records_on(
    bootstrap_servers: str, topic: str, *, committed_only: bool = False
) -> list[ConsumerRecord[bytes, bytes]]:
    """All records that the topic holds now, in order of partition and offset.

    Args:
        bootstrap_servers: the broker.
        topic: an existing topic.
        committed_only: leave out records of open and aborted transactions.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed" if committed_only else "read_uncommitted",
    )
    try:
        await consumer.start()
        numbers = await _partitions(consumer, topic)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord[bytes, bytes]] = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(batch)
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client.add_topic(topic)  # there is no public way to ask for one topic
    numbers: set[int] | None = consumer.partitions_for_topic(topic)
    assert numbers, f"no such topic: {topic}"
    return numbers
