"""A slow endpoint waits for itself and for nobody else."""

from typing import Any

from notifier.delivery_store import DeliveryStore
from notifier.notifications import Notice, notice_of
from support.eventually import eventually
from support.notifying import told
from support.status_events import status_event
from support.webhooks import Receiver, hang

EVENTS = 60


def notices() -> list[Notice]:
    made = [notice_of(status_event(apps=("search",))) for _ in range(EVENTS)]
    return [each for each in made if each is not None]


async def test_nineteen_endpoints_get_everything_while_the_twentieth_hangs(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    hanging = await make_receiver(hang)
    stuck = await subscribe(hanging.url, app_id="search")
    good = [await make_receiver() for _ in range(19)]
    for endpoint in good:
        await subscribe(endpoint.url, app_id="search")
    # Few may run at once, and little fits in memory: the hanging endpoint must hold neither.
    async with run_engine(
        concurrency=4,
        endpoint_concurrency=4,
        endpoint_queue=10,
        response_timeout_seconds=60,
        total_timeout_seconds=60,
        lease_seconds=70,
    ) as engine:
        for notice in notices():
            await engine.intake.deliver(told([notice]))
        await eventually(lambda: _fewest(good), lambda fewest: fewest == EVENTS, within=60, what="all at the good ones")
        # All of that happened while the hanging endpoint held its first requests: it has answered none.
        assert 1 <= len(hanging.received) <= 4
        pending = await deliveries.list_of(stuck.id, status="pending", after=None, limit=100)
        assert len(pending) == EVENTS
        assert all(each.attempts == () for each in pending)


async def _fewest(endpoints: list[Receiver]) -> int:
    return min(len(set(endpoint.ids())) for endpoint in endpoints)


async def test_what_does_not_fit_in_memory_is_taken_from_the_store_once_each(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver()
    subscription = await subscribe(endpoint.url, app_id="search")
    sent = notices()
    async with run_engine(endpoint_queue=5, endpoint_concurrency=2) as engine:
        await engine.intake.deliver(told(sent))
        await eventually(lambda: _fewest([endpoint]), lambda count: count == EVENTS, within=30)
        await eventually(lambda: _pending(deliveries, subscription.id), lambda count: count == 0)
    assert sorted(endpoint.ids()) == sorted(notice.id for notice in sent)


async def _pending(deliveries: DeliveryStore, subscription_id: str) -> int:
    return len(await deliveries.list_of(subscription_id, status="pending", after=None, limit=100))


async def test_two_processes_share_the_work_and_send_nothing_twice(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver()
    subscription = await subscribe(endpoint.url, app_id="search")
    sent = notices()
    async with run_engine(endpoint_queue=3) as one, run_engine(endpoint_queue=3) as other:
        await one.intake.deliver(told(sent[::2]))
        await other.intake.deliver(told(sent[1::2]))
        await eventually(lambda: _fewest([endpoint]), lambda count: count == EVENTS, within=30)
        await eventually(lambda: _pending(deliveries, subscription.id), lambda count: count == 0)
    assert len(endpoint.received) == EVENTS


async def test_a_stopping_process_gives_up_its_leases(
    run_engine: Any, make_receiver: Any, subscribe: Any, deliveries: DeliveryStore
) -> None:
    endpoint = await make_receiver(hang)
    subscription = await subscribe(endpoint.url, app_id="search")
    # A lease that outlasts the test: only a release makes the rows due again.
    async with run_engine(endpoint_concurrency=1, lease_seconds=600) as engine:
        await engine.intake.deliver(told(notices()))
        await eventually(lambda: _count(endpoint), lambda count: count == 1)
    endpoint.answer = Receiver().answer
    async with run_engine():
        await eventually(lambda: _fewest([endpoint]), lambda count: count == EVENTS, within=30)
        await eventually(lambda: _pending(deliveries, subscription.id), lambda count: count == 0)


async def _count(endpoint: Receiver) -> int:
    return len(endpoint.received)
