"""The deliveries API: what was sent, what came of it, and sending it again."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from notifier.clock import ServerClock
from notifier.deliveries import Delivery, Status
from notifier.delivery_store import DeliveryStore
from notifier.pages import Page, page_of
from notifier.resources import Accepted, DeliveryPage, DeliveryView, DeliveryWithPayload
from notifier.routes import PROBLEMS, Caller, SubscriptionId, owner_dependency
from notifier.store import EventStore
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner, Subscription
from shared.cursors import position_of
from shared.problems import Problem, not_found

DeliveryId = Annotated[str, Path(max_length=100, description="Id of a delivery.")]
StatusFilter = Annotated[Status | None, Query(description="Only deliveries in this state.")]


def router(
    *,
    events: EventStore,
    subscriptions: SubscriptionStore,
    deliveries: DeliveryStore,
    clock: ServerClock,
    made_due: Callable[[], None],
    caller: Caller,
) -> APIRouter:
    """The routes; ``made_due`` is called when a delivery has become due."""
    routes = APIRouter(prefix="/v1", tags=["deliveries"], responses=PROBLEMS)
    mine = Annotated[Owner, Depends(owner_dependency(caller))]

    async def owned(owner: Owner, delivery_id: str) -> tuple[Delivery, Subscription]:
        delivery = await deliveries.get(delivery_id)
        subscription = await subscriptions.get(delivery.subscription_id, owner) if delivery is not None else None
        if delivery is None or subscription is None:
            raise not_found("delivery")
        return delivery, subscription

    @routes.get("/subscriptions/{subscription_id}/deliveries")
    async def list_deliveries(
        owner: mine, subscription_id: SubscriptionId, page: Page, status: StatusFilter = None
    ) -> DeliveryPage:
        """Deliveries of a subscription, newest first."""
        if await subscriptions.get(subscription_id, owner) is None:
            raise not_found("subscription")
        after = position_of(page.cursor, tuple[datetime, str])
        rows = await deliveries.list_of(subscription_id, status=status, after=after, limit=page.limit + 1)
        items, cursor = page_of(rows, page.limit, lambda delivery: [delivery.created_at, delivery.id])
        return DeliveryPage(items=[DeliveryView.of(item) for item in items], next_cursor=cursor)

    @routes.get("/deliveries/{delivery_id}")
    async def get_delivery(owner: mine, delivery_id: DeliveryId) -> DeliveryWithPayload:
        """One delivery with its attempts and what is sent."""
        delivery, _ = await owned(owner, delivery_id)
        notice = (await events.notices([delivery.event_id])).get(delivery.event_id)
        return DeliveryWithPayload.with_body(delivery, notice.body(owner.app_id) if notice is not None else None)

    @routes.post("/deliveries/{delivery_id}/resend", status_code=202)
    async def resend_delivery(owner: mine, delivery_id: DeliveryId) -> Accepted:
        """Send it again now, with the whole retry schedule before it; the `webhook-id` stays."""
        delivery, subscription = await owned(owner, delivery_id)
        if not subscription.enabled:
            detail = "The subscription is disabled. Enable it first, with PATCH or recover."
            raise Problem(409, "subscription_disabled", detail)
        if not await events.notices([delivery.event_id]):
            raise Problem(409, "payload_expired", "Its event is no longer kept. Read the current state instead.")
        if not await deliveries.resend(delivery_id, subscription.id, now=clock.now()):
            raise Problem(409, "being_sent", "It is being sent at this moment. Look at its attempts shortly.")
        made_due()
        return Accepted(delivery_id=delivery_id)

    return routes
