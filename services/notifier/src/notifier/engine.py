"""The delivery engine of one process, put together: intake, writer, lanes, dispatcher, recorder, claim loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from pymongo.errors import PyMongoError

from notifier.attempts import Attempts
from notifier.claimer import Claimer
from notifier.clock import ServerClock
from notifier.delivery_store import DeliveryStore
from notifier.dispatcher import Dispatcher
from notifier.endpoints import Endpoints
from notifier.expunging import Expunging
from notifier.lane_keeper import LaneKeeper
from notifier.lanes import Lanes
from notifier.notifications import Notice
from notifier.portal_sessions import PortalSessions
from notifier.progress import Progress
from notifier.recorder import Recorder
from notifier.recovery import Recoveries
from notifier.replicas import Replicas
from notifier.secrets import SecretBox
from notifier.sender import Sender
from notifier.settings import Settings, key_bytes
from notifier.store import EventStore
from notifier.subscribers import Intake
from notifier.subscription_store import SubscriptionStore
from notifier.writer import Writer
from shared.background import background
from shared.topics import PERMISSION_STATUS, Topic

if TYPE_CHECKING:
    from shared.mongo import Database

log = structlog.get_logger(__name__)

# What a stopping process gives attempts under way and then the writing down; its supervisor waits longer.
STOP_SECONDS = 8.0
# What may lie between the clocks of two processes that follow the database's.
CLOCKS_DIFFER = timedelta(seconds=2)


class Engine:
    """Everything between a stored event and a recorded 2xx."""

    def __init__(self, database: "Database", settings: Settings, *, topic: Topic = PERMISSION_STATUS) -> None:
        delivery, retention = settings.delivery, settings.retention
        self.clock = ServerClock(database)
        self.events = EventStore(
            database, clock=self.clock, retention_seconds=retention.events_seconds, topic=topic.name
        )
        self.progress = Progress(self.events)
        self.subscriptions = SubscriptionStore(database)
        self.deliveries = DeliveryStore(
            database, retention_seconds=retention.deliveries_seconds, attempts_kept=retention.attempts
        )
        self.box = SecretBox([key_bytes(key) for key in (delivery.secrets_key, *delivery.previous_secrets_keys)])
        self.sender = Sender(delivery)
        lanes = Lanes(
            limit=delivery.endpoint_concurrency, capacity=delivery.endpoint_queue, lease=delivery.lease_seconds
        )
        self._recorder = Recorder(self.deliveries, self.clock, on_recovery=self._resume)
        self.endpoints = Endpoints(
            self.subscriptions, self.deliveries, self.clock, settings=delivery, announce=self._announce
        )
        self.dispatcher = Dispatcher(
            attempts=Attempts(poster=self.sender, box=self.box, clock=self.clock, settings=delivery),
            recorder=self._recorder,
            endpoints=self.endpoints,
            lanes=lanes,
            clock=self.clock,
            settings=delivery,
        )
        self._writer = Writer(
            events=self.events,
            deliveries=self.deliveries,
            dispatcher=self.dispatcher,
            recorder=self._recorder,
            lanes=lanes,
            clock=self.clock,
            lease_seconds=delivery.lease_seconds,
            matched_seconds=settings.mongo.timeout_ms / 1000,
        )
        self.intake = Intake(events=self.events, subscriptions=self.subscriptions, writer=self._writer)
        self.claimer = Claimer(
            events=self.events,
            subscriptions=self.subscriptions,
            deliveries=self.deliveries,
            dispatcher=self.dispatcher,
            lanes=lanes,
            clock=self.clock,
            settings=settings,
        )

        # As long as an event can wait for being written after it was matched, and as long as that takes.
        late = 2 * timedelta(milliseconds=settings.mongo.timeout_ms) + CLOCKS_DIFFER
        self.recoveries = Recoveries(
            database,
            events=self.events,
            subscriptions=self.subscriptions,
            deliveries=self.deliveries,
            clock=self.clock,
            late=late,
            lease=timedelta(seconds=delivery.lease_seconds),
            made_due=self.claimer.poke,
        )
        self.expunging = Expunging(
            database,
            events=self.events,
            subscriptions=self.subscriptions,
            deliveries=self.deliveries,
            clock=self.clock,
            late=late,
            lease=timedelta(seconds=delivery.lease_seconds),
            retention_seconds=retention.deliveries_seconds,
        )
        self.portal_sessions = PortalSessions(database, self.clock)
        self._replicas = Replicas(database, self.clock)
        self._keeper = LaneKeeper(
            subscriptions=self.subscriptions,
            deliveries=self.deliveries,
            dispatcher=self.dispatcher,
            lanes=lanes,
            clock=self.clock,
            replicas=self._replicas,
            written=self._writer.flushed,
        )

    async def create_indexes(self) -> None:
        """Make all indexes and learn the database's time; idempotent."""
        await self.events.create_indexes()
        await self.subscriptions.create_indexes()
        await self.deliveries.create_indexes()
        await self.recoveries.create_indexes()
        await self.expunging.create_indexes()
        await self._replicas.create_indexes()
        await self.portal_sessions.create_indexes()
        await self.clock.synchronize()

    def loops(self) -> dict[str, Callable[[], Coroutine[None, None, None]]]:
        """What runs for as long as the process does, by name, once the indexes are there."""
        return {
            "claims": self.claimer.run,
            "recoveries": self.recoveries.run,
            "expunges": self.expunging.run,
            "endpoints": self.endpoints.run,
            "lanes": self._keeper.run,
            "progress": self.progress.run,
        }

    async def check(self) -> None:
        """Readiness: raise while attempts can't be claimed or recorded."""
        if self._recorder.failing is not None:
            raise RuntimeError(f"results can't be recorded: {self._recorder.failing}")
        await self.claimer.check()

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send for as long as the body runs; then finish what is under way and give the rest to others."""
        await self.sender.open()
        try:
            async with background(rows=self._writer.run(), results=self._recorder.run()):
                try:
                    yield
                finally:
                    await self._stop()
        finally:
            await self.sender.close()

    def _resume(self) -> None:
        self.dispatcher.pump()

    async def _announce(self, notice: Notice) -> None:
        await self.intake.announce(notice)

    async def _stop(self) -> None:
        claims = await self.dispatcher.stop(grace=STOP_SECONDS)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._replicas.leave()
                await self._writer.flushed()
                await self._recorder.drained()
                await self.deliveries.release(claims, now=self.clock.now())
                await self.progress.flush()
        except (TimeoutError, PyMongoError) as error:
            log.warning("engine.stopped_with_leases", claims=len(claims), error=type(error).__name__)
        else:
            log.info("engine.stopped", released=len(claims))
