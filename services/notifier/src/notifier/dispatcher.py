"""Has the attempts made: takes deliveries in turn over the endpoints, and hands on what came of each."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from time import monotonic

import structlog
from prometheus_client import Gauge, Histogram
from pymongo.errors import PyMongoError

from notifier.attempts import Attempts
from notifier.clock import ServerClock
from notifier.deliveries import DELIVERED, Attempt, Result, Verdict
from notifier.endpoints import Endpoints
from notifier.lanes import Job, Lane, Lanes
from notifier.recorder import Recorder
from notifier.secrets import UnknownKey
from notifier.settings import DeliverySettings
from notifier.subscriptions import Subscription

log = structlog.get_logger(__name__)

ATTEMPT_SECONDS = Histogram(
    "notifier_attempt_seconds", "From the start of a POST to the end of the answer.", ["outcome"]
)
_DELIVERED, _FAILED = ATTEMPT_SECONDS.labels("delivered"), ATTEMPT_SECONDS.labels("failed")
QUEUED = Gauge("notifier_deliveries_queued", "Deliveries in memory that wait for their turn.")

# An attempt older than this no longer counts against the number that may run at once: what it costs is a connection.
SLOW_SECONDS = 1.0
SLOW_FACTOR = 8
# After a fault of ours with an endpoint's secret, the endpoint's deliveries wait without using up attempts.
UNSIGNABLE_SECONDS = 30.0
# How long a pause is taken to last before the store is asked again.
PAUSED_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Worker:
    """A task that makes one attempt after the other, and whether it counts against the number that may run at once."""

    lane: Lane
    job: Job
    counted: bool = True


class Dispatcher:
    """The attempts of one process. Everything runs on one event loop."""

    def __init__(
        self,
        *,
        attempts: Attempts,
        recorder: Recorder,
        endpoints: Endpoints,
        lanes: Lanes,
        clock: ServerClock,
        settings: DeliverySettings,
    ) -> None:
        self._attempts = attempts
        self._recorder = recorder
        self._endpoints = endpoints
        self._lanes = lanes
        self._clock = clock
        self._settings = settings
        # aiohttp rounds a deadline of more than five seconds up to a whole second.
        self._needed = settings.total_timeout_seconds + 2.0
        self._counted = 0
        self._slow_allowed = settings.concurrency * SLOW_FACTOR
        self._workers: dict[asyncio.Task[None], _Worker] = {}
        self._stopping = False
        self._given_up: dict[str, str] = {}
        self.room = asyncio.Event()
        self.followed = asyncio.Event()
        QUEUED.set_function(lanes.queued)

    def accept(self, jobs: Iterable[tuple[Subscription, Job]]) -> None:
        """Take deliveries that this process has claimed."""
        now = monotonic()
        for subscription, job in jobs:
            lane = self._lanes.lane(subscription, current=False)
            if subscription.throttled_until is not None:
                self._hold_back(lane, subscription.throttled_until)
            self._lanes.push(lane, job, now)
            if lane.starts_at > now:
                self._wake_at_end(lane)
        self.pump()

    def follow(self, subscription_id: str, stored: Subscription | None) -> None:
        """Do as the store says: None when the subscription is gone.

        What waits here for an endpoint that nothing may be sent to is given up, for ``give_up`` to tell the store.
        """
        lane = self._lanes.get(subscription_id)
        if stored is not None and (lane is not None or not stored.flowing or stored.rests_until() is not None):
            lane = self._lanes.lane(stored)
        if lane is None:
            return
        now, held = monotonic(), lane.held_until
        lane.held_until = self._held_until(stored, now)
        if lane.held_until > now or stored is None or not stored.enabled:
            self._given_up.update({job.delivery_id: job.claim for job in self._lanes.clear(subscription_id)})
            if self._given_up:
                self.followed.set()
        if lane.starts_at > now:
            self._wake_at_end(lane)
        elif held > now:
            self._go_on(lane)

    def _held_until(self, stored: Subscription | None, now: float) -> float:
        if stored is None or not stored.enabled:
            return float("-inf")
        if stored.paused:
            return now + PAUSED_SECONDS
        until = stored.rests_until()
        return float("-inf") if until is None else now + (until - self._clock.now()).total_seconds()

    def give_up(self) -> dict[str, str]:
        """The claims that were given up since the last call, by delivery."""
        given_up, self._given_up = self._given_up, {}
        return given_up

    def pump(self) -> None:
        """Start as many attempts as may run now."""
        while (turn := self._next_turn()) is not None:
            worker = _Worker(*turn)
            task = asyncio.create_task(self._work(worker))
            self._workers[task] = worker
            task.add_done_callback(self._workers.pop)

    async def stop(self, *, grace: float) -> dict[str, str]:
        """Start nothing more, let what is under way end within the grace; the claims to be given up, by delivery."""
        self._stopping = True
        claims = self.give_up() | {job.delivery_id: job.claim for job in self._lanes.clear()}
        workers = dict(self._workers)
        if workers:
            _, under_way = await asyncio.wait(workers, timeout=grace)
            for task in under_way:
                job = workers[task].job
                claims[job.delivery_id] = job.claim
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        return claims

    def _next_turn(self) -> tuple[Lane, Job] | None:
        if self._counted >= self._settings.concurrency or self._stopping or self._recorder.failing is not None:
            return None
        turn = self._lanes.next(monotonic(), needed=self._needed)
        if turn is not None:
            self._counted += 1
            if turn[0].interval and turn[0].queue:
                self._wake_at_end(turn[0])
        return turn

    async def _work(self, worker: _Worker) -> None:
        """Attempts in a row, of whatever endpoint has its turn: a task of its own for each would cost more."""
        loop = asyncio.get_running_loop()
        turn: tuple[Lane, Job] | None = (worker.lane, worker.job)
        while turn is not None:
            worker.lane, worker.job = turn
            worker.counted = True
            slow = loop.call_later(SLOW_SECONDS, self._discount, worker)
            answered = False
            try:
                answered = await self._deliver(worker.lane, worker.job)
            except Exception:
                # A defect of ours, after the attempt was handed on: nothing of the delivery is lost.
                log.exception("dispatcher.attempt_broke", delivery_id=worker.job.delivery_id)
            finally:
                slow.cancel()
                self._finished(worker, answered=answered)
            turn = self._next_turn()

    def _finished(self, worker: _Worker, *, answered: bool) -> None:
        if worker.counted:
            self._counted -= 1
        else:
            self._slow_allowed += 1
        self._lanes.finished(worker.lane, answered=answered, now=monotonic())
        if not self._lanes.fed(worker.lane):
            self.room.set()

    def _discount(self, worker: _Worker) -> None:
        if self._slow_allowed > 0:
            worker.counted = False
            self._slow_allowed -= 1
            self._counted -= 1
            self.pump()

    async def _deliver(self, lane: Lane, job: Job) -> bool:
        """Make one attempt and hand on its result; whether the endpoint answered and can take more."""
        subscription = lane.subscription
        try:
            attempt, verdict = await self._attempts.make(subscription, job)
        except UnknownKey as error:
            log.error("dispatcher.unsignable", subscription_id=subscription.id, detail=str(error))  # noqa: TRY400
            self._hold_back(lane, self._clock.now() + timedelta(seconds=UNSIGNABLE_SECONDS))
            return False
        if verdict.endpoint_gone and lane.subscription.version != subscription.version:
            # Gone is what was there before.
            verdict = Verdict(status="pending", next_at=self._clock.now())
        results = job.results or self._recorder
        results.put(Result(delivery_id=job.delivery_id, claim=job.claim, attempt=attempt, verdict=verdict))
        if verdict is DELIVERED:
            _DELIVERED.observe(attempt.duration_ms / 1000)
        else:
            _FAILED.observe(attempt.duration_ms / 1000)
            _log_failure(job, subscription, attempt, verdict)
        if self._endpoints.concerned(subscription, attempt):
            await self._observe(lane, subscription, attempt, verdict)
        return attempt.status_code is not None and attempt.error is None and verdict.throttle_until is None

    async def _observe(self, lane: Lane, subscription: Subscription, attempt: Attempt, verdict: Verdict) -> None:
        if verdict.throttle_until is not None and lane.subscription.version == subscription.version:
            self._hold_back(lane, verdict.throttle_until)
        try:
            state = await self._endpoints.observe(subscription, attempt, verdict)
        except PyMongoError as error:
            log.warning("dispatcher.endpoint_not_noted", subscription_id=subscription.id, error=type(error).__name__)
        else:
            if state is not None:
                self.follow(subscription.id, state)

    def _hold_back(self, lane: Lane, until: datetime) -> None:
        seconds = (until - self._clock.now()).total_seconds()
        # Times that were read at different moments differ by a hair; each would set a timer of its own.
        if seconds > 0 and self._lanes.block(lane, ceil((monotonic() + seconds) * 10) / 10):
            self._wake_at_end(lane)

    def _wake_at_end(self, lane: Lane) -> None:
        if not lane.armed:
            lane.armed = True
            asyncio.get_running_loop().call_later(lane.starts_at - monotonic(), self._unblocked, lane)

    def _unblocked(self, lane: Lane) -> None:
        lane.armed = False
        if lane.starts_at > monotonic():
            # A hair too early, or held back for longer meanwhile.
            self._wake_at_end(lane)
        else:
            self._go_on(lane)

    def _go_on(self, lane: Lane) -> None:
        self._lanes.offer(lane, monotonic())
        if not lane.queue:
            self.room.set()
        self.pump()


def _log_failure(job: Job, subscription: Subscription, attempt: Attempt, verdict: Verdict) -> None:
    log.info(
        "delivery.attempt_failed",
        delivery_id=job.delivery_id,
        event_id=job.notice.id,
        subscription_id=subscription.id,
        attempt=job.tries + 1,
        status_code=attempt.status_code,
        error=attempt.error,
        milliseconds=attempt.duration_ms,
        becomes=verdict.status,
        reason=verdict.reason,
        next_at=verdict.next_at.isoformat() if verdict.next_at else None,
    )
