"""Turns: fair over endpoints, bounded per endpoint, never with a lease that is too short."""

from datetime import UTC, datetime
from typing import Any

from notifier.lanes import Job, Lane, Lanes
from notifier.notifications import ping
from notifier.subscriptions import Owner, Subscription

NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
NOTICE = ping(notice_id="p", at=NOW, subscription_id="s", app_id="search", account_id=None)


def subscription(name: str, *, version: int = 1, **fields: Any) -> Subscription:
    return Subscription(
        id=name,
        owner=Owner(app_id="search"),
        url="https://example.com",
        version=version,
        created_at=NOW,
        updated_at=NOW,
        **fields,
    )


def job(name: str, *, lease_until: float = 1000.0) -> Job:
    return Job(delivery_id=name, notice=NOTICE, claim="c", tries=0, started_at=NOW, lease_until=lease_until)


def filled(lanes: Lanes, name: str, count: int, **more: float) -> Lane:
    lane = lanes.lane(subscription(name))
    for number in range(count):
        lanes.push(lane, job(f"{name}{number}", **more), 0.0)
    return lane


def started(lanes: Lanes, *, now: float = 0.0, needed: float = 10.0) -> list[str]:
    names = []
    while (turn := lanes.next(now, needed=needed)) is not None:
        names.append(turn[1].delivery_id)
    return names


def test_endpoints_take_turns() -> None:
    lanes = Lanes(limit=10, capacity=100)
    for name in "abc":
        filled(lanes, name, 2)
    assert started(lanes) == ["a0", "b0", "c0", "a1", "b1", "c1"]


def test_an_endpoint_has_its_cap_and_goes_on_when_one_ends() -> None:
    lanes = Lanes(limit=2, capacity=100)
    lane = filled(lanes, "a", 5)
    assert started(lanes) == ["a0", "a1"]
    lanes.finished(lane, answered=True, now=0.0)
    assert started(lanes) == ["a2"]


def test_an_endpoint_that_does_not_answer_gets_one_at_a_time_until_it_does() -> None:
    lanes = Lanes(limit=8, capacity=100)
    lane = filled(lanes, "a", 30)
    assert len(started(lanes)) == 8
    for _ in range(8):
        lanes.finished(lane, answered=False, now=0.0)
    widths = []
    for _ in range(4):
        widths.append(len(started(lanes)))
        for _ in range(widths[-1]):
            lanes.finished(lane, answered=True, now=0.0)
    assert widths == [1, 2, 8, 8]


def test_a_lease_that_would_end_during_the_attempt_is_left_to_others() -> None:
    lanes = Lanes(limit=8, capacity=100)
    filled(lanes, "a", 1, lease_until=9.9)
    filled(lanes, "b", 1, lease_until=10.0)
    assert started(lanes, now=0.0, needed=10.0) == ["b0"]
    assert lanes.queued() == 0


def test_a_blocked_endpoint_starts_nothing_until_its_time() -> None:
    lanes = Lanes(limit=8, capacity=100)
    lane = filled(lanes, "a", 1)
    assert lanes.block(lane, 5.0)
    assert not lanes.block(lane, 5.0)
    assert started(lanes, now=4.9) == []
    assert lanes.blocked(4.9) == {"a": 5.0}
    lanes.offer(lane, 5.0)
    assert started(lanes, now=5.0) == ["a0"]


def test_places_are_counted_while_rows_are_being_written() -> None:
    lanes = Lanes(limit=8, capacity=3)
    lane = filled(lanes, "a", 1)
    assert lanes.reserve(subscription("a"), 0.0)
    assert lanes.reserve(subscription("a"), 0.0)
    assert not lanes.reserve(subscription("a"), 0.0)
    assert lanes.room("a") == 0
    lanes.unreserve("a")
    assert lanes.room("a") == 1
    assert lanes.room("unknown") == 3
    assert lane.reserved == 1


def test_a_lane_that_left_rows_in_the_store_asks_for_more_once_it_is_half_empty() -> None:
    lanes = Lanes(limit=8, capacity=4)
    lane = filled(lanes, "a", 4)
    lanes.starving = {"a"}
    assert lanes.fed(lane)
    started(lanes)
    assert not lanes.fed(lane)
    assert lanes.fed(lane)


def test_idle_lanes_are_forgotten_but_troubled_ones_are_not() -> None:
    lanes = Lanes(limit=8, capacity=4)
    for name, answered in (("well", True), ("ill", False)):
        lane = filled(lanes, name, 1)
        started(lanes)
        lanes.finished(lane, answered=answered, now=0.0)
    assert lanes.get("well") is None
    assert lanes.get("ill") is not None


def test_an_older_state_of_a_subscription_replaces_no_newer_one() -> None:
    lanes = Lanes(limit=8, capacity=4)
    lanes.lane(subscription("a", version=2))
    assert lanes.lane(subscription("a", version=1)).subscription.version == 2
    assert lanes.lane(subscription("a", version=3)).subscription.version == 3


def test_a_rate_spaces_what_is_started() -> None:
    lanes = Lanes(limit=8, capacity=100, lease=40.0)
    lane = lanes.lane(subscription("a", rate_limit=2.0))
    for number in range(4):
        lanes.push(lane, job(f"a{number}"), 0.0)
    assert started(lanes, now=0.0) == ["a0"]
    lanes.offer(lane, 0.4)
    assert started(lanes, now=0.4) == []
    lanes.offer(lane, 0.5)
    assert started(lanes, now=0.5) == ["a1"]
    # What can't be sent before its lease ends is left to the store: a quarter of it for each of two a second.
    assert lane.room == 20 - 2
    for _ in range(2):
        lanes.finished(lane, answered=True, now=0.6)
    lane.queue.clear()
    lanes.sweep(0.9)
    assert lanes.get("a") is not None  # forgotten, it could begin anew at once
    lanes.sweep(1.0)
    assert lanes.get("a") is None


def test_an_owners_bounds_are_shared_by_the_replicas() -> None:
    lanes = Lanes(limit=16, capacity=100)
    lanes.replicas = 2
    lane = lanes.lane(subscription("a", concurrency=6, rate_limit=10.0))
    assert (lane.cap, lane.interval) == (3, 0.2)
    assert lanes.lane(subscription("b", concurrency=1)).cap == 1
    assert lanes.lane(subscription("c", concurrency=99)).cap == 16


def test_an_endpoint_that_rests_or_is_paused_takes_nothing_into_memory() -> None:
    lanes = Lanes(limit=8, capacity=4)
    assert not lanes.reserve(subscription("paused", paused=True), 0.0)
    assert not lanes.reserve(subscription("tripped", trips=1), 0.0)
    lanes.lane(subscription("held")).held_until = 5.0
    assert not lanes.reserve(subscription("held"), 4.9)
    assert lanes.reserve(subscription("held"), 5.0)


def test_on_trial_an_endpoint_gets_one_attempt_and_then_grows_again() -> None:
    lanes = Lanes(limit=8, capacity=100)
    lane = lanes.lane(subscription("a", trips=1))
    for number in range(20):
        lanes.push(lane, job(f"a{number}"), 0.0)
    assert started(lanes) == ["a0"]
    lanes.lane(subscription("a"))
    lanes.finished(lane, answered=True, now=0.0)
    assert len(started(lanes)) == 2


def test_what_was_read_before_replaces_nothing_of_its_version() -> None:
    lanes = Lanes(limit=8, capacity=4)
    lanes.lane(subscription("a", version=2, trips=1))
    assert not lanes.reserve(subscription("a", version=2), 0.0)
    assert lanes.reserve(subscription("a", version=3), 0.0)


def test_what_an_address_asked_for_does_not_hold_back_its_successor() -> None:
    lanes = Lanes(limit=8, capacity=4)
    lane = filled(lanes, "a", 1)
    lanes.block(lane, 60.0)
    lanes.lane(subscription("a"))
    assert started(lanes, now=1.0) == []
    lanes.offer(lanes.lane(subscription("a", version=2)), 1.0)
    assert started(lanes, now=1.0) == ["a0"]
