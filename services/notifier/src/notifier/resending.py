"""Looking at deliveries and sending them again, for API and portal alike; what belongs to others looks absent."""

from collections.abc import Callable

from notifier.clock import ServerClock
from notifier.deliveries import Delivery
from notifier.delivery_store import DeliveryStore
from notifier.notifications import Notice
from notifier.store import EventStore
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner, Subscription
from shared.problems import Problem, not_found


class Resending:
    """The use cases; ``made_due`` is called when a delivery has become due."""

    def __init__(
        self,
        *,
        events: EventStore,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        clock: ServerClock,
        made_due: Callable[[], None],
    ) -> None:
        self._events = events
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._clock = clock
        self._made_due = made_due

    async def owned(self, owner: Owner, delivery_id: str) -> tuple[Delivery, Subscription]:
        """The owner's delivery and its subscription.

        Raises:
            Problem: 404, there is none.
        """
        delivery = await self._deliveries.get(delivery_id)
        subscription = await self._subscriptions.get(delivery.subscription_id, owner) if delivery is not None else None
        if delivery is None or subscription is None:
            raise not_found("delivery")
        return delivery, subscription

    async def body(self, owner: Owner, delivery: Delivery) -> bytes | None:
        """What is sent; None once its event is no longer kept, or was erased."""
        notice = await self._readable(owner, delivery)
        return notice.body(owner.app_id) if notice is not None else None

    async def resend(self, owner: Owner, delivery_id: str) -> None:
        """Send it again now, with the whole retry schedule before it; the ``webhook-id`` stays.

        Raises:
            Problem: 404, or 409 when it can't be sent now; the detail says why.
        """
        delivery, subscription = await self.owned(owner, delivery_id)
        if not subscription.enabled:
            detail = "The subscription is disabled. Enable it first, with PATCH or recover."
            raise Problem(409, "subscription_disabled", detail)
        if await self._readable(owner, delivery) is None:
            raise Problem(409, "payload_expired", "Its event is no longer kept. Read the current state instead.")
        if not await self._deliveries.resend(delivery_id, subscription.id, now=self._clock.now()):
            raise Problem(409, "being_sent", "It is being sent at this moment. Look at its attempts shortly.")
        self._made_due()

    async def _readable(self, owner: Owner, delivery: Delivery) -> Notice | None:
        if delivery.expunged_at is not None:
            return None
        notice = (await self._events.notices([delivery.event_id])).get(delivery.event_id)
        return notice if notice is not None and notice.concerns(owner.app_id) else None
