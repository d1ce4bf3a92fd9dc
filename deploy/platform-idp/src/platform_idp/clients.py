"""The clients that may ask for tokens, and how they prove who they are."""

import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import unquote_plus

from platform_idp.errors import OAuthError
from platform_idp.settings import Settings


class ClientKind(Enum):
    """What a client is, and with that, which grants it may use."""

    CONSOLE = "console"
    APP = "app"


@dataclass(frozen=True, slots=True)
class Client:
    """A confidential client. An app's ``id`` is its app id."""

    id: str
    secret: str = field(repr=False)
    kind: ClientKind


class Clients:
    """All registered clients."""

    def __init__(self, settings: Settings) -> None:
        console = Client(
            settings.console.client_id, settings.console.client_secret.get_secret_value(), ClientKind.CONSOLE
        )
        app_secret = settings.apps.client_secret.get_secret_value()
        apps = (Client(app_id, app_secret, ClientKind.APP) for app_id in settings.apps.ids)
        self._by_id = {client.id: client for client in (console, *apps)}

    def is_app(self, client_id: str) -> bool:
        """Whether this is the id of an app of the suite."""
        client = self._by_id.get(client_id)
        return client is not None and client.kind is ClientKind.APP

    def authenticate(self, authorization: str | None, form: Mapping[str, str]) -> Client:
        """The client of a request to the token endpoint, by ``client_secret_basic`` or ``client_secret_post``.

        Raises:
            OAuthError: ``invalid_client`` for an unknown client or wrong secret, ``invalid_request`` for two
                methods at once (RFC 6749, section 2.3).
        """
        basic = authorization is not None
        if basic:
            if "client_secret" in form:
                raise OAuthError("invalid_request", "use one method of client authentication, not two")
            client_id, secret = _basic_credentials(authorization or "")
            if form.get("client_id", client_id) != client_id:
                raise OAuthError("invalid_request", "client_id differs from the one in the Authorization header")
        else:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        client = self._by_id.get(client_id)
        expected = client.secret if client else secrets.token_urlsafe()
        if not secrets.compare_digest(expected.encode(), secret.encode()) or client is None:
            raise OAuthError("invalid_client", "unknown client or wrong secret", status=401, challenge=basic)
        return client


def _basic_credentials(authorization: str) -> tuple[str, str]:
    """Id and secret, each form-urlencoded inside the header (RFC 6749, section 2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        decoded = ""
    client_id, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise OAuthError("invalid_client", "the Authorization header is not HTTP Basic", status=401, challenge=True)
    return unquote_plus(client_id), unquote_plus(secret)
