"""The console's OpenID Provider: discovery, the authorization request, the code's exchange, the ID token.

OpenID Connect Core 1.0 (code flow) with PKCE (RFC 7636) and the issuer check of RFC 9207.
"""

import base64
import hashlib
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from consent_gateway.settings import ConsoleSettings
from consent_gateway.web.security import origin_of
from consent_gateway.web.sessions import Identity
from shared.auth import InvalidToken, KeySet, KeysUnavailable, TokenVerifier, principal_of

log = structlog.get_logger(__name__)

DISCOVERY_FRESH_SECONDS = 600.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ProviderUnavailable(Exception):
    """The provider can't be reached, or answers with something that is not usable; it is worth another try."""


class SignInRefused(Exception):
    """The provider's answer is not one to be trusted, or it said no. The message is for our log."""


class Discovery(BaseModel):
    """What is read of the discovery document (OpenID Connect Discovery 1.0, section 3)."""

    model_config = ConfigDict(frozen=True)

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None = None
    authorization_response_iss_parameter_supported: bool = False


@dataclass(frozen=True)
class _Known:
    discovery: Discovery
    verifier: TokenVerifier
    read_at: float


class Provider:
    """One issuer, as this client sees it. The discovery document is read when it is first needed.

    ``metadata_url`` is where it is read, if services reach the issuer by another name than browsers do.
    """

    def __init__(
        self,
        settings: ConsoleSettings,
        *,
        redirect_uri: str,
        client: httpx.AsyncClient,
        metadata_url: str | None = None,
    ) -> None:
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._client = client
        self._metadata_url = metadata_url or f"{settings.issuer}/.well-known/openid-configuration"
        self._known: _Known | None = None

    async def authorization_url(self, *, state: str, nonce: str, code_verifier: str) -> str:
        """Where to send the browser.

        Raises:
            ProviderUnavailable: the discovery document can't be read.
        """
        challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = (await self._read()).discovery.authorization_endpoint
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def redeem(self, *, code: str, code_verifier: str, nonce: str, iss: str | None) -> Identity:
        """Whom the code stands for.

        Raises:
            SignInRefused: the code, or what it was exchanged for, is not valid here.
            ProviderUnavailable: the provider doesn't answer.
        """
        known = await self._read()
        expected = known.discovery.issuer
        if iss != expected and (iss is not None or known.discovery.authorization_response_iss_parameter_supported):
            raise SignInRefused("the answer names another issuer")
        tokens = await self._exchange(known.discovery.token_endpoint, code=code, code_verifier=code_verifier)
        try:
            claims = await known.verifier.claims(tokens["id_token"])
            if claims.get("nonce") != nonce:
                raise SignInRefused("the ID token belongs to another sign-in")
            if claims["aud"] not in (self._settings.client_id, [self._settings.client_id]):
                raise SignInRefused("the ID token has a further audience")
            principal = principal_of(claims)
        except InvalidToken as error:
            raise SignInRefused(str(error)) from None
        except KeysUnavailable:
            raise ProviderUnavailable("no keys") from None
        name = claims.get("name")
        return Identity(principal=principal, name=name if isinstance(name, str) else None, **tokens)

    async def end_session_url(self, *, id_token: str, return_to: str) -> str | None:
        """Where a browser ends its sign-in at the provider too (RP-Initiated Logout 1.0), if there is such a place."""
        try:
            endpoint = (await self._read()).discovery.end_session_endpoint
        except ProviderUnavailable:
            return None
        query = {
            "id_token_hint": id_token,
            "post_logout_redirect_uri": return_to,
            "client_id": self._settings.client_id,
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}" if endpoint else None

    async def authorization_origin(self) -> str:
        """The origin of the page that people sign in on, and sign out on."""
        return origin_of((await self._read()).discovery.authorization_endpoint)

    async def _exchange(self, endpoint: str, *, code: str, code_verifier: str) -> dict[str, str]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": code_verifier,
        }
        secret = self._settings.client_secret.get_secret_value()
        # RFC 6749, 2.3.1: both parts are form-encoded before they become a user name and a password.
        credentials = httpx.BasicAuth(quote(self._settings.client_id, safe=""), quote(secret, safe=""))
        try:
            answer = await self._client.post(endpoint, data=form, auth=credentials)
            body: Any = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderUnavailable(type(error).__name__) from None
        if answer.status_code >= 500:
            raise ProviderUnavailable(f"status {answer.status_code}")
        if answer.is_error or not isinstance(body, dict):
            said = body.get("error") if isinstance(body, dict) else None
            if said == "invalid_client":
                log.error("console.client_refused", action="check CONSOLE__CLIENT_ID and CONSOLE__CLIENT_SECRET")
            raise SignInRefused(f"the token endpoint says {str(said)[:40]!r}")
        tokens = {name: body.get(name) for name in ("access_token", "id_token")}
        if not all(isinstance(value, str) and value for value in tokens.values()):
            raise SignInRefused("the token endpoint gave no ID token")
        return {name: str(value) for name, value in tokens.items()}

    async def _read(self) -> _Known:
        known = self._known
        if known is not None and monotonic() - known.read_at < DISCOVERY_FRESH_SECONDS:
            return known
        try:
            answer = await self._client.get(self._metadata_url)
            answer.raise_for_status()
            discovery = Discovery.model_validate_json(answer.content)
            self._check(discovery)
        except (httpx.HTTPError, ValidationError, ValueError) as error:
            log.warning("console.discovery_failed", error=type(error).__name__)
            if known is not None:
                return known
            raise ProviderUnavailable(type(error).__name__) from None
        same_keys = known is not None and known.discovery.jwks_uri == discovery.jwks_uri
        verifier = known.verifier if known is not None and same_keys else self._verifier(discovery)
        self._known = _Known(discovery, verifier, monotonic())
        return self._known

    def _verifier(self, discovery: Discovery) -> TokenVerifier:
        keys = KeySet(discovery.jwks_uri, self._client)
        return TokenVerifier(issuer=discovery.issuer, audience=self._settings.client_id, keys=keys)

    def _check(self, discovery: Discovery) -> None:
        if discovery.issuer.rstrip("/") != self._settings.issuer:
            raise ValueError("the document is another issuer's")
        # Where services reach the issuer inside a private network, the operator's own issuer URL says if http will do.
        secure = self._settings.issuer.startswith("https:")
        for url in (discovery.authorization_endpoint, discovery.token_endpoint, discovery.jwks_uri):
            parts = urlsplit(url)
            if parts.scheme != "https" and (parts.scheme != "http" or (secure and parts.hostname not in _LOOPBACK)):
                raise ValueError("an endpoint is not https")
