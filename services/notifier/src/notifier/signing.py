"""Signatures of Standard Webhooks 1.0, scheme ``v1``: HMAC-SHA256 over ``{id}.{timestamp}.{body}``."""

import base64
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
# The specification asks for 24 to 64 random bytes.
SECRET_BYTES = 32


def new_secret() -> str:
    """A secret as its receiver configures it: ``whsec_`` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The key inside a secret; padding may be missing.

    Raises:
        ValueError: the secret is empty or isn't base64.
    """
    text = secret.removeprefix(PREFIX).rstrip("=")
    key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if not key:
        raise ValueError("an empty secret signs nothing")
    return key


def signature_header(keys: Iterable[bytes], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one signature per key, so that a receiver may hold an old or a new secret.

    ``timestamp`` is the second of this attempt, not of the event: receivers refuse what is older than minutes.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    return " ".join("v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
