"""From a status event on Kafka to a signed webhook on record."""

from functools import partial
from typing import Any

from standardwebhooks import Webhook

from notifier.delivery_store import DeliveryStore
from support.eventually import eventually
from support.notifying import secret_of
from support.status_events import ACCOUNT, status_event
from support.webhooks import Receiver


async def test_a_status_event_reaches_its_subscribers_signed_and_is_recorded(
    stage: Any, deliveries: DeliveryStore
) -> None:
    app_endpoint, account_endpoint, other = (
        await stage.make_receiver(),
        await stage.make_receiver(),
        await stage.make_receiver(),
    )
    of_app = await stage.subscribe(app_endpoint.url, app_id="search")
    of_account = await stage.subscribe(account_endpoint.url, account_id=ACCOUNT)
    await stage.subscribe(other.url, app_id="workbench")
    await stage.subscribe(other.url, account_id="adatum")
    event = status_event()

    async with stage.start():
        await stage.publish(event)
        for endpoint, subscription in ((app_endpoint, of_app), (account_endpoint, of_account)):
            await eventually(partial(_count, endpoint), lambda n: n == 1, what="the webhook")
            received = endpoint.received[0]
            assert received.id == event.id
            payload = Webhook(secret_of(subscription)).verify(received.body, received.headers)
            assert payload["type"] == "permission.status_changed"
            assert payload["data"]["app_id"] == subscription.owner.app_id
            assert payload["data"]["access"] == "gained"
        for subscription in (of_app, of_account):
            (delivery,) = await eventually(
                partial(deliveries.list_of, subscription.id, status="delivered", after=None, limit=10)
            )
            assert delivery.event_id == event.id
            assert [attempt.status_code for attempt in delivery.attempts] == [204]
    assert other.received == []


async def _count(endpoint: Receiver) -> int:
    return len(endpoint.received)
