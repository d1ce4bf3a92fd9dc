"""Brings due deliveries from the store to this process: retries, what didn't fit in memory, what a dead process left.

There is no polling interval on the way: the loop sleeps until the earliest row is due, and is woken when a row becomes
due in this process or a lane has room. The longest sleep only bounds how late another process's row is seen.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from datetime import datetime, timedelta
from time import monotonic
from uuid import uuid4

import structlog
from prometheus_client import Gauge
from pymongo.errors import PyMongoError

from notifier.clock import ServerClock
from notifier.deliveries import DeadReason
from notifier.delivery_documents import Claimed
from notifier.delivery_store import DeliveryStore
from notifier.dispatcher import Dispatcher
from notifier.lanes import Job, Lanes
from notifier.notifications import Notice
from notifier.settings import RECORDING_SECONDS, Settings
from notifier.store import EventStore
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Subscription
from shared.backoff import Backoff

log = structlog.get_logger(__name__)

OVERDUE = Gauge("notifier_oldest_due_seconds", "How long the oldest due delivery has been waiting.")

MAX_SLEEP_SECONDS = 2.0
# More than that in one round would make one endpoint's backlog wait for another's.
ROUND = 200
CLOCK_SECONDS = 30.0
# Of a subscription that was read as disabled, what is newer may have been begun by its owner's enabling it again.
RETIRED_MARGIN = timedelta(seconds=1)
# A round that is under way at the end is finished: what it has claimed can then be given up.
FINISH_SECONDS = 5.0
# A delivery can be stored a moment before its event, never after the batch that holds both was accepted.
EVENT_MISSING_SECONDS = 5.0


class Claimer:
    """The claim loop of one process."""

    def __init__(
        self,
        *,
        events: EventStore,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        dispatcher: Dispatcher,
        lanes: Lanes,
        clock: ServerClock,
        settings: Settings,
    ) -> None:
        self._events = events
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._dispatcher = dispatcher
        self._lanes = lanes
        self._clock = clock
        self._lease = settings.delivery.lease_seconds
        self._retention = timedelta(seconds=settings.retention.events_seconds)
        # As long as an attempt takes at most, and until its result is written: then somebody else tries.
        self._trial = timedelta(seconds=settings.delivery.total_timeout_seconds + RECORDING_SECONDS)
        self._wake = dispatcher.room
        self._synchronized = float("-inf")
        self._failing: str | None = "not started"

    def poke(self) -> None:
        """A row became due in this process."""
        self._wake.set()

    async def check(self) -> None:
        """Readiness: raise while deliveries can't be claimed."""
        if self._failing is not None:
            raise RuntimeError(self._failing)

    async def run(self) -> None:
        """Claim until cancelled; failures of MongoDB are tried again for ever."""
        backoff = Backoff()
        while True:
            self._wake.clear()
            try:
                await self._synchronize()
                sleep = await _finished(self._round())
                self._failing = None
                backoff.reset()
            except PyMongoError as error:
                self._failing = type(error).__name__
                sleep = backoff.next()
                log.warning("claimer.failed", error=self._failing, retry_in_seconds=round(sleep, 2))
                await asyncio.sleep(sleep)
                continue
            if sleep > 0:
                await self._sleep(sleep)

    async def _synchronize(self) -> None:
        if monotonic() - self._synchronized > CLOCK_SECONDS:
            await self._clock.synchronize()
            self._synchronized = monotonic()

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _round(self) -> float:
        """Claim what is due and has room; how long nothing more can be done unless something happens."""
        due = await self._deliveries.due()
        now, clock, blocked = self._clock.now(), monotonic(), self._lanes.blocked(monotonic())
        ready = {key: at for key, at in due.items() if at <= now and key not in blocked}
        # What rests on purpose is not overdue.
        OVERDUE.set(max(0.0, (now - min(ready.values(), default=now)).total_seconds()))
        rooms = {key: min(ROUND, room) for key in ready if (room := self._lanes.room(key)) >= 1}
        self._lanes.starving = ready.keys() - rooms.keys()
        if rooms and await self._claim(rooms, now, clock):
            return 0.0
        blocked = self._lanes.blocked(monotonic())
        upcoming = [(at - now).total_seconds() for key, at in due.items() if at > now and key not in blocked]
        upcoming += [until - monotonic() for key, until in blocked.items() if key in due]
        return max(0.001, min([*upcoming, MAX_SLEEP_SECONDS]))

    async def _claim(self, rooms: Mapping[str, int], now: datetime, clock: float) -> bool:
        """Claim, sort out what can't be sent any more, and hand the rest over; whether more was due.

        ``clock`` is the monotonic clock at ``now``: here and in the store, the lease ends at one moment.
        """
        subscriptions = await self._subscriptions.by_ids(rooms)
        open_rooms = {key: await self._open(key, subscriptions.get(key), room, now) for key, room in rooms.items()}
        claim = uuid4().hex
        rows, more = await self._deliveries.claim(
            {key: room for key, room in open_rooms.items() if room},
            claim=claim,
            now=now,
            until=now + timedelta(seconds=self._lease),
        )
        await self._hand_over(rows, subscriptions, claim=claim, lease_until=clock + self._lease)
        return more

    async def _open(self, key: str, subscription: Subscription | None, room: int, now: datetime) -> int:
        """How many deliveries of a subscription may be claimed; those of one that is gone are ended."""
        if subscription is None or not subscription.enabled:
            reason: DeadReason = "subscription_deleted" if subscription is None else "subscription_disabled"
            before = now - RETIRED_MARGIN
            ended = await self._deliveries.end_all(key, reason=reason, before=before, now=now)
            log.info("claimer.retired", subscription_id=key, reason=reason, deliveries_ended=ended)
            return 0
        rests = subscription.rests_until()
        if subscription.paused or (rests is not None and rests > now):
            self._dispatcher.follow(key, subscription)
            return 0
        if not subscription.trips:
            return room
        # One attempt shows whether the endpoint works again. Where another replica makes it, the store says so next.
        if await self._subscriptions.begin_trial(subscription, now=now, until=now + self._trial):
            self._dispatcher.follow(key, subscription)
            return 1
        stored = (await self._subscriptions.by_ids([key])).get(key)
        self._dispatcher.follow(key, stored)
        return 0

    async def _hand_over(
        self,
        rows: list[Claimed],
        subscriptions: Mapping[str, Subscription],
        *,
        claim: str,
        lease_until: float,
    ) -> None:
        notices = await self._events.notices({row.event_id for row in rows}) if rows else {}
        readable = {row.id: self._readable(row, subscriptions, notices) for row in rows}
        found = [row for row in rows if readable[row.id]]
        self._dispatcher.accept(
            (
                subscriptions[row.subscription_id],
                Job(
                    delivery_id=row.id,
                    notice=notices[row.event_id],
                    claim=claim,
                    tries=row.tries,
                    started_at=row.started_at,
                    lease_until=lease_until,
                ),
            )
            for row in found
        )
        if len(found) < len(rows):
            await self._without_event([row for row in rows if row.event_id not in notices], claim)
            erased = [row.id for row in rows if row.event_id in notices and not readable[row.id]]
            await self._deliveries.end(erased, claim=claim, reason="payload_expunged", now=self._clock.now())

    @staticmethod
    def _readable(row: Claimed, subscriptions: Mapping[str, Subscription], notices: Mapping[str, Notice]) -> bool:
        """Whether the event is there, and its owner hasn't erased it between its delivery's revival and this moment."""
        notice = notices.get(row.event_id)
        return notice is not None and notice.concerns(subscriptions[row.subscription_id].owner.app_id)

    async def _without_event(self, rows: list[Claimed], claim: str) -> None:
        now = self._clock.now()
        expired = [row.id for row in rows if now - row.event_at > self._retention]
        early = {row.id: claim for row in rows if now - row.event_at <= self._retention}
        if expired:
            await self._deliveries.end(expired, claim=claim, reason="payload_expired", now=now)
        await self._deliveries.release(early, now=now + timedelta(seconds=EVENT_MISSING_SECONDS))


async def _finished(work: Coroutine[None, None, float]) -> float:
    """The result of the work, which goes on for a while when whoever waits for it is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(TimeoutError, PyMongoError):
            async with asyncio.timeout(FINISH_SECONDS):
                await task
        raise
