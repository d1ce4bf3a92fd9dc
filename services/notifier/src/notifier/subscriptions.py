"""Subscriptions: who owns one, what it wants to hear, whether it may be sent to. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from notifier.notifications import ENDPOINT_DISABLED, TEST_PING, Notice

DisabledReason = Literal["by_owner", "endpoint_gone", "failing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """An app of the suite, over all accounts, or an account. Exactly one of the two is set."""

    app_id: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSecret:
    """A signing secret as it lies in the store; one that was replaced signs until ``expires_at``."""

    sealed: bytes
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """An endpoint and what it is told. ``version`` grows with every change an owner makes."""

    id: str
    owner: Owner
    url: str
    event_types: frozenset[str] | None = None
    account_ids: frozenset[str] | None = None
    description: str | None = None
    enabled: bool = True
    disabled_reason: DisabledReason | None = None
    disabled_at: datetime | None = None
    secrets: tuple[StoredSecret, ...] = ()
    version: int = 1
    created_at: datetime
    updated_at: datetime
    failing_since: datetime | None = None
    throttled_until: datetime | None = None

    def wants(self, notice: Notice) -> bool:
        """Whether the notice is to be delivered here. A test goes to its one subscription and nowhere else."""
        if not self.enabled or notice.type == TEST_PING or not notice.concerns(self.owner.app_id):
            return False
        if notice.type == ENDPOINT_DISABLED and notice.data.get("subscription_id") == self.id:
            return False
        if self.owner.account_id is not None and notice.account_id != self.owner.account_id:
            return False
        if self.account_ids is not None and notice.account_id is not None and notice.account_id not in self.account_ids:
            return False
        if self.event_types is None:
            return not notice.platform
        return notice.type in self.event_types

    def live_secrets(self, now: datetime) -> tuple[StoredSecret, ...]:
        """The secrets that sign at this moment, the newest first."""
        return tuple(secret for secret in self.secrets if secret.expires_at is None or secret.expires_at > now)


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
