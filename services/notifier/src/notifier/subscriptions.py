"""Subscriptions: who owns one, what it wants to hear, whether it may be sent to. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from notifier.notifications import ENDPOINT_DISABLED, TEST_PING, Notice

# Clocks differ, and who subscribes now means everything from about now on.
OLD_NEWS = timedelta(minutes=5)

DisabledReason = Literal["by_owner", "endpoint_gone", "failing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """An app of the suite, over all accounts, or an account. Exactly one of the two is set."""

    app_id: str | None = None
    account_id: str | None = None

    @property
    def key(self) -> str:
        """One word for it; apps and accounts may have the same names."""
        return f"app:{self.app_id}" if self.app_id is not None else f"account:{self.account_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSecret:
    """A signing secret as it lies in the store; one that was replaced signs until ``expires_at``."""

    sealed: bytes
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """An endpoint and what it is told.

    ``version`` grows with every change an owner makes, and gives the endpoint a new start: what an attempt showed of an
    earlier version says nothing about this one. ``hears_from`` is when it began to listen: None for since ever.
    ``retry_schedule`` holds the waits between attempts in seconds: None for the platform's. ``trips`` counts how often
    in a row it was found not to work; until ``open_until`` nothing is sent there then.
    """

    id: str
    owner: Owner
    url: str
    event_types: frozenset[str] | None = None
    account_ids: frozenset[str] | None = None
    permission_set_ids: frozenset[str] | None = None
    description: str | None = None
    concurrency: int | None = None
    rate_limit: float | None = None
    retry_schedule: tuple[float, ...] | None = None
    paused: bool = False
    enabled: bool = True
    disabled_reason: DisabledReason | None = None
    disabled_at: datetime | None = None
    secrets: tuple[StoredSecret, ...] = ()
    version: int = 1
    created_at: datetime
    updated_at: datetime
    failing_since: datetime | None = None
    throttled_until: datetime | None = None
    hears_from: datetime | None = None
    open_until: datetime | None = None
    trips: int = 0

    @property
    def flowing(self) -> bool:
        """Whether new deliveries may be sent at once, as far as is known here; the others wait in the store."""
        return self.enabled and not self.paused and not self.trips

    def rests_until(self) -> datetime | None:
        """Until when nothing is sent, because the endpoint asked for it or doesn't work."""
        return max(filter(None, (self.throttled_until, self.open_until)), default=None)

    def wants(self, notice: Notice) -> bool:
        """Whether the notice is to be delivered here. A test goes to its one subscription and nowhere else."""
        if not self.enabled or notice.type == TEST_PING or not notice.concerns(self.owner.app_id):
            return False
        if notice.type == ENDPOINT_DISABLED and notice.data.get("subscription_id") == self.id:
            return False
        if self.owner.account_id is not None and notice.account_id != self.owner.account_id:
            return False
        if not self._lets_through(notice):
            return False
        return notice.type in self.event_types if self.event_types is not None else not notice.platform

    def _lets_through(self, notice: Notice) -> bool:
        """Whether it names none of the things that are filtered by, or one that is wanted."""
        if self.account_ids is not None and notice.account_id is not None and notice.account_id not in self.account_ids:
            return False
        sets = notice.permission_sets()
        return self.permission_set_ids is None or not sets or not self.permission_set_ids.isdisjoint(sets)

    def hears(self, written_at: datetime) -> bool:
        """Whether what was written to Kafka then is news here, rather than old news that is read once more."""
        return self.hears_from is None or written_at >= self.hears_from - OLD_NEWS

    def live_secrets(self, now: datetime) -> tuple[StoredSecret, ...]:
        """The secrets that sign at this moment, the newest first."""
        return tuple(secret for secret in self.secrets if secret.expires_at is None or secret.expires_at > now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Disabling:
    """That an endpoint was disabled by us, at the version that the reason came up at."""

    subscription_id: str
    owner: Owner
    version: int
    url: str
    reason: DisabledReason
    at: datetime


def recipients(notices: Sequence[Notice], subscriptions: Iterable[Subscription]) -> list[tuple[Notice, Subscription]]:
    """Each notice with each subscription that wants it, notices in their order."""
    by_app: dict[str, list[Subscription]] = {}
    by_account: dict[str, list[Subscription]] = {}
    for subscription in subscriptions:
        if subscription.owner.app_id is not None:
            by_app.setdefault(subscription.owner.app_id, []).append(subscription)
        elif subscription.owner.account_id is not None:
            by_account.setdefault(subscription.owner.account_id, []).append(subscription)
    return [
        (notice, subscription)
        for notice in notices
        for subscription in _candidates(notice, by_app, by_account)
        if subscription.wants(notice)
    ]


def _candidates(
    notice: Notice, by_app: Mapping[str, list[Subscription]], by_account: Mapping[str, list[Subscription]]
) -> Iterable[Subscription]:
    for app_id in by_app if notice.platform else notice.apps():
        yield from by_app.get(app_id, ())
    if notice.account_id is not None:
        yield from by_account.get(notice.account_id, ())
