"""Checks every grant when it is due, on any number of replicas without a leader: leases with fencing tokens."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import structlog
from pymongo.errors import PyMongoError

from shared.backoff import Backoff

if TYPE_CHECKING:
    from consent_gateway.grant_store import Claim, GrantStore
    from consent_gateway.verification import Verification

log = structlog.get_logger(__name__)

# Longer than the longest check: five resources, each with a bounded token request and a Graph read.
LEASE_SECONDS = 120.0
LONGEST_SLEEP = 1.0


class Monitor:
    """Runs due checks, a bounded number at once, and never two of the same tenant."""

    def __init__(
        self,
        grants: "GrantStore",
        verification: "Verification",
        *,
        owner: str,
        concurrency: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._grants = grants
        self._verification = verification
        self._owner = owner
        self._concurrency = concurrency
        self._clock = clock
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Check what is due until cancelled; a database that is away is waited for."""
        backoff = Backoff()
        try:
            while True:
                try:
                    await self._hand_out()
                    backoff.reset()
                except PyMongoError as error:
                    delay = backoff.next()
                    log.warning("monitor.failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                    await asyncio.sleep(delay)
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _hand_out(self) -> None:
        self._ended.clear()
        claim: Claim | None = None
        if len(self._busy) < self._concurrency:
            claim = await self._grants.claim_due(
                now=self._clock(), owner=self._owner, seconds=LEASE_SECONDS, busy_tenants=self._busy.keys()
            )
        if claim is not None:
            self._start(claim)
            return
        await self._wait()

    def _start(self, claim: "Claim") -> None:
        tenant_id = claim.grant.tenant_id
        task = asyncio.create_task(self._check(claim))
        self._busy[tenant_id] = task
        task.add_done_callback(lambda _: self._free(tenant_id))

    def _free(self, tenant_id: str) -> None:
        self._busy.pop(tenant_id, None)
        self._ended.set()

    async def _check(self, claim: "Claim") -> None:
        grant = claim.grant
        try:
            await self._verification.check(
                grant.account_id, grant.tenant_id, {grant.permission_set_id}, token=claim.token
            )
            await self._grants.release(grant, token=claim.token)
        except PyMongoError as error:
            # The lease runs out by itself, and the grant is as due as before.
            log.warning("monitor.check_failed", tenant_id=grant.tenant_id, error=type(error).__name__)

    async def _wait(self) -> None:
        due = await self._grants.next_due()
        seconds = LONGEST_SLEEP
        if due is not None:
            seconds = min(seconds, max((due - self._clock()).total_seconds(), 0.05))
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass
