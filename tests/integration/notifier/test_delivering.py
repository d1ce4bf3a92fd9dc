"""From a status event on Kafka to a signed webhook on record."""

from collections.abc import Callable

from standardwebhooks import Webhook

from notifier.delivery_store import DeliveryStore
from notifier.subscriptions import Subscription
from shared.settings import KafkaSettings
from shared.topics import Topic
from support.eventually import eventually
from support.status_events import ACCOUNT, publish, status_event


async def test_a_status_event_reaches_its_subscribers_signed_and_is_recorded(
    start, make_receiver, subscribe, secret_of, kafka_settings: KafkaSettings, status_topic: Topic, deliveries
) -> None:
    app_endpoint, account_endpoint, other = await make_receiver(), await make_receiver(), await make_receiver()
    of_app = await subscribe(app_endpoint.url, app_id="search")
    of_account = await subscribe(account_endpoint.url, account_id=ACCOUNT)
    await subscribe(other.url, app_id="workbench")
    await subscribe(other.url, account_id="adatum")
    event = status_event()

    async with start():
        await publish(kafka_settings, status_topic, event)
        for endpoint, subscription in ((app_endpoint, of_app), (account_endpoint, of_account)):
            await eventually(lambda e=endpoint: _count(e), lambda n: n == 1, what="the webhook")
            received = endpoint.received[0]
            assert received.id == event.id
            payload = Webhook(secret_of(subscription)).verify(received.body, received.headers)
            assert payload["type"] == "permission.status_changed"
            assert payload["data"]["app_id"] == subscription.owner.app_id
            assert payload["data"]["access"] == "gained"
        for subscription in (of_app, of_account):
            (delivery,) = await eventually(
                lambda s=subscription: deliveries.list_of(s.id, status="delivered", after=None, limit=10)
            )
            assert delivery.event_id == event.id
            assert [attempt.status_code for attempt in delivery.attempts] == [204]
    assert other.received == []


async def _count(endpoint) -> int:
    return len(endpoint.received)
