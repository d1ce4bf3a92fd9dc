"""The deliveries API: what was sent, what came of it, and sending it again."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from notifier.deliveries import Status
from notifier.delivery_resources import Accepted, DeliveryPage, DeliveryView, DeliveryWithPayload
from notifier.delivery_store import DeliveryStore
from notifier.pages import Page, page_of
from notifier.resending import Resending
from notifier.routes import PROBLEMS, Caller, SubscriptionId, owner_dependency
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner
from shared.cursors import position_of
from shared.problems import not_found

DeliveryId = Annotated[str, Path(max_length=100, description="Id of a delivery.")]
StatusFilter = Annotated[Status | None, Query(description="Only deliveries in this state.")]


def router(
    *, subscriptions: SubscriptionStore, deliveries: DeliveryStore, resending: Resending, caller: Caller
) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["deliveries"], responses=PROBLEMS)
    mine = Annotated[Owner, Depends(owner_dependency(caller))]

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
        delivery, _ = await resending.owned(owner, delivery_id)
        return DeliveryWithPayload.with_body(delivery, await resending.body(owner, delivery))

    @routes.post("/deliveries/{delivery_id}/resend", status_code=202)
    async def resend_delivery(owner: mine, delivery_id: DeliveryId) -> Accepted:
        """Send it again now, with the whole retry schedule before it; the `webhook-id` stays."""
        await resending.resend(owner, delivery_id)
        return Accepted(delivery_id=delivery_id)

    return routes
