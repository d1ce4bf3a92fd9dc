"""Brings whole tenant documents to the compacted topic.

The last record of a key must never be older than one before it, even where a process was paused and wakes up late. So
one publisher is active at a time (a lease), and the broker itself shuts out a former one: all use the same
``transactional.id``, and whoever takes the lease initialises its producer *before* it reads a document. From then on
nothing of an earlier producer can become visible (KIP-98), and what is read is at least as new as all that was
published. Readers must use ``isolation.level=read_committed``.

A record may be repeated: after a crash between the commit and the clearing of the mark, or by a new leader. A state
that was overtaken while it waited is never published; the newest one is.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic, perf_counter
from typing import Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced, RecordTooLargeError
from prometheus_client import Counter
from pymongo.errors import PyMongoError

from shared.backoff import Backoff
from shared.events import REGISTRY, new_event
from shared.kafka import Record, client_options, discard, record_of
from shared.lease import Lease
from shared.settings import KafkaSettings
from shared.topics import TENANTS, Topic
from tenant_registry.store import PendingState

log = structlog.get_logger(__name__)

PUBLISHED = Counter("registry_states_published_total", "Tenant documents written to the compacted topic.")
FENCED = Counter("registry_state_publishers_fenced_total", "Publishers that found out that another one took over.")
REFUSED = Counter("registry_states_refused_total", "Tenant documents that can't be on the compacted topic.")

BATCH = 500
LOOK_AGAIN_SECONDS = 1.0
COMMIT_SECONDS = 20.0
# Above all that a document can become, so that the topic's own limit (`max.message.bytes`) is the only one.
MAX_REQUEST_BYTES = 32 * 1024 * 1024
# Who is shut out again and again shares its transactional.id with a publisher that has another lease.
FENCED_FIRST_SECONDS = 0.5
FENCED_MOST_SECONDS = 60.0
# Documents that change again and again are best published rarely: under load, at most this share of the time is spent
# here, and what changed meanwhile goes out once.
SHARE_OF_TIME = 0.05


class States(Protocol):
    """Where states that wait come from; see ``store.Store``."""

    async def pending_states(self, limit: int) -> list[PendingState]:
        """Documents that changed since their state was published."""
        ...

    async def states_published(self, published: Sequence[PendingState]) -> None:
        """These states are on Kafka."""
        ...

    async def state_refused(self, item: PendingState) -> None:
        """This state can never be on Kafka."""
        ...


class StatePublisher:
    """Publishes pending states while it holds the deployment's lease; every replica runs one."""

    def __init__(
        self,
        states: States,
        settings: KafkaSettings,
        *,
        lease: Lease,
        lease_seconds: float,
        transactional_id: str,
        topic: Topic = TENANTS,
    ) -> None:
        self._states = states
        self._settings = settings
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._transactional_id = transactional_id
        self._topic = topic
        self._wake = asyncio.Event()
        self._failing: str | None = None
        # How many states are still to be published one by one, to find the one that the broker refuses.
        self._singly = 0

    def poke(self) -> None:
        """A document changed in this process: don't wait for the timer."""
        self._wake.set()

    async def check(self) -> None:
        """Readiness: raise while states can't be brought to Kafka."""
        if self._failing is not None:
            raise RuntimeError(self._failing)

    async def run(self) -> None:
        """Publish until cancelled; every failure is tried again with capped backoff, from what is still marked."""
        backoff, fenced = Backoff(), Backoff(first=FENCED_FIRST_SECONDS, cap=FENCED_MOST_SECONDS)
        while True:
            begun = monotonic()
            try:
                token = await self._lease.acquire()
                if token is None:
                    self._failing = None
                    fenced.reset()
                    await asyncio.sleep(self._lease_seconds / 4)
                else:
                    await self._lead(token, backoff)
            except ProducerFenced:
                FENCED.inc()
                if monotonic() - begun > FENCED_MOST_SECONDS:
                    fenced.reset()
                self._failing = "shut out by another publisher: does another deployment use STATE__TRANSACTIONAL_ID?"
                delay = fenced.next()
                log.warning("state.fenced", retry_in_seconds=round(delay, 2))
                await asyncio.sleep(delay)
            except (MessageSizeTooLargeError, RecordTooLargeError):
                log.info("state.too_large", singly=self._singly)  # on with a new producer, at once
            except (PyMongoError, KafkaError, TimeoutError, OSError) as error:
                self._failing = f"{type(error).__name__}: {error}"[:300]
                delay = backoff.next()
                log.warning("state.failed", error=self._failing, retry_in_seconds=round(delay, 2))
                await asyncio.sleep(delay)

    def producer(self) -> AIOKafkaProducer:
        """A producer that, once started, shuts out all that were started before."""
        return AIOKafkaProducer(
            **client_options(self._settings),
            client_id="tenant-registry-state",
            transactional_id=self._transactional_id,
            transaction_timeout_ms=30_000,
            request_timeout_ms=10_000,
            max_request_size=MAX_REQUEST_BYTES,
        )

    async def _lead(self, token: int, backoff: Backoff) -> None:
        producer = self.producer()
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await producer.start()  # initialises transactions: from here on every earlier producer is shut out
            log.info("state.leading", lease=token)
            # The lease is renewed by a write of a majority before every read, so an old primary can't answer it.
            while await self._lease.renew(token):
                self._wake.clear()
                started = perf_counter()
                pending = await self._states.pending_states(1 if self._singly else BATCH)
                if pending:
                    await self._publish(producer, pending)
                self._singly = max(0, self._singly - 1) if pending else 0
                self._failing = None
                backoff.reset()
                if not self._singly:
                    await self._rest(perf_counter() - started, idle=not pending)
        finally:
            # Shielded: a process that stops hands over at once.
            await asyncio.shield(self._step_down(producer, token))

    async def _publish(self, producer: AIOKafkaProducer, pending: Sequence[PendingState]) -> None:
        for item in pending:
            if item.defect is not None:
                await self._refuse(item, item.defect)
        readable = [item for item in pending if item.defect is None]
        if not readable:
            return
        try:
            await self._commit(producer, readable)
        except (MessageSizeTooLargeError, RecordTooLargeError):
            # The broker doesn't say which one, and the transaction can't be committed any more.
            self._singly = len(readable) if len(readable) > 1 else max(0, self._singly - 1)
            if len(readable) == 1:
                await self._refuse(readable[0], "too large for the topic")
            raise
        await self._states.states_published(readable)
        PUBLISHED.inc(len(readable))

    async def _refuse(self, item: PendingState, reason: str) -> None:
        await self._states.state_refused(item)
        REFUSED.inc()
        log.error("state.refused", key=item.key, reason=reason)

    async def _commit(self, producer: AIOKafkaProducer, pending: Sequence[PendingState]) -> None:
        """Write states in one transaction.

        There is no abort: after any failure the producer is thrown away, and the next one's start aborts for it.

        Raises:
            MessageSizeTooLargeError, RecordTooLargeError: one of them is larger than the topic takes.
        """
        async with asyncio.timeout(COMMIT_SECONDS):
            await producer.begin_transaction()
            acks = []
            for item in pending:
                record = self.record(item)
                acks.append(
                    await producer.send(record.topic, key=record.key, value=record.value, headers=list(record.headers))
                )
            await asyncio.gather(*acks)
            await producer.commit_transaction()

    def record(self, item: PendingState) -> Record:
        """The record of a state: a whole tenant, or the tombstone of a removed one."""
        if item.state is None:
            return Record(topic=self._topic.name, key=item.key.encode(), value=None)
        return record_of(self._topic, new_event(REGISTRY, item.state))

    async def _rest(self, busy_seconds: float, *, idle: bool) -> None:
        if not idle:
            await asyncio.sleep(min(LOOK_AGAIN_SECONDS, busy_seconds * (1 / SHARE_OF_TIME - 1)))
            return
        # The poke is a hint; the marks are the source, looked at every second anyway.
        try:
            async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _step_down(self, producer: AIOKafkaProducer, token: int) -> None:
        await discard(producer)  # what was sent is committed, or is not to be
        try:
            await self._lease.release(token)
        except PyMongoError as error:
            log.warning("state.release_failed", error=type(error).__name__)
