"""What attempts say about an endpoint as a whole: gone, overloaded, failing for days, working again."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter

from notifier.clock import ServerClock
from notifier.deliveries import Attempt, Verdict
from notifier.delivery_store import DeliveryStore
from notifier.notifications import Notice, endpoint_disabled
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import DisabledReason, Subscription

log = structlog.get_logger(__name__)

DISABLED = Counter("notifier_endpoints_disabled_total", "Endpoints disabled by us.", ["reason"])

Announce = Callable[[list[Notice]], Awaitable[None]]


class Endpoints:
    """Keeps the state of endpoints in their subscriptions, where every replica reads it; writes only changes."""

    def __init__(
        self,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        clock: ServerClock,
        *,
        disable_after: timedelta,
        announce: Announce,
    ) -> None:
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._clock = clock
        self._disable_after = disable_after
        self._announce = announce
        # By subscription, with the version that failed: an owner's change gives the endpoint a new start.
        self._failing: dict[str, tuple[int, datetime]] = {}

    def concerned(self, subscription: Subscription, attempt: Attempt) -> bool:
        """Whether the attempt changes anything; the usual one doesn't, and costs no write."""
        known = subscription.id in self._failing or subscription.failing_since is not None
        return known if attempt.succeeded else True

    async def observe(self, subscription: Subscription, attempt: Attempt, verdict: Verdict) -> bool:
        """Note what an attempt showed; True when nothing more may be sent there. Safe to repeat.

        Raises:
            PyMongoError: it could not be noted; the next attempt will show it again.
        """
        now = self._clock.now()
        if attempt.succeeded:
            self._failing.pop(subscription.id, None)
            await self._subscriptions.note_failing(subscription.id, None)
            return False
        if verdict.endpoint_gone:
            await self._disable(subscription, "endpoint_gone", now=now)
            return True
        if verdict.throttle_until is not None:
            await self._subscriptions.throttle(subscription.id, verdict.throttle_until)
        version, since = self._failing.get(subscription.id, (0, now))
        if version != subscription.version:
            since = subscription.failing_since or now
            self._failing[subscription.id] = (subscription.version, since)
            await self._subscriptions.note_failing(subscription.id, since)
        return now - since > self._disable_after and await self._disable_failing(subscription, now=now)

    async def _disable_failing(self, subscription: Subscription, *, now: datetime) -> bool:
        """Unless it has worked at another replica, which the store knows."""
        self._failing.pop(subscription.id, None)
        stored = (await self._subscriptions.by_ids([subscription.id])).get(subscription.id)
        since = stored.failing_since if stored is not None else None
        if since is None or now - since <= self._disable_after:
            return False
        await self._disable(subscription, "failing", now=now)
        return True

    async def _disable(self, subscription: Subscription, reason: DisabledReason, *, now: datetime) -> None:
        """Tell the owner at the other endpoints, then send nothing more there and end what is pending.

        In this order, and each step idempotent: after a crash the next attempt begins again, and the owner is told.
        """
        notice = endpoint_disabled(
            at=now,
            subscription_id=subscription.id,
            version=subscription.version,
            url=subscription.url,
            reason=reason,
            app_id=subscription.owner.app_id,
            account_id=subscription.owner.account_id,
        )
        await self._announce([notice])
        disabled = await self._subscriptions.disable(subscription.id, reason, now=now)
        ended = await self._deliveries.end_all(subscription.id, reason="subscription_disabled", now=now)
        self._failing.pop(subscription.id, None)
        if disabled is not None:
            DISABLED.labels(reason).inc()
            log.warning("endpoint.disabled", subscription_id=subscription.id, reason=reason, deliveries_ended=ended)
