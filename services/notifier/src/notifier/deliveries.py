"""The life of a delivery: what an attempt's outcome makes of it, and when the next attempt is due. Pure.

``pending`` until an endpoint answers 2xx (``delivered``) or nothing more will be tried (``dead``, with a reason).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

Status = Literal["pending", "delivered", "dead"]
DeadReason = Literal[
    "attempts_exhausted",
    "too_old",
    "endpoint_gone",
    "subscription_disabled",
    "subscription_deleted",
    "payload_expired",
    "payload_expunged",
]

# Standard Webhooks: "429, 502 and 504: the consumer is overloaded, throttle"; 410: "disable the endpoint".
_THROTTLING = frozenset({429, 502, 504})
_HONOURS_RETRY_AFTER = _THROTTLING | {503}
_GONE = 410
JITTER = 0.2
# What an attempt says that failed through a defect of ours, or for want of our proxy: nothing about the endpoint.
INTERNAL_ERROR = "internal_error"
PROXY_UNREACHABLE = "proxy_unreachable"
OURS = frozenset({INTERNAL_ERROR, PROXY_UNREACHABLE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One POST: either a status code came back or an error says why none did."""

    at: datetime
    duration_ms: int
    status_code: int | None = None
    error: str | None = None
    retry_after: str | None = None
    response_body: str = ""
    truncated: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the endpoint took the message: a complete answer with a 2xx status."""
        return self.error is None and self.status_code is not None and 200 <= self.status_code < 300


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How long to go on, and how often."""

    schedule: Sequence[float]
    max_age: timedelta
    retry_after_max: float
    throttle: float = 5.0

    def with_schedule(self, schedule: Sequence[float] | None) -> "RetryPolicy":
        """This one, with an endpoint's own schedule where it has one."""
        return self if schedule is None else replace(self, schedule=schedule)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What becomes of the delivery, and of its endpoint: ``throttle_until`` holds back all deliveries to it."""

    status: Status
    next_at: datetime | None = None
    reason: DeadReason | None = None
    throttle_until: datetime | None = None
    endpoint_gone: bool = False


DELIVERED = Verdict(status="delivered")


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """An attempt with what it means, to be written under the claim that it was made with."""

    delivery_id: str
    claim: str
    attempt: Attempt
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A delivery as its subscription's owner sees it; ``attempts`` holds the latest ones."""

    id: str
    event_id: str
    type: str
    subscription_id: str
    status: Status
    reason: DeadReason | None
    created_at: datetime
    next_at: datetime | None
    ended_at: datetime | None
    attempts: tuple[Attempt, ...]
    expunged_at: datetime | None = None


def delivery_id(event_id: str, subscription_id: str) -> str:
    """The one id of an event's delivery to a subscription; inserting it twice changes nothing."""
    return hashlib.blake2b(f"{event_id} {subscription_id}".encode(), digest_size=16).hexdigest()


def judge(
    attempt: Attempt, *, tries: int, started_at: datetime, now: datetime, policy: RetryPolicy, spread: float
) -> Verdict:
    """What follows from an attempt.

    Args:
        attempt: the one just made.
        tries: how many were made before it, since ``started_at``.
        started_at: when the delivery was made, or was last resent.
        now: the end of the attempt.
        policy: the schedule and its bounds.
        spread: a random number in [-1, 1]; retries that began together must not stay together.
    """
    if attempt.succeeded:
        return DELIVERED
    if attempt.status_code == _GONE:
        return Verdict(status="dead", reason="endpoint_gone", endpoint_gone=True)
    asked = _asked_to_wait(attempt, now, policy)
    throttle_until = None
    if attempt.status_code in _THROTTLING:
        throttle_until = now + timedelta(seconds=asked if asked is not None else policy.throttle)
    if tries >= len(policy.schedule):
        return Verdict(status="dead", reason="attempts_exhausted", throttle_until=throttle_until)
    wait = policy.schedule[tries] * (1 + JITTER * spread)
    next_at = now + timedelta(seconds=max(wait, asked or 0.0))
    if next_at - started_at > policy.max_age:
        return Verdict(status="dead", reason="too_old", throttle_until=throttle_until)
    return Verdict(status="pending", next_at=next_at, throttle_until=throttle_until)


def retry_after_seconds(value: str, *, now: datetime) -> float | None:
    """The wait that ``Retry-After`` asks for, in either of its forms (RFC 9110, 10.2.3); None if it is neither."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        at = parsedate_to_datetime(text)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return max(0.0, (at - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        # The header is a stranger's: a year beyond a C integer, a zone beyond a day, anything.
        return None


def _asked_to_wait(attempt: Attempt, now: datetime, policy: RetryPolicy) -> float | None:
    if attempt.retry_after is None or attempt.status_code not in _HONOURS_RETRY_AFTER:
        return None
    asked = retry_after_seconds(attempt.retry_after, now=now)
    return None if asked is None else min(asked, policy.retry_after_max)
