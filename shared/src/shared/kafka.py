"""Writing to Kafka: records in order, acknowledged by all in-sync replicas, never waited for without a bound."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordTooLargeError
from aiokafka.partitioner import murmur2

from shared.events import Event, encode
from shared.settings import KafkaSettings
from shared.topics import Topic

log = structlog.get_logger(__name__)

# An idempotent aiokafka producer never expires a batch (aiokafka#1101): every wait on it needs a bound of its own.
ACK_TIMEOUT_SECONDS = 20.0
STOP_TIMEOUT_SECONDS = 5.0


class PublishFailed(Exception):
    """Kafka did not acknowledge in time or refused; the records may or may not be written. Publish again."""


class RecordRefused(Exception):
    """Kafka will never take this record (it is too large)."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record to be written."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def record_of(topic: Topic, event: Event) -> Record:
    """The record of an event on its topic."""
    key, value, headers = encode(event)
    return Record(topic=topic.name, key=key, value=value, headers=headers)


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Connection options of an aiokafka client."""
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else None
    context = settings.ssl_context()
    if context is not None:
        options["ssl_context"] = context
    return options


class Publisher:
    """An idempotent producer that is started on first use and made anew after any failure.

    One task at a time may publish; others wait. After a failure the producer's sequence numbers can't be trusted
    (aiokafka#1017), so it is thrown away, and with it every record not yet sent.
    """

    def __init__(self, settings: KafkaSettings, *, client_id: str, linger_ms: int = 0) -> None:
        self._settings = settings
        self._client_id = client_id
        self._linger_ms = linger_ms
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self.failing: str | None = None

    async def publish(self, records: Sequence[Record], *, timeout: float = ACK_TIMEOUT_SECONDS) -> None:
        """Write the records, in their order per key, and return when all in-sync replicas have all of them.

        Raises:
            PublishFailed: not all were acknowledged; any of them may have been written.
            RecordRefused: one of the records can never be written; those before it may have been.
        """
        if not records:
            return
        async with self._lock:
            try:
                async with asyncio.timeout(timeout):
                    producer = await self._started()
                    acks = [
                        await producer.send(r.topic, key=r.key, value=r.value, headers=list(r.headers)) for r in records
                    ]
                    await asyncio.gather(*acks)
            except (MessageSizeTooLargeError, RecordTooLargeError) as error:
                await self._discard()
                raise RecordRefused(str(error)) from error
            except (KafkaError, TimeoutError, OSError) as error:
                self.failing = type(error).__name__
                await self._discard()
                raise PublishFailed(f"{type(error).__name__}: {error}") from error
            except asyncio.CancelledError:
                await self._discard()
                raise
            self.failing = None

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **client_options(self._settings),
                client_id=self._client_id,
                acks="all",
                enable_idempotence=True,
                linger_ms=self._linger_ms,
                # Below what a topic takes (1 MB), far above aiokafka's 16 KB, after which `send` waits for the broker.
                max_batch_size=256 * 1024,
                partitioner=_partition,
                request_timeout_ms=10_000,
            )
            try:
                await producer.start()
            except BaseException:
                await discard(producer)
                raise
            self._producer = producer
        return self._producer

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await discard(producer)

    async def close(self) -> None:
        """Stop the producer; nothing is in flight unless a publish is."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)


@lru_cache(maxsize=65_536)
def _hash(key: bytes) -> int:
    """Java's murmur2, as every client of the topics uses it; in Python it costs as much as encoding the event."""
    value: int = murmur2(key)
    return value & 0x7FFFFFFF


def _partition(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    """The default partitioner of Kafka's Java client, remembering the keys that come again and again."""
    if key is None:
        return random.choice(available or partitions)  # noqa: S311 - spreads load, guards nothing
    return partitions[_hash(key) % len(partitions)]


async def stop(producer: AIOKafkaProducer) -> None:
    """Send what is still to be sent and end the producer; what can't be sent in time is dropped."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            await producer.stop()
    except (KafkaError, TimeoutError, OSError) as error:
        log.warning("kafka.producer_stop_failed", error=type(error).__name__)
        await discard(producer)


async def discard(producer: AIOKafkaProducer) -> None:
    """End a producer that failed, with all that it has not sent.

    Its own ``stop`` flushes first. Where the broker can't take records that never ends, and a producer whose flush was
    given up goes on in the background, to write its old records when the broker recovers: an idempotent one never lets
    go of a batch (aiokafka#1101).
    """
    producer._closed = True  # noqa: SLF001 - there is no public way to end it without the flush
    sender = producer._sender  # noqa: SLF001
    task: asyncio.Task[None] | None = sender.sender_task if sender is not None else None
    if task is not None:
        task.cancel()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
            await producer.client.close()
    except (KafkaError, TimeoutError, OSError) as error:
        log.warning("kafka.producer_discard_failed", error=type(error).__name__)
    finally:
        # Cancelled once, the sender still waits for its requests in flight, one of which may wait for metadata that
        # nobody asks for any more.
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
