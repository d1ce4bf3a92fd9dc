"""Bearer tokens of the platform's issuer: who is calling, and for which account or app (RFC 6750, RFC 9068)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

import httpx
import jwt
import structlog
from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from shared.events import AccountId, Slug
from shared.problems import Problem
from shared.settings import AuthSettings

log = structlog.get_logger(__name__)

ALGORITHMS = ["RS256", "ES256"]
LEEWAY_SECONDS = 30
KEYS_FRESH_SECONDS = 600.0
# An unknown key id makes us fetch the keys again, but a stranger can't make us do it more often than this.
KEYS_RETRY_SECONDS = 10.0
# As long as no key is known at all, every request needs one: ask again soon, but not once per request.
NO_KEYS_RETRY_SECONDS = 1.0
# Of one fetch as a whole: a client's own timeouts begin anew with every byte.
FETCH_SECONDS = 5.0

Role = Literal["viewer", "operator", "admin", "app", "staff"]
# What a role may do includes what the roles before it may do; `app` and `staff` stand beside this ladder.
_LADDER: dict[str, frozenset[str]] = {
    "viewer": frozenset({"viewer", "operator", "admin"}),
    "operator": frozenset({"operator", "admin"}),
    "admin": frozenset({"admin"}),
}


_ACCOUNT_ID: TypeAdapter[str | None] = TypeAdapter(AccountId | None)
_APP_ID: TypeAdapter[str | None] = TypeAdapter(Slug | None)


class InvalidToken(Exception):
    """The token is not one to be trusted; the message says why without repeating it."""


class KeysUnavailable(Exception):
    """No key of the issuer is known, because it can't be reached or publishes nothing that is usable."""


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
    roles, name = claims.get("roles", []), claims.get("account_name")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise InvalidToken("roles is not a list")
    try:
        account = _ACCOUNT_ID.validate_python(claims.get("account_id"), strict=True)
        app = _APP_ID.validate_python(claims.get("app_id"), strict=True)
    except ValidationError:
        raise InvalidToken("account_id or app_id is not an id") from None
    if "app" in roles and not app:
        raise InvalidToken("an app's token must name its app_id")
    if set(roles) & _LADDER.keys() and not account:
        raise InvalidToken("a person's token must name its account_id")
    return Principal(
        subject=str(claims["sub"]),
        account_id=account,
        account_name=name if isinstance(name, str) else None,
        app_id=app,
        roles=frozenset(roles),
        expires_at=int(claims["exp"]),
    )


class KeySet:
    """An issuer's published keys: cached, fetched again when a key id is unknown, bounded in how often.

    Nobody waits for the issuer to use a key that is known: what has grown old is fetched beside the requests.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, key_id: str) -> jwt.PyJWK:
        """The key with this id.

        Raises:
            InvalidToken: the issuer has no such key.
            KeysUnavailable: no keys are known, and none can be had now.
        """
        known = self._keys.get(key_id)
        if known is not None:
            if monotonic() - self._fetched > KEYS_FRESH_SECONDS:
                self._refresh()
            return known
        fetching = self._refresh()
        if fetching is not None:
            await asyncio.shield(fetching)  # others wait for it too
        if not self._keys:
            raise KeysUnavailable
        try:
            return self._keys[key_id]
        except KeyError:
            raise InvalidToken("signed with an unknown key") from None

    def _refresh(self) -> asyncio.Task[None] | None:
        """The fetch under way, started unless the last one ended a moment ago."""
        if self._fetching is None:
            pause = KEYS_RETRY_SECONDS if self._keys else NO_KEYS_RETRY_SECONDS
            if monotonic() - self._tried >= pause:
                self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                answer = await self._client.get(self._url)
            answer.raise_for_status()
            self._keys = _keys_of(answer.json())
            self._fetched = monotonic()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the issuer's answer, its keys stay as they are
            log.warning("auth.keys_unavailable", error=type(error).__name__)
        finally:
            self._tried = monotonic()
            self._fetching = None


def _keys_of(published: Any) -> dict[str, jwt.PyJWK]:  # noqa: ANN401 - whatever the issuer answers
    entries = published.get("keys") if isinstance(published, dict) else None
    keys: dict[str, jwt.PyJWK] = {}
    for entry in entries if isinstance(entries, list) else ():
        # A key of a kind that we don't know, or that can't be used, is left out (RFC 7517, section 5).
        with contextlib.suppress(jwt.PyJWTError, ValueError, TypeError, AttributeError):
            key = jwt.PyJWK(entry)
            if isinstance(key.key_id, str) and key.key_id:
                keys[key.key_id] = key
    if not keys:
        raise ValueError("no usable key")
    return keys


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
            KeysUnavailable: the issuer's keys can't be fetched.
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
        except (jwt.PyJWTError, OverflowError) as error:
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
        except KeysUnavailable:
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
