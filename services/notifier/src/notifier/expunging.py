"""Erasing what was told: an owner's payloads and what its endpoints answered. Ids, times and outcomes stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from notifier.clock import ServerClock
from notifier.deliveries import delivery_id
from notifier.delivery_store import DeliveryStore
from notifier.resending import Resending
from notifier.store import EventStore
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner
from shared.problems import not_found

log = structlog.get_logger(__name__)

AT_ONCE = 500
STEP = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Expunged:
    """How much was erased by one request; what had been erased before doesn't count."""

    events: int = 0
    deliveries: int = 0

    def __add__(self, other: "Expunged") -> "Expunged":
        return Expunged(events=self.events + other.events, deliveries=self.deliveries + other.deliveries)


class Expunging:
    """The use cases. Each has erased everything when it returns; one that was interrupted is to be asked for again.

    An event is erased for its owner as a whole: from all deliveries to the owner's subscriptions, from its streams and
    from what recover sends. Whoever else it concerns keeps it.
    """

    def __init__(
        self,
        *,
        events: EventStore,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        resending: Resending,
        clock: ServerClock,
    ) -> None:
        self._events = events
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._resending = resending
        self._clock = clock

    async def delivery(self, owner: Owner, delivery_id: str) -> Expunged:
        """Erase the event of a delivery.

        Raises:
            Problem: 404, there is no such delivery of this owner.
        """
        delivery, _ = await self._resending.owned(owner, delivery_id)
        return self._noted(owner, await self._erase(owner, [delivery.event_id], await self._all_of(owner)))

    async def subscription(self, owner: Owner, subscription_id: str) -> Expunged:
        """Erase every event that was delivered, or is to be delivered, to a subscription.

        Raises:
            Problem: 404, there is no such subscription of this owner.
        """
        if await self._subscriptions.get(subscription_id, owner) is None:
            raise not_found("subscription")
        everywhere, erased = await self._all_of(owner), Expunged()
        after: tuple[datetime, str] | None = None
        while rows := await self._deliveries.unexpunged(subscription_id, after=after, limit=AT_ONCE):
            erased += await self._erase(owner, [event_id for _, _, event_id in rows], everywhere)
            created_at, last_id, _ = rows[-1]
            after = created_at, last_id
        return self._noted(owner, erased)

    async def account(self, owner: Owner, account_id: str | None) -> Expunged:
        """Erase every event of an account, or of all, that the owner can read."""
        everywhere, erased = await self._all_of(owner), Expunged()
        until = self._clock.now()
        begins = await self._events.first_since(datetime.min.replace(tzinfo=until.tzinfo))
        while begins is not None and begins <= until:
            ends = begins + STEP
            while ids := await self._events.ids_between(
                begins, ends, owner=owner, account_id=account_id, limit=AT_ONCE
            ):
                erased += await self._erase(owner, ids, everywhere)
            begins = await self._events.first_since(ends)
        return self._noted(owner, erased)

    async def _all_of(self, owner: Owner) -> list[str]:
        found, after = [], None
        while page := await self._subscriptions.list_of(owner, after=after, limit=AT_ONCE):
            found += [subscription.id for subscription in page]
            after = page[-1].id
        return found

    async def _erase(self, owner: Owner, event_ids: Sequence[str], subscription_ids: Sequence[str]) -> Expunged:
        """Deliveries first: none that is still to be sent may find its event empty."""
        deliveries = 0
        for subscription_id in subscription_ids:
            ids = [delivery_id(event_id, subscription_id) for event_id in event_ids]
            deliveries += await self._deliveries.expunge(ids, now=self._clock.now())
        return Expunged(events=await self._events.erase(event_ids, owner), deliveries=deliveries)

    @staticmethod
    def _noted(owner: Owner, erased: Expunged) -> Expunged:
        log.info("payloads.expunged", owner=owner.key, events=erased.events, deliveries=erased.deliveries)
        return erased
