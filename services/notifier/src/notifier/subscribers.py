"""From Kafka to deliveries: a batch is durable here, as events and deliveries, before its offset is committed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import Counter
from pymongo.errors import PyMongoError

from notifier.deliveries import delivery_id
from notifier.notifications import Notice, notice_of
from notifier.store import EventStore, Place
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Subscription, recipients
from notifier.writer import Writer
from shared.consumer import DeadLetter
from shared.events import BadRecord, UnknownType, decode

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

UNKNOWN_TYPES = Counter("notifier_unknown_event_types_total", "Records of types that this version doesn't know.")

# Of events that could not be written and never came again, because another process reads their partition now.
MOST_REMEMBERED = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """A notice, where it lay on Kafka and when it was written there; neither for one of our own making."""

    notice: Notice
    place: Place | None = None
    written_at: datetime | None = None


@dataclass(kw_only=True, eq=False, slots=True)
class _Call:
    """Notices that are to be delivered; ``failures`` is how many there had been when they came."""

    told: Sequence[Told]
    failures: int
    begun: asyncio.Future[asyncio.Future[None]]


class Overtaking(PyMongoError):
    """What came before could not be stored, and has to be visible first."""


class Intake:
    """Makes the deliveries of notices: matches them with subscriptions, and has them written and sent."""

    def __init__(self, *, events: EventStore, subscriptions: SubscriptionStore, writer: Writer) -> None:
        self._events = events
        self._subscriptions = subscriptions
        self._writer = writer
        # All that are under way, and those of them that nobody looks up yet.
        self._calls: set[_Call] = set()
        self._arrived: list[_Call] = []
        self._matching: asyncio.Task[None] | None = None
        self._unmatched = 0
        # Events that may have been sent from here and are not known to be stored.
        self._under_way: dict[str, None] = {}

    async def on_status_events(self, records: "Sequence[ConsumerRecord[bytes, bytes]]") -> list[DeadLetter]:
        """The handler of the status topic; idempotent, because every row's id follows from the record.

        Several calls may be under way: their events become visible in the order of the calls.

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
        wanted = _wanted([Told(notice=notice)], await self._subscriptions.matching([notice]))
        await asyncio.shield(self._writer.put([], wanted))

    async def deliver_to(self, notice: Notice, subscription: Subscription) -> str:
        """Deliver a notice to this one subscription, whatever it subscribed to; the delivery's id."""
        await self._events.add([(notice, None)])
        await asyncio.shield(self._writer.put([], [(notice, subscription)]))
        return delivery_id(notice.id, subscription.id)

    async def deliver(self, told: Sequence[Told]) -> None:
        """Make the notices durable together with their deliveries to all who want them.

        Raises:
            PyMongoError: perhaps not all of it is durable; to be called again.
        """
        if not told:
            return
        call = _Call(told=told, failures=self._failures, begun=asyncio.get_running_loop().create_future())
        # A stream that has seen what is behind doesn't look for what is before it.
        if any(each.failures != call.failures for each in self._calls):
            raise Overtaking
        self._calls.add(call)
        self._arrived.append(call)
        if self._matching is None:
            self._matching = asyncio.create_task(self._match())
        try:
            # What is on its way is written, also when nobody waits for it any more.
            await asyncio.shield(await call.begun)
        finally:
            self._calls.remove(call)

    @property
    def _failures(self) -> int:
        """How often something could not be stored: what had come until then fails with it."""
        return self._unmatched + self._writer.failures

    async def _match(self) -> None:
        """Look up who wants to be told, for all who ask meanwhile at once."""
        try:
            while self._arrived:
                arrived, self._arrived = self._arrived, []
                try:
                    await self._look_up(arrived)
                except (Exception, asyncio.CancelledError) as error:
                    self._unmatched += 1
                    for call in arrived:
                        if not call.begun.done():
                            # One of a task below us is a failure like any other; the others would wait for ever.
                            call.begun.set_exception(error if isinstance(error, Exception) else Overtaking())
                    if (task := asyncio.current_task()) is not None and task.cancelling():
                        raise
        finally:
            self._matching = None

    async def _look_up(self, arrived: Sequence[_Call]) -> None:
        notices = [each.notice for call in arrived for each in call.told]
        # Before it is asked for: what is written meanwhile isn't in the answer, and not under way any more after it.
        writing = self._under_way.keys() & {each.id for each in notices}
        subscriptions, stored = await asyncio.gather(
            self._subscriptions.matching(notices), self._events.stored([each.id for each in notices])
        )
        for call in arrived:
            if call.begun.done():
                continue
            if call.failures != self._failures:
                call.begun.set_exception(Overtaking())
            else:
                call.begun.set_result(self._begin(call.told, subscriptions, stored | writing))

    def _begin(
        self, told: Sequence[Told], subscriptions: Sequence[Subscription], known: set[str]
    ) -> asyncio.Future[None]:
        """Have them written, and sent at once where nobody can have done so before; done when they are durable.

        Of an event that comes again, the rows must say first what became of it: it may have been delivered, given up or
        erased since.
        """
        ids = {each.notice.id for each in told}
        new = len(ids) == len(told) and ids.isdisjoint(known) and ids.isdisjoint(self._under_way)
        at_once = new and all(each.place is not None for each in told)
        self._under_way.update(dict.fromkeys(ids))
        while len(self._under_way) > MOST_REMEMBERED:
            del self._under_way[next(iter(self._under_way))]
        notices = [(each.notice, each.place) for each in told]
        written = self._writer.put(notices, _wanted(told, subscriptions), at_once=at_once)
        written.add_done_callback(lambda done: None if done.exception() else self._stored(ids))
        return written

    def _stored(self, ids: set[str]) -> None:
        for each in ids:
            self._under_way.pop(each, None)


def _wanted(told: Sequence[Told], subscriptions: Sequence[Subscription]) -> list[tuple[Notice, Subscription]]:
    written = {each.notice.id: each.written_at for each in told}
    return [
        (notice, subscription)
        for notice, subscription in recipients([each.notice for each in told], subscriptions)
        if (at := written[notice.id]) is None or subscription.hears(at)
    ]


def _written_at(record: "ConsumerRecord[bytes, bytes]") -> datetime | None:
    """When the record came to Kafka: what is told late, after an outage, is news; what is read once more is not."""
    return datetime.fromtimestamp(record.timestamp / 1000, tz=UTC) if record.timestamp > 0 else None
