"""The API of erasing: the payloads of one delivery's event, of a subscription, of an account or of all."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from notifier.delivery_resources import ExpungedView, ExpungeRequest, ExpungeView
from notifier.delivery_routes import DeliveryId
from notifier.expunging import Expunge, Expunging
from notifier.resending import Resending
from notifier.routes import PROBLEMS, Caller, SubscriptionId, owner_dependency
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner
from shared.problems import Problem, not_found

ExpungeId = Annotated[str, Path(max_length=100, description="Id of an erasing.")]


def router(
    expunging: Expunging, *, subscriptions: SubscriptionStore, resending: Resending, caller: Caller
) -> APIRouter:
    """The routes. One event is erased when the answer comes; more is done in the background, and can be asked after."""
    routes = APIRouter(prefix="/v1", tags=["expunge"], responses=PROBLEMS)
    mine = Annotated[Owner, Depends(owner_dependency(caller))]

    @routes.post("/deliveries/{delivery_id}/expunge")
    async def expunge_delivery(owner: mine, delivery_id: DeliveryId) -> ExpungedView:
        """Erase the event of a delivery, and what endpoints answered to it, from all that the owner can read.

        It is not sent again, to whichever of the owner's endpoints, and no stream has it any more. What remains is its
        id, when it was tried, and what came of it. Others whom the event concerns keep it.
        """
        delivery, _ = await resending.owned(owner, delivery_id)
        erased = await expunging.event(owner, delivery.event_id)
        return ExpungedView(events=erased.events, deliveries=erased.deliveries)

    @routes.post("/subscriptions/{subscription_id}/expunge", status_code=202)
    async def expunge_subscription(owner: mine, subscription_id: SubscriptionId, response: Response) -> ExpungeView:
        """Erase, as above, every event of which this subscription has a delivery; what comes later is not erased.

        It is accepted when this answers, and done when `GET /v1/expunges/{id}` says so. Asked for again, it begins anew
        and covers what came in between.
        """
        if await subscriptions.get(subscription_id, owner) is None:
            raise not_found("subscription")
        return _accepted(await expunging.subscription(owner, subscription_id), response)

    @routes.post("/expunge", status_code=202)
    async def expunge_account(owner: mine, what: ExpungeRequest, response: Response) -> ExpungeView:
        """Erase, in the same way, every event of an account, or all of the owner's: for when a customer leaves."""
        if owner.account_id is not None and what.account_id not in {None, owner.account_id}:
            raise Problem(422, "invalid_request", "An account erases what is its own: leave account_id out.")
        return _accepted(await expunging.account(owner, what.account_id), response)

    @routes.get("/expunges/{expunge_id}")
    async def get_expunge(owner: mine, expunge_id: ExpungeId) -> ExpungeView:
        """How far an erasing has come. It is kept as long as deliveries are."""
        found = await expunging.find(owner, expunge_id)
        if found is None:
            raise not_found("expunge")
        return ExpungeView.of(found)

    return routes


def _accepted(expunge: Expunge, response: Response) -> ExpungeView:
    response.headers["Location"] = f"/v1/expunges/{expunge.id}"
    return ExpungeView.of(expunge)
