"""App-only tokens (OAuth 2.0 client credentials), each fetched from the wire: nothing here remembers a token.

A form post of our own: msal's client costs two milliseconds to make and must be thrown away after one use, since its
caches would hide what a check is there to see. https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

import asyncio
import base64
import hashlib
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import jwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from consent_gateway.entra.answers import Answer, Class, EntraFailed, Stage, classify
from consent_gateway.entra.credentials import CredentialError, Credentials
from consent_gateway.entra.discovery import Discovery, failure, seconds_of

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS = 600
# An assertion is good for one tenant's endpoint; it is used again for half of its life.
ASSERTIONS = 1_024
KEYS = 64
# Entra's words for a credential that it does not take (any more): the other one of a rotation may be.
_REFUSED = frozenset({7000215, 7000222, 700027, 700030, 50012})


class AppTokens:
    """Asks token endpoints. Every request is bounded by a deadline, however slowly its answer drips."""

    def __init__(
        self, discovery: Discovery, client: httpx.AsyncClient, credentials: Credentials, *, deadline_seconds: float
    ) -> None:
        self._discovery = discovery
        self._client = client
        self._credentials = credentials
        self._deadline = deadline_seconds
        self._signer = _Signer()

    async def app_token(self, *, tenant_id: str, client_id: str, scope: str) -> str:
        """A fresh app-only token of the tenant for one resource.

        Raises:
            EntraFailed: Entra refused, or gave no usable answer.
        """
        endpoint = await self._discovery.token_endpoint(tenant_id)
        turn = self._credentials.turn(client_id)
        try:
            return await self._fetch(endpoint, client_id, scope)
        except EntraFailed as failed:
            if failed.answer.code not in _REFUSED or not self._credentials.turn_over(client_id, refused=turn):
                raise
        return await self._fetch(endpoint, client_id, scope)

    async def _fetch(self, endpoint: str, client_id: str, scope: str) -> str:
        form = {"grant_type": "client_credentials", "client_id": client_id, "scope": scope}
        try:
            form |= self._authentication(client_id, endpoint)
        except CredentialError:
            raise EntraFailed(Answer(stage=Stage.TOKEN, klass=Class.OURS, error="credential")) from None
        try:
            async with asyncio.timeout(self._deadline):
                answer = await self._client.post(endpoint, content=urlencode(form).encode(), headers=FORM)
        except TimeoutError:
            raise EntraFailed(Answer(stage=Stage.TOKEN, klass=Class.TRANSIENT, error="timeout")) from None
        except httpx.HTTPError as error:
            raise EntraFailed(Answer(stage=Stage.TOKEN, klass=Class.TRANSIENT, error=type(error).__name__)) from None
        return _token(answer)

    def _authentication(self, client_id: str, endpoint: str) -> dict[str, str]:
        credential = self._credentials.of(client_id)
        if isinstance(credential, str):
            return {"client_secret": credential}
        federated = credential.get("client_assertion")
        assertion = federated() if federated is not None else self._signer.assertion(client_id, endpoint, credential)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


class _Signer:
    """Assertions signed with a certificate's key (RFC 7523), a bounded number of them remembered for a while."""

    def __init__(self) -> None:
        self._assertions: OrderedDict[tuple[str, str, str], tuple[float, str]] = OrderedDict()
        self._keys: OrderedDict[str, tuple[Any, str]] = OrderedDict()

    def assertion(self, client_id: str, endpoint: str, credential: dict[str, Any]) -> str:
        """One for this endpoint.

        Raises:
            CredentialError: key or certificate can't be used.
        """
        key, thumbprint = self._key(credential["private_key"], credential["public_certificate"])
        name, now = (client_id, endpoint, thumbprint), time.time()
        made = self._assertions.get(name)
        if made is not None and now - made[0] < ASSERTION_SECONDS / 2:
            return made[1]
        claims = {
            "aud": endpoint,
            "iss": client_id,
            "sub": client_id,
            "jti": str(uuid4()),
            "nbf": int(now) - 60,
            "iat": int(now),
            "exp": int(now) + ASSERTION_SECONDS,
        }
        try:
            text = jwt.encode(claims, key, algorithm="PS256", headers={"x5t#S256": thumbprint})
        except (jwt.PyJWTError, ValueError, TypeError):
            raise CredentialError(f"{client_id}: the certificate's key can't sign") from None
        _keep(self._assertions, name, (now, text), ASSERTIONS)
        return text

    def _key(self, private_key: str, certificate: str) -> tuple[Any, str]:
        name = hashlib.sha256(f"{private_key}{certificate}".encode()).hexdigest()
        known = self._keys.get(name)
        if known is None:
            try:
                key = load_pem_private_key(private_key.encode(), password=None)
                content = x509.load_pem_x509_certificate(certificate.encode()).public_bytes(Encoding.DER)
            except (ValueError, TypeError):
                raise CredentialError("the certificate or its key can't be read") from None
            thumbprint = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            known = (key, thumbprint)
            _keep(self._keys, name, known, KEYS)
        return known


def _keep(kept: OrderedDict[Any, Any], name: object, value: object, most: int) -> None:
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > most:
        kept.popitem(last=False)


def _token(answer: httpx.Response) -> str:
    """The token of an answer; what else is in the body is never looked at or logged."""
    retry_after = answer.headers.get("retry-after")
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or (answer.status_code >= 400 and "error" not in body):
        raise EntraFailed(
            Answer(
                stage=Stage.TOKEN,
                klass=classify(Stage.TOKEN, answer.status_code, None),
                error=f"http_{answer.status_code}",
                retry_after=seconds_of(retry_after),
            )
        )
    if "error" in body:
        raise EntraFailed(failure(Stage.TOKEN, answer.status_code, body, retry_after))
    token = body.get("access_token")
    if answer.status_code != 200 or not isinstance(token, str) or not token:
        raise EntraFailed(Answer(stage=Stage.TOKEN, klass=Class.UNKNOWN, error="unusable_answer"))
    return token
