"""Signing secrets at rest: AES-256-GCM under the operator's key, bound to the subscription they belong to."""

import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_ID_BYTES = 4
_NONCE_BYTES = 12


class UnknownKey(Exception):
    """A stored secret can't be decrypted: it was written under a key that is not configured, or was tampered with."""


class SecretBox:
    """Encrypts with the first key and decrypts with any, so that the operator's key can be replaced."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._current = _key_id(keys[0])

    def seal(self, secret: str, *, subscription_id: str) -> bytes:
        """The secret as it may be stored: key id, nonce, ciphertext with tag."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, secret.encode(), subscription_id.encode())
        return self._current + nonce + sealed

    def open(self, stored: bytes, *, subscription_id: str) -> str:
        """The secret of this subscription.

        Raises:
            UnknownKey: no configured key opens it for this subscription.
        """
        cipher = self._ciphers.get(stored[:_KEY_ID_BYTES])
        if cipher is None:
            raise UnknownKey("encrypted under a key that DELIVERY__SECRETS_KEY and its predecessors don't hold")
        nonce, sealed = stored[_KEY_ID_BYTES:][:_NONCE_BYTES], stored[_KEY_ID_BYTES + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, sealed, subscription_id.encode()).decode()
        except InvalidTag:
            raise UnknownKey("not the secret of this subscription, or damaged") from None


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"key id" + key).digest()[:_KEY_ID_BYTES]
