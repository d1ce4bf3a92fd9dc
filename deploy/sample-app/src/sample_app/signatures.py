"""Verifies the signature of a push with the ``standardwebhooks`` package, and guards against its rough edges."""

from collections.abc import Iterable, Mapping

from standardwebhooks import Webhook, WebhookVerificationError
from standardwebhooks.webhooks import EmptyWebhookSecretError


def signer(body: bytes, headers: Mapping[str, str], secrets: Iterable[tuple[str, str]]) -> str | None:
    """The app whose secret signed this push, or None.

    Args:
        body: the raw bytes, before any JSON parser has seen them.
        headers: the request's headers.
        secrets: pairs of app id and secret. An app may have several while one replaces another, and the package
            takes one secret at a time, so each is tried.

    The package compares in constant time and refuses a ``webhook-timestamp`` more than five minutes off. Beside
    ``WebhookVerificationError`` it lets a plain ``ValueError`` out for a signature without a comma, for bad base64 and
    for a body that is not UTF-8 (version 1.1.0): a stranger's header must be a refusal here, never a 500.
    """
    for app_id, secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, EmptyWebhookSecretError, ValueError):
            continue
        return app_id
    return None
