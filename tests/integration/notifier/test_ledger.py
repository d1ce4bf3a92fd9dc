"""The ledger: whatever endpoints and infrastructure do, every event reaches every live subscriber, under one id."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx

from notifier.app import create_app
from notifier.delivery_store import DeliveryStore
from notifier.notifications import Notice, notice_of
from notifier.settings import Settings
from notifier.subscription_store import SubscriptionStore
from shared.topics import PERMISSION_STATUS, dead_letter_topic
from support.eventually import eventually
from support.notifying import told
from support.status_events import publish, status_event
from support.topics import topics_of_a_test
from support.webhooks import Answer, Receiver, answering, drip, hang, huge, in_turn, raw, reset

EVENTS = 25
ABSURD = "Mon, 01 Jan 99999999999999 00:00:00 GMT"
# How each endpoint answers at first. Then it answers 204.
FAULTS: dict[str, Answer] = {
    "hangs": hang,
    "resets": reset,
    "500": answering(500, body=b"\xff" * 20_000),
    "429": answering(429, retry_after="0"),
    "503 with an absurd date": answering(503, retry_after=ABSURD),
    "302": answering(302, location="http://127.0.0.1:9/"),
    "404": answering(404),
    "drips": drip,
    "100 MB": huge,
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "half an answer": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"),
    "broken chunks": raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
    "endless headers": raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
}


def notices() -> list[Notice]:
    made = [notice_of(status_event(apps=("search",))) for _ in range(EVENTS)]
    return [each for each in made if each is not None]


async def ids(endpoint: Receiver) -> set[str]:
    return set(endpoint.ids())


async def pending(deliveries: DeliveryStore, subscription_id: str) -> int:
    return len(await deliveries.list_of(subscription_id, status="pending", after=None, limit=200))


async def test_whatever_endpoints_do_each_gets_everything_under_one_id(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    endpoints = {name: await make_receiver(in_turn(*[fault] * 6, answering(204))) for name, fault in FAULTS.items()}
    subscriptions = {name: await subscribe(endpoint.url, app_id="search") for name, endpoint in endpoints.items()}
    sent = notices()
    impatient = {"response_timeout_seconds": 0.3, "total_timeout_seconds": 0.5}
    resting = {"breaker_failures": 3, "breaker_seconds": 0.05, "breaker_max_seconds": 0.2}
    async with run_engine(retry_schedule=(0.05,) * 9, endpoint_concurrency=4, **impatient, **resting) as engine:
        await engine.intake.deliver(told(sent))
        for name, endpoint in endpoints.items():
            await eventually(
                partial(ids, endpoint), lambda got: got == {each.id for each in sent}, within=30, what=name
            )
            await eventually(
                partial(pending, deliveries, subscriptions[name].id), lambda left: left == 0, within=30, what=name
            )
    for name, endpoint in endpoints.items():
        assert len({(item.id, item.body) for item in endpoint.received}) == EVENTS, name
        found = await deliveries.list_of(subscriptions[name].id, status=None, after=None, limit=200)
        assert [each.status for each in found] == ["delivered"] * EVENTS, name


async def test_what_an_endpoint_that_was_gone_missed_is_recovered_whole(
    run_engine: Any, make_receiver: Any, subscribe: Any, subscriptions: SubscriptionStore, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(answering(410))
    subscription = await subscribe(endpoint.url, app_id="search")
    before, after = notices(), notices()
    since = datetime.now(UTC) - timedelta(minutes=1)
    async with run_engine(endpoint_concurrency=2) as engine:
        await engine.intake.deliver(told(before))
        await eventually(partial(pending, deliveries, subscription.id), lambda left: left == 0)
        await engine.intake.deliver(told(after))
        endpoint.answer = answering(204)
        endpoint.received.clear()
        changed = await subscriptions.change(
            subscription.id, subscription.owner, {"enabled": True}, now=datetime.now(UTC), anew=True
        )
        assert changed is not None
        await engine.recoveries.begin(changed, since=since)
        everything = {each.id for each in (*before, *after)}
        await eventually(partial(ids, endpoint), lambda got: got == everything)
        await eventually(partial(pending, deliveries, subscription.id), lambda left: left == 0)


async def test_a_broker_that_goes_away_delays_and_loses_nothing(
    private_kafka: Any, settings: Settings, make_receiver: Any, subscribe: Any, kafka_group: str
) -> None:
    broker = await private_kafka()
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": broker.bootstrap_servers})
    endpoint = await make_receiver()
    await subscribe(endpoint.url, app_id="search")
    async with topics_of_a_test(broker.bootstrap_servers) as topics:
        topic = replace(PERMISSION_STATUS, name=await topics.create("status", partitions=2), partitions=2)
        await topics.create(name=dead_letter_topic(topic, kafka_group).name, partitions=1)
        app = create_app(settings.model_copy(update={"kafka": kafka}), topic=topic, group=kafka_group)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://n") as client,
        ):
            first, second = status_event(), status_event()
            await publish(kafka, topic, first)
            await eventually(partial(ids, endpoint), lambda got: got == {first.id}, within=40)
            await broker.kill()
            await eventually(lambda: readiness(client), lambda status: status == 503, within=40)
            await broker.start()
            await publish(kafka, topic, second)
            await eventually(partial(ids, endpoint), lambda got: got == {first.id, second.id}, within=60)
            await eventually(lambda: readiness(client), lambda status: status == 200, within=40)
    assert len(endpoint.received) == 2


async def readiness(client: httpx.AsyncClient) -> int:
    return (await client.get("/readyz")).status_code
