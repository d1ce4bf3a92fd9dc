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
        self._failing_since: dict[str, datetime] = {}

    def concerned(self, subscription: Subscription, attempt: Attempt) -> bool:
        """Whether the attempt changes anything; the usual one doesn't, and costs no write."""
        known = subscription.id in self._failing_since or subscription.failing_since is not None
        return known if attempt.succeeded else True

    async def observe(self, subscription: Subscription, attempt: Attempt, verdict: Verdict) -> bool:
        """Note what an attempt showed; True when nothing more may be sent there. Safe to repeat.

        Raises:
            PyMongoError: it could not be noted; the next attempt will show it again.
        """
        now = self._clock.now()
        if attempt.succeeded:
            self._failing_since.pop(subscription.id, None)
            await self._subscriptions.note_failing(subscription.id, None)
            return False
        if verdict.endpoint_gone:
            await self._disable(subscription, "endpoint_gone", now=now)
            return True
        if verdict.throttle_until is not None:
            await self._subscriptions.throttle(subscription.id, verdict.throttle_until)
        since = self._failing_since.get(subscription.id) or subscription.failing_since
        if since is None:
            self._failing_since[subscription.id] = now
            await self._subscriptions.note_failing(subscription.id, now)
        elif now - since > self._disable_after:
            await self._disable(subscription, "failing", now=now)
            return True
        return False

    async def _disable(self, subscription: Subscription, reason: DisabledReason, *, now: datetime) -> None:
        """Send nothing more there: end what is pending, and tell the owner at the other endpoints."""
        disabled = await self._subscriptions.disable(subscription.id, reason, now=now)
        ended = await self._deliveries.end_all(subscription.id, reason="subscription_disabled", now=now)
        self._failing_since.pop(subscription.id, None)
        if disabled is None:
            return
        DISABLED.labels(reason).inc()
        log.warning("endpoint.disabled", subscription_id=subscription.id, reason=reason, deliveries_ended=ended)
        await self._announce(
            [
                endpoint_disabled(
                    at=now,
                    subscription_id=subscription.id,
                    url=subscription.url,
                    reason=reason,
                    app_id=subscription.owner.app_id,
                    account_id=subscription.owner.account_id,
                )
            ]
        )
