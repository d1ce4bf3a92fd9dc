"""Entra's own description of itself: discovery documents and signing keys, cached and bounded."""

import asyncio
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
import jwt
from prometheus_client import Gauge

from consent_gateway.consent.proof import SigningKey
from consent_gateway.entra.answers import Answer, Class, EntraFailed, Stage, classify
from consent_gateway.entra.flights import Flights
from consent_gateway.settings import EntraSettings

UNREACHABLE = Gauge("entra_login_unreachable", "1 while Entra's discovery document can't be fetched.")

FRESH_SECONDS = 3_600.0
# An old document is used while no new one can be had, and a new one is tried for this often.
RETRY_SECONDS = 30.0
# An unknown key id makes us fetch the keys again; a stranger can't make us do it more often than this.
KEYS_RETRY_SECONDS = 10.0
# A tenant that isn't there isn't asked for more often than this, whoever names it; it may have been made meanwhile.
NO_TENANT_SECONDS = 60.0
# Keys that can't be fetched anew are believed no longer than this.
STALE_KEYS_SECONDS = 86_400.0
# Tenants whose people sign in. A check needs no document of its tenant.
MOST_TENANTS = 1_024
MOST_KEYS = 256
ORGANIZATIONS = "organizations"

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """A tenant's discovery document (OpenID Connect Discovery 1.0), as far as it is used."""

    url: str
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    document: dict[str, Any]


class _Recent(Generic[Value]):
    """The latest values by key: at most so many, each with the time it was learnt."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def get(self, key: str) -> tuple[float, Value] | None:
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def put(self, key: str, value: Value) -> None:
        self._values[key] = (monotonic(), value)
        self._values.move_to_end(key)
        while len(self._values) > self._most:
            self._values.popitem(last=False)


class Discovery:
    """Fetches what Entra publishes without authentication."""

    def __init__(self, settings: EntraSettings, client: httpx.AsyncClient) -> None:
        self._login_url = settings.login_url
        self._home_tenant_id = settings.home_tenant_id
        self._deadline = settings.timeout_seconds
        self._client = client
        self._documents: _Recent[Metadata] = _Recent(MOST_TENANTS)
        self._keys: _Recent[dict[str, SigningKey]] = _Recent(MOST_KEYS)
        self._tried: _Recent[None] = _Recent(MOST_TENANTS)
        self._missing: _Recent[Answer] = _Recent(MOST_TENANTS)
        self._flights: Flights[dict[str, Any]] = Flights()

    async def metadata(self, tenant: str) -> Metadata:
        """The document of a tenant (a GUID), or of `organizations`.

        An old one is used for as long as no new one can be had.

        Raises:
            EntraFailed: there is no such tenant, or no document that can be used.
        """
        url = f"{self._login_url}/{tenant}/v2.0/.well-known/openid-configuration"
        known, tried = self._documents.get(url), self._tried.get(url)
        if known is not None and monotonic() - known[0] < FRESH_SECONDS:
            return known[1]
        if known is not None and tried is not None and monotonic() - tried[0] < RETRY_SECONDS:
            return known[1]
        missing = self._missing.get(url)
        if missing is not None and monotonic() - missing[0] < NO_TENANT_SECONDS:
            raise EntraFailed(missing[1])
        try:
            metadata = _metadata(url, await self._flights.join(url, lambda: self._fetch(url)))
        except EntraFailed as failed:
            UNREACHABLE.set(int(failed.answer.klass is Class.TRANSIENT))
            if known is not None and failed.answer.klass is Class.TRANSIENT:
                self._tried.put(url, None)
                return known[1]
            if failed.answer.klass is Class.TENANT:
                self._missing.put(url, failed.answer)
            raise
        UNREACHABLE.set(0)
        self._documents.put(url, metadata)
        return metadata

    async def token_endpoint(self, tenant_id: str) -> str:
        """Where tokens of a tenant are asked for: the home tenant's endpoint with the other id in it.

        So a check of a tenant costs no request for its document; a tenant that isn't there is named by the token
        endpoint too (AADSTS90002). Where the endpoint doesn't hold the id, or the home tenant isn't known, the tenant's
        own document is asked for.

        Raises:
            EntraFailed: as ``metadata``.
        """
        try:
            home = (await self.metadata(self._home_tenant_id)).token_endpoint
        except EntraFailed as failed:
            if failed.answer.klass is Class.TRANSIENT:
                raise
            home = ""
        if self._home_tenant_id in home:
            return home.replace(self._home_tenant_id, tenant_id)
        return (await self.metadata(tenant_id)).token_endpoint

    async def authorization_origin(self) -> str:
        """The origin of Entra's pages, for the admin-consent page too.

        Raises:
            EntraFailed: it can't be learnt, or isn't one to send a browser to.
        """
        parts = urlsplit(browser_endpoint(await self.metadata(ORGANIZATIONS)))
        return f"{parts.scheme}://{parts.netloc}"

    async def signing_key(self, metadata: Metadata, key_id: str) -> SigningKey:
        """The tenant's key with this id.

        Raises:
            EntraFailed: the keys can't be fetched, or there is no such key among them.
        """
        key = await self._known_key(metadata.jwks_uri, key_id)
        if key is None:
            raise EntraFailed(Answer(stage=Stage.DISCOVERY, klass=Class.REPLAY, error="unknown_key"))
        return key

    async def _known_key(self, url: str, key_id: str) -> SigningKey | None:
        known = self._keys.get(url)
        age = monotonic() - known[0] if known is not None else float("inf")
        if known is not None and age < FRESH_SECONDS and (key_id in known[1] or age < KEYS_RETRY_SECONDS):
            return known[1].get(key_id)
        try:
            keys = _keys(await self._flights.join(url, lambda: self._fetch(url)))
        except EntraFailed:
            if known is not None and key_id in known[1] and age < STALE_KEYS_SECONDS:
                return known[1][key_id]
            raise
        self._keys.put(url, keys)
        return keys.get(key_id)

    async def _fetch(self, url: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._deadline):
                answer = await self._client.get(url)
            body = answer.json()
        except (TimeoutError, httpx.HTTPError, ValueError):
            raise EntraFailed(Answer(stage=Stage.DISCOVERY, klass=Class.TRANSIENT, error="unreachable")) from None
        if not isinstance(body, dict):
            raise EntraFailed(Answer(stage=Stage.DISCOVERY, klass=Class.UNKNOWN))
        if answer.status_code != 200:
            raise EntraFailed(failure(Stage.DISCOVERY, answer.status_code, body, answer.headers.get("retry-after")))
        return body


def failure(stage: Stage, status: int | None, body: dict[str, Any], retry_after: str | None = None) -> Answer:
    """The answer that an error body of Entra gives."""
    error = body.get("error") if isinstance(body.get("error"), str) else None
    codes = body.get("error_codes")
    numbers = tuple(code for code in codes if isinstance(code, int)) if isinstance(codes, list) else ()
    return Answer(
        stage=stage,
        klass=classify(stage, status, error, numbers),
        error=error,
        code=numbers[0] if numbers else None,
        retry_after=seconds_of(retry_after),
    )


def seconds_of(retry_after: str | None) -> float | None:
    """The seconds of a `Retry-After` header, capped at an hour; None for a date or nonsense."""
    if retry_after is None or not retry_after.strip().isdigit():
        return None
    return float(min(int(retry_after), 3_600))


def browser_endpoint(metadata: Metadata) -> str:
    """The authorization endpoint, if it is one to send a browser to: https, or plain http on a loopback host.

    Raises:
        EntraFailed: it isn't.
    """
    parts = urlsplit(metadata.authorization_endpoint)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))):
        return metadata.authorization_endpoint
    raise EntraFailed(Answer(stage=Stage.DISCOVERY, klass=Class.CONFIG, error="authorization_endpoint"))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _metadata(url: str, document: dict[str, Any]) -> Metadata:
    names = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
    values = {name: document.get(name) for name in names}
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    secure = all(texts.get(name, "").startswith("https://") for name in ("token_endpoint", "jwks_uri"))
    if len(texts) != len(names) or not secure:
        raise EntraFailed(Answer(stage=Stage.DISCOVERY, klass=Class.CONFIG, error="discovery_document"))
    return Metadata(url=url, document=document, **texts)


def _keys(body: dict[str, Any]) -> dict[str, SigningKey]:
    found: dict[str, SigningKey] = {}
    entries = body.get("keys")
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict({"alg": "RS256", **entry})
        except (jwt.PyJWTError, ValueError):
            continue
        issuer = entry.get("issuer")
        if key.key_id:
            found[key.key_id] = SigningKey(key=key, issuer=issuer if isinstance(issuer, str) else None)
    return found
