"""Writes events and their deliveries down, many at a time, in the order in which they came.

A delivery that nobody can have sent before is handed to the dispatcher at once: where its endpoint answers promptly,
the answer is in the row when that is written, and no second statement is needed for it. What has not come to an end by
then is written as pending, held by this process, and its result follows through the recorder.

Nothing is lost by that order. An offset is committed when its rows are durable; until then a process that dies leaves
the record to the next one, which sends it again under the same id.
"""

import asyncio
from collections import Counter as CountOf
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import takewhile
from time import monotonic
from uuid import uuid4

from prometheus_client import Counter
from pymongo.errors import PyMongoError

from notifier.clock import ServerClock
from notifier.deliveries import Result, delivery_id
from notifier.delivery_documents import NewDelivery
from notifier.delivery_store import DeliveryStore
from notifier.dispatcher import Dispatcher
from notifier.lanes import Job, Lanes
from notifier.notifications import Notice
from notifier.recorder import RECORDED, Recorder
from notifier.store import EventStore, Place
from notifier.subscriptions import Subscription

DELIVERIES = Counter("notifier_deliveries_total", "Deliveries made.", ["type"])

# So long after an answer the next one of the same batch is waited for, and so long a batch waits for answers at most.
QUIET_SECONDS = 0.025
PATIENCE_SECONDS = 0.25
# What is written with one statement.
MOST_ROWS = 500
# Of subscriptions that were late: some are gone since, and the others are late again soon enough.
MOST_REMEMBERED = 10_000


class Interrupted(PyMongoError):
    """Something below was cancelled that nobody here had cancelled."""


class WaitedTooLong(PyMongoError):
    """The database is so slow that what was to be written is no longer up to date."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Planned:
    """A delivery; ``job`` where there is room for it in this process."""

    subscription: Subscription
    row: NewDelivery
    job: Job | None


@dataclass(kw_only=True, eq=False, slots=True)
class _Entry:
    """Events with their deliveries on the way to the store. Takes the results of those that are sent meanwhile."""

    notices: Sequence[tuple[Notice, Place | None]]
    recorder: Recorder
    durable: asyncio.Future[None]
    planned: list[_Planned] = field(default_factory=list)
    begun: float = field(default_factory=monotonic)
    heard: float | None = None
    ended: bool = False
    results: dict[str, Result] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    # Deliveries to subscriptions that were late before, and whom to tell when one is in time again.
    not_awaited: dict[str, str] = field(default_factory=dict)
    in_time: Callable[[str], None]

    def put(self, result: Result) -> None:
        """Take a result, for the row or, once that is written, for the recorder."""
        subscription_id = self.not_awaited.pop(result.delivery_id, None)
        if subscription_id is not None and (not self.ended or monotonic() - self.begun < QUIET_SECONDS):
            self.in_time(subscription_id)
        if self.ended:
            self.recorder.put(result)
            return
        self.results[result.delivery_id] = result
        self.heard = monotonic()
        self.awaited.discard(result.delivery_id)
        if not self.awaited:
            self.answered.set()

    def quiet(self, now: float, *, since: float | None = None) -> bool:
        """Whether waiting for more answers is in vain; where none came yet, it is known only from a time on."""
        heard = self.heard if self.heard is not None else since
        return not self.awaited or (heard is not None and now - heard >= QUIET_SECONDS)

    def rows(self) -> list[NewDelivery]:
        """The rows as they are to be written now."""
        found = [self.results.get(plan.row.id) for plan in self.planned]
        return [
            replace(plan.row, delivered=result.attempt) if result and result.verdict.status == "delivered" else plan.row
            for plan, result in zip(self.planned, found, strict=True)
        ]

    def end(self, written: Sequence[NewDelivery], error: Exception | None = None) -> None:
        """Tell whoever waits for it, and have recorded what is not in the rows that were written."""
        self.ended = True
        within = {row.id for row in written if row.delivered is not None}
        RECORDED.labels("delivered").inc(len(within))
        for result in self.results.values():
            if result.delivery_id not in within:
                self.recorder.put(result)
        self.results = {}
        if error is None:
            self.durable.set_result(None)
        else:
            self.durable.set_exception(error)
            self.durable.exception()  # whoever asked may be gone


class Writer:
    """The loop that writes. What fails fails with all that waits behind it, so that no event overtakes another.

    What was put longer than ``matched_seconds`` ago fails too, to be matched anew: subscriptions may have changed.
    """

    def __init__(
        self,
        *,
        events: EventStore,
        deliveries: DeliveryStore,
        dispatcher: Dispatcher,
        recorder: Recorder,
        lanes: Lanes,
        clock: ServerClock,
        lease_seconds: float,
        matched_seconds: float,
    ) -> None:
        self._events = events
        self._deliveries = deliveries
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._lanes = lanes
        self._clock = clock
        self._lease = lease_seconds
        self._matched = matched_seconds
        self._queue: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        # Subscriptions whose answers came too late for the rows: the others' rows need not wait for them.
        self._late: set[str] = set()
        # How often everything that waited has failed.
        self.failures = 0

    def put(
        self,
        notices: Sequence[tuple[Notice, Place | None]],
        wanted: Sequence[tuple[Notice, Subscription]],
        *,
        at_once: bool = False,
    ) -> asyncio.Future[None]:
        """Write the events and who is to be told of them; done when that is durable, or with a ``PyMongoError``.

        ``at_once``: no row of them can be there yet, so nothing has to be written before they are sent.
        """
        now, loop = self._clock.now(), asyncio.get_running_loop()
        entry = _Entry(
            notices=notices, recorder=self._recorder, durable=loop.create_future(), in_time=self._late.discard
        )
        claim, lease_until, leased = uuid4().hex, entry.begun + self._lease, now + timedelta(seconds=self._lease)
        for notice, subscription in wanted:
            held = self._lanes.reserve(subscription, entry.begun)
            row = NewDelivery(
                id=delivery_id(notice.id, subscription.id),
                event_id=notice.id,
                event_at=now,
                type=notice.type,
                subscription_id=subscription.id,
                claim=claim if held else None,
                next_at=leased if held else now,
                made_at=now,
            )
            job = Job(
                delivery_id=row.id,
                notice=notice,
                claim=claim,
                tries=0,
                started_at=now,
                lease_until=lease_until,
                results=entry if at_once else None,
            )
            entry.planned.append(_Planned(subscription=subscription, row=row, job=job if held else None))
        if at_once:
            sent = [(plan.subscription, plan.job) for plan in entry.planned if plan.job]
            for subscription, job in sent:
                if subscription.id in self._late:
                    entry.not_awaited[job.delivery_id] = subscription.id
                else:
                    entry.awaited.add(job.delivery_id)
                self._lanes.unreserve(subscription.id)
            self._dispatcher.accept(sent)
        self._queue.append(entry)
        self._wake.set()
        return entry.durable

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            while self._queue:
                await self._ripe(self._queue[0])
                group = self._group()
                try:
                    await self._write(group)
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) is not None and task.cancelling():
                        raise
                    self._fail(Interrupted())
                except Exception as error:  # noqa: BLE001 - it is told to those who wait, and decides what they do
                    self._fail(error)
            self._wake.clear()

    async def flushed(self) -> None:
        """Return when what was put until now is written, or has failed."""
        if self._queue:
            await asyncio.wait([entry.durable for entry in self._queue])

    async def _ripe(self, entry: _Entry) -> None:
        """Wait while answers come that can still be written with the rows."""
        since = monotonic()
        while not entry.quiet(now := monotonic(), since=since) and now - since < PATIENCE_SECONDS:
            left = min(QUIET_SECONDS - (now - (entry.heard or since)), PATIENCE_SECONDS - (now - since))
            try:
                async with asyncio.timeout(left):
                    await entry.answered.wait()
            except TimeoutError:
                pass

    def _remember(self, entry: _Entry) -> None:
        """Who has not answered by now is not waited for, until it answers in time again."""
        if len(self._late) > MOST_REMEMBERED:
            self._late.clear()
        self._late.update(plan.subscription.id for plan in entry.planned if plan.row.id in entry.awaited)

    def _group(self) -> list[_Entry]:
        """The first entry and those right behind it that need not wait any more."""
        now, rows = monotonic(), 0
        group: list[_Entry] = []
        for entry in takewhile(lambda each: not group or each.quiet(now), self._queue):
            rows += len(entry.planned)
            if group and rows > MOST_ROWS:
                break
            group.append(entry)
        return group

    async def _write(self, group: Sequence[_Entry]) -> None:
        if monotonic() - group[0].begun > self._matched:
            raise WaitedTooLong
        rows = [entry.rows() for entry in group]
        for entry in group:
            self._remember(entry)
        _, there = await asyncio.gather(
            self._events.add([each for entry in group for each in entry.notices]),
            self._deliveries.insert([row for some in rows for row in some], now=self._clock.now()),
        )
        first = 0
        for entry, written in zip(group, rows, strict=True):
            others = {index - first for index in there}
            self._queue.popleft()
            entry.end([row for index, row in enumerate(written) if index not in others])
            self._go_on(entry, others)
            first += len(written)

    def _go_on(self, entry: _Entry, there: set[int]) -> None:
        """Send what waited for being written, but for what was there: others have sent that, or do."""
        planned = entry.planned
        waited = self._release(entry)
        self._dispatcher.accept((planned[i].subscription, job) for i, job in waited if i not in there)
        for kind, count in CountOf(plan.row.type for plan in planned).items():
            DELIVERIES.labels(kind).inc(count)
        if not all(plan.job for plan in planned):
            self._dispatcher.room.set()

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        while self._queue:
            entry = self._queue.popleft()
            self._release(entry)
            entry.end([], error)

    def _release(self, entry: _Entry) -> list[tuple[int, Job]]:
        """What waited for being written, by its place in the entry; its room is free again.

        Jobs know their entry, so it forgets them: else memory would wait for the collector of cycles, whose pauses all
        feel.
        """
        planned, entry.planned = entry.planned, []
        waited = [(index, plan.job) for index, plan in enumerate(planned) if plan.job and plan.job.results is None]
        for index, _ in waited:
            self._lanes.unreserve(planned[index].subscription.id)
        return waited
