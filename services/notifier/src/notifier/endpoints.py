"""What attempts say about an endpoint as a whole: gone, overloaded, not working, failing for days, working again.

Whatever is written holds for the version of the subscription that the attempt was made with: an answer of an address
that its owner has replaced meanwhile says nothing about the new one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter
from pymongo.errors import PyMongoError

from notifier.clock import ServerClock
from notifier.deliveries import OURS, Attempt, Verdict
from notifier.delivery_store import DeliveryStore
from notifier.notifications import Notice, endpoint_disabled
from notifier.settings import DeliverySettings
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import DisabledReason, Disabling, Subscription

log = structlog.get_logger(__name__)

DISABLED = Counter("notifier_endpoints_disabled_total", "Endpoints disabled by us.", ["reason"])
TRIPPED = Counter("notifier_endpoints_tripped_total", "Times that an endpoint was given a rest because it failed.")

# Days without a success are no reason while next to nothing was tried in them.
DISABLING_FAILURES = 5
# How soon what a dead process left half done is finished.
UNTOLD_SECONDS = 10.0

Announce = Callable[[Notice], Awaitable[None]]


@dataclass(slots=True)
class _Trouble:
    """An endpoint that only fails, as seen by this process."""

    version: int
    since: datetime
    failures: int = 0


class Endpoints:
    """Keeps the state of endpoints in their subscriptions, where every replica reads it; writes only changes."""

    def __init__(
        self,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        clock: ServerClock,
        *,
        settings: DeliverySettings,
        announce: Announce,
    ) -> None:
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._clock = clock
        self._settings = settings
        self._disable_after = timedelta(seconds=settings.disable_after_seconds)
        self._announce = announce
        self._failing: dict[str, _Trouble] = {}

    def concerned(self, subscription: Subscription, attempt: Attempt) -> bool:
        """Whether the attempt changes anything; the usual one doesn't, and costs no write."""
        if attempt.succeeded:
            return subscription.id in self._failing or subscription.failing_since is not None or subscription.trips > 0
        return attempt.error not in OURS

    async def observe(self, subscription: Subscription, attempt: Attempt, verdict: Verdict) -> Subscription | None:
        """Note what an attempt showed; the endpoint's new state, if it led to one. Safe to repeat.

        Raises:
            PyMongoError: it could not be noted; the next attempt will show it again.
        """
        now = self._clock.now()
        if attempt.succeeded:
            self._failing.pop(subscription.id, None)
            return await self._subscriptions.note_working(subscription)
        if verdict.endpoint_gone:
            return await self._disable(subscription, "endpoint_gone", now=now)
        if verdict.throttle_until is not None:
            await self._subscriptions.throttle(subscription, verdict.throttle_until)
        trouble = self._failing.get(subscription.id)
        if trouble is None or trouble.version != subscription.version:
            trouble = _Trouble(version=subscription.version, since=subscription.failing_since or now)
            self._failing[subscription.id] = trouble
            await self._subscriptions.note_failing(subscription, trouble.since)
        trouble.failures += 1
        if now - trouble.since > self._disable_after and trouble.failures >= DISABLING_FAILURES:
            return await self._disable_failing(subscription, now=now)
        if trouble.failures >= self._settings.breaker_failures or subscription.trips:
            return await self._trip(subscription, now=now)
        return None

    async def run(self) -> None:
        """Finish the disabling of endpoints whose process died over it, and forget who is gone, until cancelled."""
        while True:
            try:
                before = self._clock.now() - timedelta(seconds=UNTOLD_SECONDS)
                for disabling in await self._subscriptions.untold(before=before):
                    await self._retire(disabling)
                await self._forget()
            except PyMongoError as error:
                log.warning("endpoints.failed", error=type(error).__name__)
            await asyncio.sleep(UNTOLD_SECONDS)

    async def _forget(self) -> None:
        """Drop what is remembered of endpoints that were deleted, disabled or changed: no attempt of theirs will."""
        known = dict(self._failing)
        stored = await self._subscriptions.by_ids(known) if known else {}
        for key, trouble in known.items():
            state = stored.get(key)
            ended = state is None or not state.enabled or state.version > trouble.version
            # What failed anew meanwhile is of a state that is newer than the one read here.
            if ended and self._failing.get(key) is trouble:
                del self._failing[key]

    async def _trip(self, subscription: Subscription, *, now: datetime) -> Subscription | None:
        """Let the endpoint rest, each time for longer. What waits for it waits in the store, and loses no attempt."""
        settings = self._settings
        seconds = min(settings.breaker_max_seconds, settings.breaker_seconds * 2 ** min(subscription.trips, 30))
        tripped = await self._subscriptions.trip(subscription, until=now + timedelta(seconds=seconds))
        if tripped is not None:
            TRIPPED.inc()
            log.info("endpoint.tripped", subscription_id=subscription.id, trips=tripped.trips, seconds=round(seconds))
        return tripped

    async def _disable_failing(self, subscription: Subscription, *, now: datetime) -> Subscription | None:
        """Unless it has worked at another replica, which the store knows."""
        self._failing.pop(subscription.id, None)
        stored = (await self._subscriptions.by_ids([subscription.id])).get(subscription.id)
        since = stored.failing_since if stored is not None else None
        if since is None or now - since <= self._disable_after:
            return None
        return await self._disable(subscription, "failing", now=now)

    async def _disable(
        self, subscription: Subscription, reason: DisabledReason, *, now: datetime
    ) -> Subscription | None:
        """Send nothing more there; then tell the owner, and end what is pending.

        That the owner is still to be told is written in the same step, so that another process does it after a crash.
        """
        disabled = await self._subscriptions.disable(subscription, reason, now=now)
        if disabled is None:
            return None
        self._failing.pop(subscription.id, None)
        DISABLED.labels(reason).inc()
        log.warning("endpoint.disabled", subscription_id=subscription.id, reason=reason)
        await self._retire(
            Disabling(
                subscription_id=subscription.id,
                owner=subscription.owner,
                version=subscription.version,
                url=subscription.url,
                reason=reason,
                at=now,
            )
        )
        return disabled

    async def _retire(self, disabling: Disabling) -> None:
        """Idempotent, as a whole and in each step."""
        notice = endpoint_disabled(
            at=disabling.at,
            subscription_id=disabling.subscription_id,
            version=disabling.version,
            url=disabling.url,
            reason=disabling.reason,
            app_id=disabling.owner.app_id,
            account_id=disabling.owner.account_id,
        )
        await self._announce(notice)
        now = self._clock.now()
        ended = await self._deliveries.end_all(
            disabling.subscription_id, reason="subscription_disabled", before=disabling.at, now=now
        )
        await self._subscriptions.told(disabling)
        log.info("endpoint.retired", subscription_id=disabling.subscription_id, deliveries_ended=ended)
