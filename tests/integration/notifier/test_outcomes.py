"""What becomes of deliveries to endpoints that misbehave, on real connections."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from notifier.deliveries import Delivery
from notifier.delivery_store import DeliveryStore
from notifier.endpoints import DISABLING_FAILURES
from notifier.notifications import Notice, notice_of
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Subscription
from support.eventually import eventually
from support.notifying import SECRETS_KEY, secret_of, told
from support.status_events import status_event
from support.webhooks import Answer, answering, drip, hang, huge, in_turn, reset


def notice(**changes: Any) -> Notice:
    made = notice_of(status_event(**changes))
    assert made is not None
    return made


async def ended(deliveries: DeliveryStore, subscription: Subscription, *, count: int = 1) -> list[Delivery]:
    """The subscription's deliveries, once so many are no longer pending."""

    async def look() -> list[Delivery]:
        return await deliveries.list_of(subscription.id, status=None, after=None, limit=100)

    return await eventually(
        look,
        lambda found: len([each for each in found if each.status != "pending"]) == count,
        within=30,
        what=f"the end of {count} deliveries",
    )


async def test_it_is_tried_again_until_it_is_taken_with_the_same_id_and_bytes(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(in_turn(answering(500, body=b"broken"), reset, answering(503), answering(204)))
    subscription = await subscribe(endpoint.url, app_id="search")
    async with run_engine() as engine:
        await engine.intake.deliver(told([notice()]))
        (delivery,) = await ended(deliveries, subscription)
    assert delivery.status == "delivered"
    # The reset was answered by another POST at once: it is no failure of the endpoint when a kept connection breaks.
    assert [attempt.status_code for attempt in delivery.attempts] == [500, 503, 204]
    assert delivery.attempts[0].response_body == "broken"
    assert len({(received.id, received.body) for received in endpoint.received}) == 1
    for received in endpoint.received:
        Webhook(secret_of(subscription)).verify(received.body, received.headers)


@pytest.mark.parametrize(
    "case",
    [
        (answering(302, location="http://127.0.0.1:9/"), 302, None),
        (answering(404), 404, None),
        (answering(100), None, "timeout"),
        (hang, None, "timeout"),
        (drip, 200, "timeout"),
        (reset, None, "connection_lost"),
    ],
    ids=["302", "404", "100", "hang", "drip", "reset"],
)
async def test_an_endpoint_that_never_takes_it_gets_the_whole_schedule_and_no_more(
    case: tuple[Answer, int | None, str | None],
    run_engine: Any,
    make_receiver: Any,
    subscribe: Any,
    deliveries: DeliveryStore,
) -> None:
    answer, status_code, error = case
    endpoint = await make_receiver(answer)
    subscription = await subscribe(endpoint.url, app_id="search")
    async with run_engine(total_timeout_seconds=0.4, response_timeout_seconds=0.3) as engine:
        await engine.intake.deliver(told([notice()]))
        (delivery,) = await ended(deliveries, subscription)
    assert (delivery.status, delivery.reason) == ("dead", "attempts_exhausted")
    assert [(each.status_code, each.error) for each in delivery.attempts] == [(status_code, error)] * 4
    assert len(set(endpoint.ids())) == 1


async def test_secrets_of_before_the_operators_key_was_replaced_sign_on(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver()
    subscription = await subscribe(endpoint.url, app_id="search")
    new, old = SecretStr("bmV3" * 10 + "bmU="), SecretStr(SECRETS_KEY)
    async with run_engine(secrets_key=new, previous_secrets_keys=(old,)) as engine:
        await engine.intake.deliver(told([notice()]))
        (delivery,) = await ended(deliveries, subscription)
    assert delivery.status == "delivered"
    (received,) = endpoint.received
    Webhook(secret_of(subscription)).verify(received.body, received.headers)


async def test_an_endpoint_is_tried_by_its_own_schedule_where_it_has_one(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(answering(500))
    once = await subscribe(endpoint.url, app_id="search", retry_schedule=())
    twice = await subscribe(endpoint.url, app_id="search", retry_schedule=(0.01,))
    usual = await subscribe(endpoint.url, app_id="search")
    async with run_engine(retry_schedule=(0.01, 0.01)) as engine:
        await engine.intake.deliver(told([notice()]))
        found = [await ended(deliveries, each) for each in (once, twice, usual)]
    assert [len(delivery.attempts) for (delivery,) in found] == [1, 2, 3]


async def test_a_redirect_leads_nowhere(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    other = await make_receiver()
    endpoint = await make_receiver(answering(307, location=other.url))
    subscription = await subscribe(endpoint.url, app_id="search")
    async with run_engine(retry_schedule=()) as engine:
        await engine.intake.deliver(told([notice()]))
        (delivery,) = await ended(deliveries, subscription)
    assert delivery.status == "dead"
    assert other.received == []


async def test_a_refused_connection_and_an_unknown_host(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    closed = await subscribe("http://127.0.0.1:9/hook", app_id="search")
    nowhere = await subscribe("http://no-such-host.invalid/hook", app_id="search")
    # However long the host's resolver takes to say so.
    patient = {"connect_timeout_seconds": 60.0, "total_timeout_seconds": 60.0, "lease_seconds": 70.0}
    async with run_engine(retry_schedule=(), **patient) as engine:
        await engine.intake.deliver(told([notice()]))
        (refused,), (unknown,) = await ended(deliveries, closed), await ended(deliveries, nowhere)
    assert [each.error for each in refused.attempts] == ["connection_failed"]
    assert [each.error for each in unknown.attempts] == ["dns_error"]


async def test_of_a_huge_answer_the_beginning_is_kept(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(huge)
    subscription = await subscribe(endpoint.url, app_id="search")
    async with run_engine(response_body_bytes=1000) as engine:
        await engine.intake.deliver(told([notice()]))
        (delivery,) = await ended(deliveries, subscription)
    (attempt,) = delivery.attempts
    assert (delivery.status, attempt.truncated, attempt.response_body) == ("delivered", True, "x" * 1000)


async def test_an_overloaded_endpoint_is_left_alone_for_as_long_as_it_asks(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(in_turn(answering(429, retry_after="2"), answering(204)))
    subscription = await subscribe(endpoint.url, app_id="search")
    first, second = notice(), notice()
    async with run_engine(endpoint_concurrency=1) as engine:
        await engine.intake.deliver(told([first]))
        until = await eventually(lambda: throttled_until(subscriptions, subscription), what="the throttle on record")
        assert until is not None
        await engine.intake.deliver(told([second]))
        found = await ended(deliveries, subscription, count=2)
    assert all(each.status == "delivered" for each in found)
    times = sorted(int(received.headers["webhook-timestamp"]) for received in endpoint.received[1:])
    # Neither the delivery that was refused nor the one that came meanwhile is sent before the time.
    assert times[0] >= int(until.timestamp())
    # Waiting costs no attempt.
    by_event = {each.event_id: [attempt.status_code for attempt in each.attempts] for each in found}
    assert by_event == {first.id: [429, 204], second.id: [204]}


async def throttled_until(subscriptions: SubscriptionStore, subscription: Subscription) -> datetime | None:
    return (await subscriptions.by_ids([subscription.id]))[subscription.id].throttled_until


async def test_gone_disables_the_endpoint_and_tells_the_owner_elsewhere(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    endpoint, elsewhere = await make_receiver(answering(410)), await make_receiver()
    gone = await subscribe(endpoint.url, app_id="search")
    await subscribe(elsewhere.url, app_id="search", event_types=frozenset({"endpoint.disabled"}))
    async with run_engine(endpoint_concurrency=1) as engine:
        await engine.intake.deliver(told([notice() for _ in range(5)]))
        found = await ended(deliveries, gone, count=5)
        (arrived,) = await eventually(lambda: _received(elsewhere), what="the operational event")
        state = (await subscriptions.by_ids([gone.id]))[gone.id]
        await engine.intake.deliver(told([notice()]))
    assert (state.enabled, state.disabled_reason) == (False, "endpoint_gone")
    assert sorted(str(each.reason) for each in found) == ["endpoint_gone", *["subscription_disabled"] * 4]
    assert arrived.json["data"] == {
        "account_id": None,
        "subscription_id": gone.id,
        "url": gone.url,
        "reason": "endpoint_gone",
        "app_id": "search",
    }
    assert len(endpoint.received) == 1


async def _received(endpoint: Any) -> list[Any]:
    return list(endpoint.received)


async def test_an_endpoint_that_only_fails_for_days_is_disabled_and_one_success_prevents_it(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(answering(500))
    subscription = await subscribe(endpoint.url, app_id="search")
    days_ago = datetime.now(UTC) - timedelta(days=6)
    async with run_engine(retry_schedule=()) as engine:
        await subscriptions.note_failing(subscription, days_ago)
        endpoint.answer = answering(204)
        await engine.intake.deliver(told([notice()]))
        await ended(deliveries, subscription, count=1)
        await eventually(lambda: _failing_since(subscriptions, subscription), lambda since: since is None)
        await subscriptions.note_failing(subscription, days_ago)
        endpoint.answer = answering(500)
        # Two failures with days between them would say little: there have to be some.
        await engine.intake.deliver(told([notice() for _ in range(DISABLING_FAILURES - 1)]))
        await ended(deliveries, subscription, count=DISABLING_FAILURES)
        assert await _reason(subscriptions, subscription) is None
        await engine.intake.deliver(told([notice()]))
        await eventually(lambda: _reason(subscriptions, subscription), lambda reason: reason == "failing")


async def test_an_endpoint_that_fails_since_today_is_not_disabled_however_often(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(answering(500))
    subscription = await subscribe(endpoint.url, app_id="search")
    count = DISABLING_FAILURES * 3
    async with run_engine(retry_schedule=()) as engine:
        await engine.intake.deliver(told([notice() for _ in range(count)]))
        await ended(deliveries, subscription, count=count)
        assert await _failing_since(subscriptions, subscription) is not None
    # Stopped, it has noted all that attempts have shown.
    assert await _reason(subscriptions, subscription) is None
    found = await deliveries.list_of(subscription.id, status="dead", after=None, limit=100)
    assert {each.reason for each in found} == {"attempts_exhausted"}


async def _failing_since(subscriptions: SubscriptionStore, subscription: Subscription) -> datetime | None:
    return (await subscriptions.by_ids([subscription.id]))[subscription.id].failing_since


async def _reason(subscriptions: SubscriptionStore, subscription: Subscription) -> str | None:
    return (await subscriptions.by_ids([subscription.id]))[subscription.id].disabled_reason


async def test_pending_deliveries_of_a_subscription_that_went_away_end_with_a_reason(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(answering(500))
    deleted, disabled = await subscribe(endpoint.url, app_id="search"), await subscribe(endpoint.url, app_id="search")
    async with run_engine(retry_schedule=(1.0,)) as engine:
        await engine.intake.deliver(told([notice()]))
        await eventually(lambda: _received(endpoint), lambda found: len(found) == 2)
        await subscriptions.delete(deleted.id, deleted.owner)
        await subscriptions.disable(disabled, "by_owner", now=datetime.now(UTC))
        (of_deleted,), (of_disabled,) = await ended(deliveries, deleted), await ended(deliveries, disabled)
    assert (of_deleted.status, of_deleted.reason) == ("dead", "subscription_deleted")
    assert (of_disabled.status, of_disabled.reason) == ("dead", "subscription_disabled")
    assert len(endpoint.received) == 2
