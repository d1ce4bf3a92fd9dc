"""One attempt: sign what the delivery tells its endpoint, post it, and say what follows from the answer."""

import random
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from notifier.clock import ServerClock
from notifier.deliveries import DELIVERED, INTERNAL_ERROR, Attempt, RetryPolicy, Verdict, judge
from notifier.lanes import Job
from notifier.secrets import SecretBox
from notifier.settings import DeliverySettings
from notifier.signing import signature_header
from notifier.signing_keys import SigningKeys
from notifier.subscriptions import Subscription

log = structlog.get_logger(__name__)


class Poster(Protocol):
    """Sends one webhook."""

    async def post(self, url: str, *, body: bytes, headers: dict[str, str], owner: str) -> Attempt:
        """POST it; every failure is an outcome."""
        ...


class Attempts:
    """Makes attempts, with the keys and by the policy of each subscription."""

    def __init__(self, *, poster: Poster, box: SecretBox, clock: ServerClock, settings: DeliverySettings) -> None:
        self._poster = poster
        self._keys = SigningKeys(box)
        self._clock = clock
        self._policy = RetryPolicy(
            schedule=settings.retry_schedule,
            max_age=timedelta(seconds=settings.max_age_seconds),
            retry_after_max=settings.retry_after_max_seconds,
        )

    async def make(self, subscription: Subscription, job: Job) -> tuple[Attempt, Verdict]:
        """The attempt, and what it makes of the delivery; every failure is an outcome.

        Raises:
            UnknownKey: one of the subscription's secrets can't be decrypted, so nothing was sent.
        """
        now = self._clock.now()
        keys = self._keys.of(subscription, now)
        try:
            attempt = await self._post(subscription, job, keys, now)
        except Exception:
            # A defect of ours. It counts: what breaks each time must come to an end, and be seen by its owner.
            log.exception("attempts.broke", delivery_id=job.delivery_id)
            attempt = Attempt(at=now, duration_ms=0, error=INTERNAL_ERROR)
        return attempt, DELIVERED if attempt.succeeded else self._judge(subscription, job, attempt)

    async def _post(self, subscription: Subscription, job: Job, keys: list[bytes], now: datetime) -> Attempt:
        body = job.notice.body(subscription.owner.app_id)
        timestamp = int(now.timestamp())
        signature = signature_header(keys, message_id=job.notice.id, timestamp=timestamp, body=body)
        return await self._poster.post(
            subscription.url,
            body=body,
            headers={
                "webhook-id": job.notice.id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": signature,
            },
            owner=subscription.owner.key,
        )

    def _judge(self, subscription: Subscription, job: Job, attempt: Attempt) -> Verdict:
        return judge(
            attempt,
            tries=job.tries,
            started_at=job.started_at,
            now=self._clock.now(),
            policy=self._policy.with_schedule(subscription.retry_schedule),
            spread=random.uniform(-1, 1),  # noqa: S311 - spreads load, guards nothing
        )
