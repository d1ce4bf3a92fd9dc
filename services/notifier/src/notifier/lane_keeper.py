"""Keeps the lanes of a process in step with the store, where owners and other replicas change subscriptions."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog
from pymongo.errors import PyMongoError

from notifier.clock import ServerClock
from notifier.delivery_store import DeliveryStore
from notifier.dispatcher import Dispatcher
from notifier.lanes import Lanes
from notifier.replicas import Replicas
from notifier.subscription_store import SubscriptionStore
from shared.backoff import Backoff

log = structlog.get_logger(__name__)

# So long a replica may go on as before after a change that another one was asked for.
LOOK_SECONDS = 1.0
COUNT_SECONDS = 5.0


class LaneKeeper:
    """The loop that looks. What it can't see for a failure of MongoDB it sees later."""

    def __init__(
        self,
        *,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        dispatcher: Dispatcher,
        lanes: Lanes,
        clock: ServerClock,
        replicas: Replicas,
        written: Callable[[], Awaitable[None]],
    ) -> None:
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._dispatcher = dispatcher
        self._lanes = lanes
        self._clock = clock
        self._replicas = replicas
        self._written = written
        self._counted = float("-inf")

    async def run(self) -> None:
        """Look until cancelled."""
        backoff = Backoff()
        while True:
            try:
                await self._look()
                backoff.reset()
            except PyMongoError as error:
                log.warning("lane_keeper.failed", error=type(error).__name__)
                await asyncio.sleep(backoff.next())
                continue
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._dispatcher.followed.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        now = monotonic()
        if now - self._counted > COUNT_SECONDS:
            self._lanes.replicas = await self._replicas.count()
            self._counted = now
        self._lanes.sweep(now)
        if known := self._lanes.known():
            stored = await self._subscriptions.by_ids(known)
            for subscription_id in known:
                self._dispatcher.follow(subscription_id, stored.get(subscription_id))
        self._dispatcher.followed.clear()
        if given_up := self._dispatcher.give_up():
            # Some may be on their way to the store.
            await self._written()
            await self._deliveries.release(given_up, now=self._clock.now())
