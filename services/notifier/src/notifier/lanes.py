"""Whose turn it is: one lane per endpoint, so that a slow endpoint waits for itself and for nobody else. Pure.

An endpoint that fails to answer shrinks to one attempt at a time and grows back with each success: a hundred hanging
endpoints hold a hundred connections, not a hundred times the cap.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from notifier.deliveries import Result
from notifier.notifications import Notice
from notifier.subscriptions import Subscription


class Results(Protocol):
    """Takes what attempts came to."""

    def put(self, result: Result) -> None:
        """Take a result without waiting."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A delivery that this process holds; ``lease_until`` is in seconds of the monotonic clock.

    ``results`` is who wants to know what its attempt came to, where that isn't the recorder: its row isn't written yet.
    """

    delivery_id: str
    notice: Notice
    claim: str
    tries: int
    started_at: datetime
    lease_until: float
    results: Results | None = None


@dataclass(slots=True, eq=False)
class Lane:
    """The deliveries of one endpoint that are in this process.

    Nothing starts before any of three times: ``blocked_until`` is what attempts of this process have shown,
    ``held_until`` what the store says of the endpoint, ``slot`` the next turn at the rate that its owner allows.
    """

    subscription: Subscription
    cap: int
    limit: int
    capacity: int
    interval: float = 0.0
    queue: deque[Job] = field(default_factory=deque)
    reserved: int = 0
    in_flight: int = 0
    blocked_until: float = float("-inf")
    held_until: float = float("-inf")
    slot: float = float("-inf")
    waiting: bool = False
    armed: bool = False

    @property
    def rests_until(self) -> float:
        """Until when nothing may be started, the rate aside."""
        return max(self.blocked_until, self.held_until)

    @property
    def starts_at(self) -> float:
        """From when on an attempt may be started."""
        return max(self.rests_until, self.slot)

    @property
    def room(self) -> int:
        """How many deliveries more it may hold."""
        return max(0, self.capacity - len(self.queue) - self.reserved)

    def runnable(self, now: float) -> bool:
        """Whether an attempt may start now."""
        return bool(self.queue) and self.in_flight < self.limit and self.starts_at <= now

    def idle(self, now: float) -> bool:
        """Whether forgetting it changes nothing."""
        busy = self.queue or self.in_flight or self.reserved or self.armed
        return not busy and self.limit == self.cap and self.starts_at <= now


class Lanes:
    """All lanes of a process, served in turn. ``replicas`` is among how many processes an owner's bounds are shared."""

    def __init__(self, *, limit: int, capacity: int, lease: float = 45.0) -> None:
        self._limit = limit
        self._capacity = capacity
        self._lease = lease
        self._lanes: dict[str, Lane] = {}
        self._turns: deque[Lane] = deque()
        self.replicas = 1
        # Endpoints of which more is due in the store than has room here.
        self.starving: set[str] = set()

    def lane(self, subscription: Subscription, *, current: bool = True) -> Lane:
        """The endpoint's lane, with the newest state of the subscription that was seen here.

        ``current``: this state was read just now; otherwise it replaces none of its own version.
        """
        lane = self._lanes.get(subscription.id)
        if lane is None:
            lane = self._lanes[subscription.id] = Lane(
                subscription=subscription, cap=self._limit, limit=self._limit, capacity=self._capacity
            )
            self._shape(lane)
            lane.limit = lane.cap
        elif subscription.version >= lane.subscription.version + (not current):
            if subscription.version > lane.subscription.version:
                # Its owner has changed it: what attempts have shown is of before.
                lane.blocked_until = float("-inf")
            lane.subscription = subscription
            self._shape(lane)
        return lane

    def _shape(self, lane: Lane) -> None:
        """The owner's bounds, this process's part of them; an endpoint on trial gets one attempt at a time."""
        allowed, rate = lane.subscription.concurrency or self._limit, lane.subscription.rate_limit
        lane.cap = 1 if lane.subscription.trips else max(1, min(self._limit, allowed // self.replicas))
        lane.limit = min(lane.limit, lane.cap)
        lane.interval = self.replicas / rate if rate else 0.0
        # No more than can be sent while the leases last: other processes have room too.
        lane.capacity = max(1, min(self._capacity, int(self._lease / 4 / lane.interval))) if rate else self._capacity

    def get(self, subscription_id: str) -> Lane | None:
        """The endpoint's lane, if it has one."""
        return self._lanes.get(subscription_id)

    def known(self) -> list[str]:
        """The subscriptions that have a lane."""
        return list(self._lanes)

    def sweep(self, now: float) -> None:
        """Forget lanes that have nothing to do."""
        for key in [key for key, lane in self._lanes.items() if lane.idle(now)]:
            del self._lanes[key]

    def room(self, subscription_id: str) -> int:
        """How many deliveries more the endpoint may have in memory."""
        lane = self._lanes.get(subscription_id)
        return self._capacity if lane is None else lane.room

    def fed(self, lane: Lane) -> bool:
        """False, once, when a lane that left deliveries in the store has emptied enough to be filled again."""
        key = lane.subscription.id
        if key in self.starving and len(lane.queue) + lane.reserved <= lane.capacity // 2:
            self.starving.discard(key)
            return False
        return True

    def reserve(self, subscription: Subscription, now: float) -> bool:
        """Keep a place for a delivery that is about to be written; False when it must wait in the store."""
        lane = self.lane(subscription, current=False)
        flowing = subscription.flowing and lane.subscription.flowing and lane.rests_until <= now
        if not (flowing and lane.room):
            return False
        lane.reserved += 1
        return True

    def unreserve(self, subscription_id: str) -> None:
        """Give a place back: it was used, or won't be."""
        lane = self._lanes.get(subscription_id)
        if lane is not None:
            lane.reserved -= 1

    def push(self, lane: Lane, job: Job, now: float) -> None:
        """Queue a delivery."""
        lane.queue.append(job)
        self.offer(lane, now)

    def offer(self, lane: Lane, now: float) -> None:
        """Give the lane its turn if it can use one."""
        if not lane.waiting and lane.runnable(now):
            lane.waiting = True
            self._turns.append(lane)

    def next(self, now: float, *, needed: float) -> tuple[Lane, Job] | None:
        """The next delivery to be tried, whose lease lasts ``needed`` seconds more; it counts as in flight.

        Those whose lease is too short are dropped: the store gives them to somebody when it has ended.
        """
        while self._turns:
            lane = self._turns.popleft()
            lane.waiting = False
            if not lane.runnable(now):
                continue
            job = lane.queue.popleft()
            if job.lease_until < now + needed:
                self.offer(lane, now)
                continue
            lane.in_flight += 1
            if lane.interval:
                lane.slot = max(now, lane.slot) + lane.interval
            self.offer(lane, now)
            return lane, job
        return None

    def finished(self, lane: Lane, *, answered: bool, now: float) -> None:
        """An attempt ended; ``answered`` when the endpoint took the message."""
        lane.in_flight -= 1
        lane.limit = min(lane.cap, lane.limit * 2) if answered else 1
        self.offer(lane, now)
        if lane.idle(now):
            self._lanes.pop(lane.subscription.id, None)

    def block(self, lane: Lane, until: float) -> bool:
        """Start nothing on this lane until then; False when it is held back for as long already."""
        longer = until > lane.blocked_until
        if longer:
            lane.blocked_until = until
        return longer

    def blocked(self, now: float) -> dict[str, float]:
        """Subscriptions that nothing may be started for, and until when."""
        return {key: lane.rests_until for key, lane in self._lanes.items() if lane.rests_until > now}

    def clear(self, subscription_id: str | None = None) -> list[Job]:
        """Take out all queued deliveries, of one endpoint or of all."""
        lanes = list(self._lanes.values())
        if subscription_id is not None:
            lanes = [lane for lane in lanes if lane.subscription.id == subscription_id]
        jobs = [job for lane in lanes for job in lane.queue]
        for lane in lanes:
            lane.queue.clear()
        return jobs

    def queued(self) -> int:
        """Deliveries in memory that no attempt has been started for."""
        return sum(len(lane.queue) for lane in self._lanes.values())
