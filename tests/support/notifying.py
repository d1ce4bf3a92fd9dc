"""Subscriptions as the notifier stores them, for tests that need one without going through its API."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from notifier.notifications import Notice
from notifier.secrets import SecretBox
from notifier.settings import key_bytes
from notifier.signing import new_secret
from notifier.subscribers import Told
from notifier.subscriptions import Owner, StoredSecret, Subscription

SECRETS_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
_BOX = SecretBox([key_bytes(SecretStr(SECRETS_KEY))])


def new_subscription(
    url: str, *, app_id: str | None = None, account_id: str | None = None, **fields: Any
) -> Subscription:
    """A subscription of the app or the account, with a secret of its own."""
    now, subscription_id = datetime.now(UTC), str(uuid4())
    return Subscription(
        id=subscription_id,
        owner=Owner(app_id=app_id, account_id=account_id),
        url=url,
        secrets=(StoredSecret(sealed=_BOX.seal(new_secret(), subscription_id=subscription_id), created_at=now),),
        created_at=now,
        updated_at=now,
        **fields,
    )


def secret_of(subscription: Subscription) -> str:
    """The secret that signs what is sent to it."""
    return _BOX.open(subscription.secrets[0].sealed, subscription_id=subscription.id)


def told(notices: Sequence[Notice]) -> list[Told]:
    """Notices as the intake takes them, from nowhere on Kafka."""
    return [Told(notice=notice) for notice in notices]
