"""From Kafka to deliveries: a batch is durable here, as events and deliveries, before its offset is committed."""

import asyncio
from collections import Counter as CountOf
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from prometheus_client import Counter

from notifier.clock import ServerClock
from notifier.deliveries import delivery_id
from notifier.delivery_store import DeliveryStore, NewDelivery
from notifier.dispatcher import Dispatcher
from notifier.lanes import Job, Lanes
from notifier.notifications import Notice, notice_of
from notifier.store import EventStore, Place
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Subscription, recipients
from shared.consumer import DeadLetter
from shared.events import BadRecord, UnknownType, decode

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

log = structlog.get_logger(__name__)

UNKNOWN_TYPES = Counter("notifier_unknown_event_types_total", "Records of types that this version doesn't know.")
DELIVERIES = Counter("notifier_deliveries_total", "Deliveries made.", ["type"])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Planned:
    notice: Notice
    subscription: Subscription
    held: bool


class Intake:
    """Makes the deliveries of notices: rows first, then, where there is room, straight on to the dispatcher."""

    def __init__(
        self,
        *,
        events: EventStore,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        dispatcher: Dispatcher,
        lanes: Lanes,
        clock: ServerClock,
        lease_seconds: float,
    ) -> None:
        self._events = events
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._dispatcher = dispatcher
        self._lanes = lanes
        self._clock = clock
        self._lease = lease_seconds

    async def on_status_events(self, records: "Sequence[ConsumerRecord[bytes, bytes]]") -> list[DeadLetter]:
        """The handler of the status topic; idempotent, because every row's id follows from the record.

        Raises:
            PyMongoError: not everything is durable; the same records are to come again.
        """
        notices: list[tuple[Notice, Place | None]] = []
        dead: list[DeadLetter] = []
        for record in records:
            try:
                notice = notice_of(decode(record.headers, record.value))
            except UnknownType:
                UNKNOWN_TYPES.inc()
                continue
            except BadRecord as error:
                dead.append(DeadLetter(record=record, reason=str(error)))
                continue
            if notice is not None:
                notices.append((notice, Place(partition=record.partition, offset=record.offset)))
        await self.deliver(notices)
        return dead

    async def announce(self, notices: list[Notice]) -> None:
        """Deliver notices of our own making to those who want them."""
        await self.deliver([(notice, None) for notice in notices])

    async def deliver(self, notices: Sequence[tuple[Notice, Place | None]]) -> None:
        """Make the notices durable together with their deliveries to all who want them.

        Raises:
            PyMongoError: perhaps not all of it is durable; to be called again.
        """
        if not notices:
            return
        told = [notice for notice, _ in notices]
        wanted = recipients(told, await self._subscriptions.matching(told))
        await self._store(notices, wanted)

    async def deliver_to(self, notice: Notice, subscription: Subscription) -> str:
        """Deliver a notice to this one subscription, whatever it subscribed to; the delivery's id."""
        await self._store([(notice, None)], [(notice, subscription)])
        return delivery_id(notice.id, subscription.id)

    async def _store(
        self, notices: Sequence[tuple[Notice, Place | None]], wanted: Sequence[tuple[Notice, Subscription]]
    ) -> None:
        claim, now, lease_until = uuid4().hex, self._clock.now(), monotonic() + self._lease
        planned = [_Planned(notice=n, subscription=s, held=self._lanes.reserve(s)) for n, s in wanted]
        leased = now + timedelta(seconds=self._lease)
        rows = [
            NewDelivery(
                id=delivery_id(plan.notice.id, plan.subscription.id),
                event_id=plan.notice.id,
                type=plan.notice.type,
                subscription_id=plan.subscription.id,
                claim=claim if plan.held else None,
                next_at=leased if plan.held else now,
            )
            for plan in planned
        ]
        try:
            _, there = await asyncio.gather(self._events.add(notices), self._deliveries.insert(rows, now=now))
        finally:
            for plan in planned:
                if plan.held:
                    self._lanes.unreserve(plan.subscription.id)
        self._dispatcher.accept(
            (
                plan.subscription,
                Job(
                    delivery_id=row.id,
                    notice=plan.notice,
                    claim=claim,
                    tries=0,
                    started_at=now,
                    lease_until=lease_until,
                ),
            )
            for index, (plan, row) in enumerate(zip(planned, rows, strict=True))
            if plan.held and index not in there
        )
        for kind, count in CountOf(row.type for row in rows).items():
            DELIVERIES.labels(kind).inc(count)
        if not all(plan.held for plan in planned):
            self._dispatcher.room.set()
