"""From Kafka to deliveries: a batch is durable here, as events and deliveries, before its offset is committed."""

import asyncio
from collections import Counter as CountOf
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from prometheus_client import Counter

from notifier.clock import ServerClock
from notifier.deliveries import delivery_id
from notifier.delivery_documents import NewDelivery
from notifier.delivery_store import DeliveryStore
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A notice, where it lay on Kafka and when it was written there; neither for one of our own making."""

    notice: Notice
    place: Place | None = None
    written_at: datetime | None = None


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
        told: list[Told] = []
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
            except Exception as error:  # noqa: BLE001 - whatever nobody thought of must not come again for ever
                dead.append(DeadLetter(record=record, reason=f"unreadable: {type(error).__name__}"))
                continue
            if notice is not None:
                place = Place(partition=record.partition, offset=record.offset)
                told.append(Told(notice=notice, place=place, written_at=_written_at(record)))
        await self.deliver(told)
        return dead

    async def announce(self, notice: Notice) -> None:
        """Deliver a notice of our own making to those who want it, and to their streams.

        Raises:
            PyMongoError: perhaps not all of it is durable; to be called again.
        """
        # The event first: of a row without its event nobody can say any more what it was to tell.
        await self._events.add_own(notice)
        await self._store([], self._wanted([Told(notice=notice)], await self._subscriptions.matching([notice])))

    async def deliver_to(self, notice: Notice, subscription: Subscription) -> str:
        """Deliver a notice to this one subscription, whatever it subscribed to; the delivery's id."""
        await self._events.add([(notice, None)])
        await self._store([], [(notice, subscription)])
        return delivery_id(notice.id, subscription.id)

    async def deliver(self, told: Sequence[Told]) -> None:
        """Make the notices durable together with their deliveries to all who want them.

        Raises:
            PyMongoError: perhaps not all of it is durable; to be called again.
        """
        if not told:
            return
        wanted = self._wanted(told, await self._subscriptions.matching([each.notice for each in told]))
        await self._store([(each.notice, each.place) for each in told], wanted)

    @staticmethod
    def _wanted(told: Sequence[Told], subscriptions: Sequence[Subscription]) -> list[tuple[Notice, Subscription]]:
        written = {each.notice.id: each.written_at for each in told}
        return [
            (notice, subscription)
            for notice, subscription in recipients([each.notice for each in told], subscriptions)
            if (at := written[notice.id]) is None or subscription.hears(at)
        ]

    async def _store(
        self, notices: Sequence[tuple[Notice, Place | None]], wanted: Sequence[tuple[Notice, Subscription]]
    ) -> None:
        claim, now, clock = uuid4().hex, self._clock.now(), monotonic()
        lease_until = clock + self._lease
        planned = [_Planned(notice=n, subscription=s, held=self._lanes.reserve(s, clock)) for n, s in wanted]
        leased = now + timedelta(seconds=self._lease)
        rows = [
            NewDelivery(
                id=delivery_id(plan.notice.id, plan.subscription.id),
                event_id=plan.notice.id,
                event_at=now,
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


def _written_at(record: "ConsumerRecord[bytes, bytes]") -> datetime | None:
    """When the record came to Kafka: what is told late, after an outage, is news; what is read once more is not."""
    return datetime.fromtimestamp(record.timestamp / 1000, tz=UTC) if record.timestamp > 0 else None
