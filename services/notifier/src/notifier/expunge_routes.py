"""The API of erasing: the payloads of one delivery's event, of a subscription, of an account or of all."""

from typing import Annotated

from fastapi import APIRouter, Depends

from notifier.delivery_resources import Expunge, ExpungedView
from notifier.delivery_routes import DeliveryId
from notifier.expunging import Expunged, Expunging
from notifier.routes import PROBLEMS, Caller, SubscriptionId, owner_dependency
from notifier.subscriptions import Owner
from shared.problems import Problem


def router(expunging: Expunging, caller: Caller) -> APIRouter:
    """The routes. Each answers when everything is erased; asked again after a broken connection, it goes on."""
    routes = APIRouter(prefix="/v1", tags=["expunge"], responses=PROBLEMS)
    mine = Annotated[Owner, Depends(owner_dependency(caller))]

    @routes.post("/deliveries/{delivery_id}/expunge")
    async def expunge_delivery(owner: mine, delivery_id: DeliveryId) -> ExpungedView:
        """Erase the event of a delivery, and what endpoints answered to it, from all that the owner can read.

        It is not sent again, to whichever of the owner's endpoints, and no stream has it any more. What remains is its
        id, when it was tried, and what came of it. Others whom the event concerns keep it.
        """
        return _view(await expunging.delivery(owner, delivery_id))

    @routes.post("/subscriptions/{subscription_id}/expunge")
    async def expunge_subscription(owner: mine, subscription_id: SubscriptionId) -> ExpungedView:
        """Erase, as above, every event of which this subscription has a delivery."""
        return _view(await expunging.subscription(owner, subscription_id))

    @routes.post("/expunge")
    async def expunge_account(owner: mine, what: Expunge) -> ExpungedView:
        """Erase, as above, every event of an account, or all of the owner's: for when a customer leaves."""
        if owner.account_id is not None and what.account_id not in {None, owner.account_id}:
            raise Problem(422, "invalid_request", "An account erases what is its own: leave account_id out.")
        return _view(await expunging.account(owner, what.account_id))

    return routes


def _view(expunged: Expunged) -> ExpungedView:
    return ExpungedView(events=expunged.events, deliveries=expunged.deliveries)
