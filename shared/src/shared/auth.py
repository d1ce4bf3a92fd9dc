"""Bearer tokens of the platform's issuer: who is calling, and for which account or app (RFC 6750, RFC 9068)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

import httpx
import jwt
import structlog
from fastapi import Request

from shared.problems import Problem
from shared.settings import AuthSettings

log = structlog.get_logger(__name__)

ALGORITHMS = ["RS256", "ES256"]
LEEWAY_SECONDS = 30
KEYS_FRESH_SECONDS = 600.0
# An unknown key id makes us fetch the keys again, but a stranger can't make us do it more often than this.
KEYS_RETRY_SECONDS = 10.0

Role = Literal["viewer", "operator", "admin", "app", "staff"]
# What a role may do includes what the roles before it may do; `app` and `staff` stand beside this ladder.
_LADDER: dict[str, frozenset[str]] = {
    "viewer": frozenset({"viewer", "operator", "admin"}),
    "operator": frozenset({"operator", "admin"}),
    "admin": frozenset({"admin"}),
}


class InvalidToken(Exception):
    """The token is not one to be trusted; the message says why without repeating it."""


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who calls: a person of an account, an app of the suite, or the suite's own staff."""

    subject: str
    account_id: str | None
    account_name: str | None
    app_id: str | None
    roles: frozenset[str]
    expires_at: int

    def may(self, role: Role) -> bool:
        """Whether the principal has the role or one that includes it."""
        return bool(self.roles & _LADDER.get(role, frozenset({role})))


def principal_of(claims: dict[str, Any]) -> Principal:
    """The principal of validated claims.

    Raises:
        InvalidToken: a claim that decides what may be read is missing or has the wrong type.
    """
    account, app, roles = claims.get("account_id"), claims.get("app_id"), claims.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise InvalidToken("roles is not a list")
    if not all(value is None or isinstance(value, str) for value in (account, app)):
        raise InvalidToken("account_id or app_id is not a string")
    if "app" in roles and not app:
        raise InvalidToken("an app's token must name its app_id")
    if set(roles) & _LADDER.keys() and not account:
        raise InvalidToken("a person's token must name its account_id")
    return Principal(
        subject=str(claims["sub"]),
        account_id=account,
        account_name=claims.get("account_name"),
        app_id=app,
        roles=frozenset(roles),
        expires_at=int(claims["exp"]),
    )


class KeySet:
    """An issuer's published keys: cached, fetched again when a key id is unknown, bounded in how often."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK:
        """The key with this id.

        Raises:
            InvalidToken: the issuer has no such key.
            httpx.HTTPError: no keys are known and the issuer can't be reached.
        """
        if key_id not in self._keys or monotonic() - self._fetched > KEYS_FRESH_SECONDS:
            async with self._lock:
                await self._refresh(key_id)
        try:
            return self._keys[key_id]
        except KeyError:
            raise InvalidToken("signed with an unknown key") from None

    async def _refresh(self, key_id: str) -> None:
        now = monotonic()
        fresh = key_id in self._keys and now - self._fetched <= KEYS_FRESH_SECONDS
        if fresh or (self._keys and now - self._tried < KEYS_RETRY_SECONDS):
            return
        self._tried = now
        try:
            answer = await self._client.get(self._url)
            answer.raise_for_status()
            keys = jwt.PyJWKSet.from_dict(answer.json()).keys
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            log.warning("auth.keys_unavailable", error=type(error).__name__)
            if not self._keys:
                raise
            return
        self._keys = {key.key_id: key for key in keys if key.key_id}
        self._fetched = now


class TokenVerifier:
    """Validates tokens of one issuer for one audience."""

    def __init__(self, *, issuer: str, audience: str, keys: KeySet) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys

    @classmethod
    def from_settings(cls, settings: AuthSettings, client: httpx.AsyncClient) -> "TokenVerifier":
        """The verifier of access tokens."""
        return cls(issuer=settings.issuer, audience=settings.audience, keys=KeySet(settings.jwks_url, client))

    async def claims(self, token: str) -> dict[str, Any]:
        """The token's claims after signature, issuer, audience and times were checked.

        Raises:
            InvalidToken: it isn't valid.
            httpx.HTTPError: the issuer's keys can't be fetched.
        """
        try:
            header = jwt.get_unverified_header(token)
            key = await self._keys.key(str(header.get("kid", "")))
            return dict(
                jwt.decode(
                    token,
                    key,
                    algorithms=ALGORITHMS,
                    issuer=self._issuer,
                    audience=self._audience,
                    leeway=LEEWAY_SECONDS,
                    options={"require": ["exp", "iat", "iss", "aud", "sub"]},
                )
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(type(error).__name__) from None

    async def principal(self, token: str) -> Principal:
        """Who the token speaks for; raises as ``claims``."""
        return principal_of(await self.claims(token))


def bearer(verifier: TokenVerifier) -> Callable[[Request], Awaitable[Principal]]:
    """A FastAPI dependency: the caller of a request; a problem with status 401 or 503 where there is none."""

    async def caller(request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("Send an access token: Authorization: Bearer <token>.")
        try:
            return await verifier.principal(token.strip())
        except InvalidToken as error:
            raise _unauthorized(f"The access token is not valid ({error}).", error="invalid_token") from None
        except (httpx.HTTPError, ValueError):
            detail = "The issuer's keys can't be fetched. Try again shortly."
            raise Problem(503, "issuer_unavailable", detail, headers={"Retry-After": "5"}) from None

    return caller


def require(principal: Principal, *roles: Role) -> None:
    """Raise a problem with status 403 unless the principal has one of the roles."""
    if not any(principal.may(role) for role in roles):
        raise Problem(403, "forbidden", f"This needs the role {' or '.join(roles)}.")


def _unauthorized(detail: str, *, error: str | None = None) -> Problem:
    challenge = 'Bearer realm="consent-platform"' + (f', error="{error}"' if error else "")
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})
