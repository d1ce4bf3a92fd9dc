"""The tokens this issuer signs, and the claims in each of them.

Access tokens are JWTs as in RFC 9068, ID tokens as in OpenID Connect Core 1.0. The sign-in cookie and the
refresh token are signed by the same keys, but with a ``typ`` and an audience of their own, so that none of
the four passes for another. Being signed, they need no store and survive a restart.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from platform_idp.codes import CodeGrant
from platform_idp.keys import KeyRing
from platform_idp.people import APP_ROLE, Account, Person, app_subject, find_person
from platform_idp.settings import Settings

_ACCESS = "at+jwt"
_ID = "JWT"
_SESSION = "session+jwt"
_REFRESH = "refresh+jwt"


@dataclass(frozen=True, slots=True)
class SignIn:
    """A person who signed in, and when (unix seconds)."""

    person: Person
    auth_time: int


class Tokens:
    """Mints and reads every kind of token of this issuer. Times are unix seconds."""

    def __init__(self, settings: Settings, keys: KeyRing, *, now: Callable[[], float] = time.time) -> None:
        self._issuer = settings.issuer
        self._audience = settings.audience
        self._life = settings.tokens
        self._keys = keys
        self._now = now

    @property
    def access_seconds(self) -> int:
        """How long an access token lives unless asked otherwise."""
        return self._life.access_seconds

    def access_token_of_person(self, person: Person, *, client_id: str, lifetime: int | None = None) -> str:
        """What a person shows the platform's services."""
        claims = {"sub": person.subject, "client_id": client_id, **_account_claims(person.account)}
        return self._access_token({**claims, "roles": [person.role.value]}, lifetime)

    def access_token_of_app(self, app_id: str, *, account: Account | None, lifetime: int | None = None) -> str:
        """What an app shows; without an account it acts over all accounts, for its own app id only."""
        claims = {"sub": app_subject(app_id), "client_id": app_id, "app_id": app_id, "roles": [APP_ROLE]}
        return self._access_token({**claims, **(_account_claims(account) if account else {})}, lifetime)

    def id_token(self, sign_in: SignIn, *, client_id: str, nonce: str | None) -> str:
        """Who signed in, for the client. The only token with a ``name``."""
        person = sign_in.person
        claims = {
            "aud": client_id,
            "sub": person.subject,
            "name": person.display_name,
            "auth_time": sign_in.auth_time,
            **_account_claims(person.account),
            "roles": [person.role.value],
        }
        if nonce is not None:
            claims["nonce"] = nonce
        return self._sign(claims, typ=_ID, lifetime=self._life.access_seconds)

    def hinted_client(self, id_token: str) -> str | None:
        """The client that an ID token of ours was made for, however old the token is (``id_token_hint``)."""
        claims = self._keys.verify(id_token, typ=_ID, issuer=self._issuer, audience=None)
        return str(claims["aud"]) if claims else None

    def session(self, sign_in: SignIn) -> str:
        """The value of the sign-in cookie."""
        return self._sign_in_token(sign_in, typ=_SESSION, audience=self._issuer)

    def read_session(self, cookie: str) -> SignIn | None:
        """Who a sign-in cookie stands for; None when it is not ours or has expired."""
        return self._read_sign_in(cookie, typ=_SESSION, audience=self._issuer)

    def refresh_token(self, grant: CodeGrant) -> str:
        """Lets its client, and no other, ask for new tokens until the sign-in itself expires."""
        sign_in = SignIn(grant.person, grant.auth_time)
        return self._sign_in_token(sign_in, typ=_REFRESH, audience=grant.request.client_id)

    def read_refresh_token(self, token: str, *, client_id: str) -> SignIn | None:
        """Who a refresh token of this client stands for; None when it is not this client's or has expired."""
        return self._read_sign_in(token, typ=_REFRESH, audience=client_id)

    def _access_token(self, claims: dict[str, Any], lifetime: int | None) -> str:
        return self._sign(
            {"aud": self._audience, **claims}, typ=_ACCESS, lifetime=lifetime or self._life.access_seconds
        )

    def _sign_in_token(self, sign_in: SignIn, *, typ: str, audience: str) -> str:
        claims = {"aud": audience, "sub": sign_in.person.key, "auth_time": sign_in.auth_time}
        return self._sign(claims, typ=typ, lifetime=sign_in.auth_time + self._life.session_seconds - int(self._now()))

    def _read_sign_in(self, token: str, *, typ: str, audience: str) -> SignIn | None:
        claims = self._keys.verify(token, typ=typ, issuer=self._issuer, audience=audience)
        if claims is None or claims["exp"] <= self._now():
            return None
        person = find_person(claims["sub"])
        return SignIn(person, claims["auth_time"]) if person else None

    def _sign(self, claims: dict[str, Any], *, typ: str, lifetime: int) -> str:
        now = int(self._now())
        times = {"iat": now, "nbf": now, "exp": now + lifetime}
        return self._keys.sign({"iss": self._issuer, **claims, **times, "jti": str(uuid4())}, typ=typ)


def _account_claims(account: Account) -> dict[str, str]:
    return {"account_id": account.id, "account_name": account.name}
