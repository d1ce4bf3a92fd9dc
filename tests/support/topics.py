"""Topics that belong to one test."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from support.eventually import eventually


class Topics:
    """Makes topics with names of their own, and removes them when the test is over."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin
        self._made: list[str] = []

    async def create(
        self,
        prefix: str = "test",
        *,
        name: str | None = None,
        partitions: int = 3,
        cleanup_policy: str = "delete",
        **config: str,
    ) -> str:
        """Create a topic and return its name, once its partitions can be written.

        Args:
            prefix: how the name begins.
            name: the whole name, where it must be this one.
            partitions: how many.
            cleanup_policy: ``delete`` or ``compact``.
            config: further settings of the topic; ``segment_ms`` stands for ``segment.ms``.
        """
        name = name or f"{prefix}.{secrets.token_hex(4)}"
        settings = {"cleanup.policy": cleanup_policy} | {key.replace("_", "."): value for key, value in config.items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=settings)
        answer = await self._admin.create_topics([topic])
        for _, code, *_ in answer.topic_errors:
            if code:
                raise for_code(code)(name)
        self._made.append(name)
        await eventually(lambda: self._has_leaders(name, partitions), what=f"a leader for each partition of {name}")
        return name

    async def _has_leaders(self, name: str, partitions: int) -> bool:
        (description,) = await self._admin.describe_topics([name])
        led = [partition for partition in description["partitions"] if partition["leader"] >= 0]
        return len(led) == partitions

    def keep(self) -> None:
        """Leave the topics made so far where they are."""
        self._made.clear()

    async def remove(self) -> None:
        """Remove all topics that were made here."""
        if self._made:
            await self._admin.delete_topics(self._made)


@asynccontextmanager
async def topics_of_a_test(bootstrap_servers: str) -> AsyncIterator[Topics]:
    """A `Topics` for as long as the context lasts."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    topics = Topics(admin)
    try:
        yield topics
    finally:
        with contextlib.suppress(Exception):  # a test that ends the broker has no topics to remove
            async with asyncio.timeout(5):
                await topics.remove()
        await admin.close()
