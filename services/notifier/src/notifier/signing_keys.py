"""The keys that sign for a subscription, decrypted once."""

from datetime import datetime

from notifier.secrets import SecretBox
from notifier.signing import key_of
from notifier.subscriptions import Subscription

KEYS_CACHED = 4096


class SigningKeys:
    """Decrypted keys of subscriptions, kept for as long as their secrets stay the same."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box
        self._known: dict[bytes, bytes] = {}

    def of(self, subscription: Subscription, now: datetime) -> list[bytes]:
        """The keys that sign at this moment, the newest first.

        Raises:
            UnknownKey: one of the secrets can't be decrypted.
        """
        return [
            self._known.get(secret.sealed) or self._key(secret.sealed, subscription.id)
            for secret in subscription.live_secrets(now)
        ]

    def _key(self, sealed: bytes, subscription_id: str) -> bytes:
        if len(self._known) >= KEYS_CACHED:
            self._known.clear()
        key = self._known[sealed] = key_of(self._box.open(sealed, subscription_id=subscription_id))
        return key
