"""Checks every grant when it is due, on any number of replicas without a leader: leases with fencing tokens."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Gauge
from pymongo.errors import PyMongoError

from consent_gateway.checks.pacing import Pace
from consent_gateway.checks.schedule import failure_pause
from shared.backoff import Backoff

if TYPE_CHECKING:
    from consent_gateway.checks.registrations import Registrations
    from consent_gateway.checks.verification import Verification
    from consent_gateway.grants.store import Claim, GrantStore

log = structlog.get_logger(__name__)

PER_SECOND = Gauge("grant_checks_allowed_per_second", "How many checks a second this process allows itself.")

# Longer than the longest check, and the wait for its turn in here.
LEASE_SECONDS = 120.0
LONGEST_SLEEP = 1.0
BATCH = 64
# How soon a breaker that another replica opened or closed is seen.
WATCH_SECONDS = 2.0
# How soon a check is made again that the database got in the way of.
SOON_SECONDS = 2.0
# What a failing tenant may take of the slots: those that hang must not hold up those that answer.
TROUBLED_SHARE = 4


@dataclass(kw_only=True)
class _Lane:
    """Slots for checks: of grants whose last check failed, or of all others."""

    troubled: bool
    slots: int
    ready: "deque[list[Claim]]" = field(default_factory=deque)
    busy: set[str] = field(default_factory=set)


class Monitor:
    """Runs due checks, a bounded number at once and a second, and never two of the same tenant."""

    def __init__(
        self,
        grants: "GrantStore",
        verification: "Verification",
        registrations: "Registrations",
        *,
        pace: Pace,
        owner: str,
        concurrency: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._grants = grants
        self._verification = verification
        self._registrations = registrations
        self._pace = pace
        self._owner = owner
        self._clock = clock
        troubled = max(concurrency // TROUBLED_SHARE, 1)
        self._lanes = (
            _Lane(troubled=False, slots=max(concurrency - troubled, 1)),
            _Lane(troubled=True, slots=troubled),
        )
        self._tasks: set[asyncio.Task[None]] = set()
        # Leases of checks that the database got in the way of: given back as soon as it answers.
        self._kept: list[Claim] = []
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Check what is due until cancelled; a database that is away is waited for."""
        backoff = Backoff()
        watching: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    if watching is None:
                        await self._registrations.refresh()
                        watching = asyncio.create_task(self._watch())
                    await self._step()
                    backoff.reset()
                except PyMongoError as error:
                    delay = backoff.next()
                    log.warning("monitor.failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                    await asyncio.sleep(delay)
        finally:
            running = [*self._tasks, *([watching] if watching is not None else [])]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _watch(self) -> None:
        """Follow the breakers that all replicas share."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._registrations.refresh()
            except Exception as error:  # noqa: BLE001 - the next look may work
                log.warning("monitor.breakers_unknown", error=type(error).__name__)

    async def _step(self) -> None:
        self._ended.clear()
        now = self._clock()
        await self._give_back(now)
        PER_SECOND.set(self._pace.per_second)
        taken, paced = 0, False
        for lane in self._lanes:
            if len(lane.ready) * 2 < lane.slots:
                wanted = min(BATCH, lane.slots * 2)
                allowed = self._pace.take(wanted)
                paced |= allowed == 0
                taken += await self._fill(lane, now, allowed) if allowed else 0
            self._start(lane)
        if not taken:
            await self._wait(now, paced=paced)

    async def _fill(self, lane: _Lane, now: datetime, most: int) -> int:
        claims = await self._grants.claim_due(
            now=now,
            owner=self._owner,
            seconds=LEASE_SECONDS,
            most=most,
            busy_tenants=self._held_tenants(),
            resting=self._registrations.resting,
            troubled=lane.troubled,
        )
        self._pace.give_back(most - len(claims))
        lane.ready.extend(_by_tenant(claims))
        return len(claims)

    def _held_tenants(self) -> set[str]:
        ready = {claims[0].grant.tenant_id for lane in self._lanes for claims in lane.ready}
        return ready.union(*(lane.busy for lane in self._lanes))

    def _start(self, lane: _Lane) -> None:
        while lane.ready and len(lane.busy) < lane.slots:
            claims = lane.ready.popleft()
            tenant_id = claims[0].grant.tenant_id
            lane.busy.add(tenant_id)
            task = asyncio.create_task(self._check(lane, claims))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _check(self, lane: _Lane, claims: "list[Claim]") -> None:
        try:
            for _, group in groupby(claims, key=lambda claim: claim.grant.account_id):
                await self._check_account(list(group))
        except PyMongoError as error:
            self._kept += claims
            log.warning("monitor.check_failed", tenant_id=claims[0].grant.tenant_id, error=type(error).__name__)
        finally:
            lane.busy.discard(claims[0].grant.tenant_id)
            self._start(lane)
            self._ended.set()

    async def _check_account(self, claims: "list[Claim]") -> None:
        tokens = {claim.grant.permission_set_id: claim.token for claim in claims}
        leased = {claim.grant.permission_set_id for claim in claims}
        failures = max(claim.grant.health.failures for claim in claims)
        try:
            checked = await self._verification.check_claimed([claim.grant for claim in claims], tokens)
            self._pace.note(busy=checked.busy)
            leased = {grant.permission_set_id for grant in checked.leased}
        except PyMongoError:
            raise
        except Exception:
            # A defect, or an answer that nobody thought of: it must not come back at once, for ever.
            log.exception("monitor.check_crashed", tenant_id=claims[0].grant.tenant_id)
        now = self._clock()
        not_before = now + timedelta(seconds=failure_pause(failures + 4))
        still = [claim for claim in claims if claim.grant.permission_set_id in leased]
        if still:
            await self._grants.release(still, now=now, not_before=not_before)

    async def _give_back(self, now: datetime) -> None:
        """Make due again what could not be checked because of the database; one that went on elsewhere is left alone.

        Nobody waits for the leases to run out then. Nothing is claimed while the database is away, so there are never
        more of them than checks at once.
        """
        if self._kept:
            claims = list(self._kept)
            await self._grants.release(claims, now=now, not_before=now + timedelta(seconds=SOON_SECONDS))
            del self._kept[: len(claims)]

    async def _wait(self, now: datetime, *, paced: bool) -> None:
        seconds = LONGEST_SLEEP
        if paced:
            seconds = min(seconds, max(self._pace.seconds(), 0.01))
        elif not self._tasks:
            due = await self._grants.next_due(after=now, resting=self._registrations.resting)
            if due is not None:
                seconds = min(seconds, max((due - self._clock()).total_seconds(), 0.0))
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass


def _by_tenant(claims: "Iterable[Claim]") -> "list[list[Claim]]":
    """The claims tenant by tenant, each with its accounts in order."""
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.grant.tenant_id, []).append(claim)
    return [sorted(of_tenant, key=lambda one: one.grant.account_id) for of_tenant in found.values()]
