"""Browser sessions of the console, and sign-ins under way, in MongoDB.

What is stored names nobody's cookie: sessions are found by the hash of their token, and the person's tokens are sealed
with a key that needs both the setting and the cookie. A copy of the database opens no session and no token.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consent_gateway.consent.attempts import Browser
from consent_gateway.people import user_of
from shared.auth import Principal
from shared.mongo import Database, Document

SIGN_IN_SECONDS = 600
# A session is marked as used at most this often, so that reading a page is no write.
TOUCH_SECONDS = 60

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


def digest(secret: str) -> str:
    """What is stored of a secret that only its holder knows."""
    return hashlib.sha256(secret.encode()).hexdigest()


def random_token() -> str:
    """256 bits, fit for a cookie or a URL."""
    return secrets.token_urlsafe(32)


def csrf_token(session_token: str) -> str:
    """The form token of a session. It follows from the cookie's value, so nothing that is stored could leak it."""
    mac = hmac.new(session_token.encode(), b"consent-console form", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whom the issuer signed in, and the tokens it gave; these never reach the browser."""

    principal: Principal
    name: str | None
    access_token: str = field(repr=False)
    id_token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Session:
    """A person at a browser. ``binding`` is what consent attempts are bound to.

    ``id`` changes with every sign-in. ``binding`` stays while the same person of the same account signs in again in a
    session that is still alive, so that renewing a sign-in in the middle of a consent loses nothing. ``browser`` is
    where this request comes from; it is not kept with the session.
    """

    id: str
    binding: str
    identity: Identity
    csrf_token: str = field(repr=False)
    renew_at: datetime
    expires_at: datetime
    browser: Browser | None = None


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A sign-in under way: what the issuer's answer must match, and where the person wanted to go."""

    nonce: str
    code_verifier: str = field(repr=False)
    next: str


class Sessions:
    """Sessions with an absolute end and an idle end (seconds)."""

    def __init__(
        self, database: Database, *, secret: str, seconds: int = 28_800, idle_seconds: int = 3_600, now: Now = utc_now
    ) -> None:
        self._sessions = database["sessions"]
        self._sign_ins = database["sign_ins"]
        self._secret = secret.encode()
        self._life = timedelta(seconds=seconds)
        self._idle = timedelta(seconds=idle_seconds)
        self._now = now

    @property
    def seconds(self) -> int:
        """How long a session lasts at most."""
        return int(self._life.total_seconds())

    async def create_indexes(self) -> None:
        """Have the database remove what has ended. Repeating it changes nothing."""
        await self._sessions.create_index("expires_at", expireAfterSeconds=0)
        await self._sign_ins.create_index("expires_at", expireAfterSeconds=0)

    async def begin(self, sign_in: SignIn, *, state: str, browser: str) -> None:
        """Remember a sign-in that this browser (the value of its cookie) begins under this state."""
        await self._sign_ins.insert_one(
            {
                "_id": digest(state),
                "browser": digest(browser),
                "nonce": sign_in.nonce,
                "code_verifier": sign_in.code_verifier,
                "next": self._seal_text(state, sign_in.next),
                "expires_at": self._now() + timedelta(seconds=SIGN_IN_SECONDS),
            }
        )

    async def take(self, *, state: str, browser: str) -> SignIn | None:
        """The sign-in that this browser began under this state, once."""
        mine = {"_id": digest(state), "browser": digest(browser), "expires_at": {"$gt": self._now()}}
        found = cast("Document | None", await self._sign_ins.find_one_and_delete(mine))
        if found is None:
            return None
        try:
            onward = self._unseal_text(state, found["next"])
        except (InvalidTag, ValueError, TypeError):
            return None  # begun under another CONSOLE__SESSION_SECRET: the person begins again
        return SignIn(nonce=found["nonce"], code_verifier=found["code_verifier"], next=onward)

    async def start(self, identity: Identity, *, replacing: str | None) -> str:
        """A new session for the person; the one that the browser had before ends. Returns the cookie's value."""
        before = await self.open(replacing, touch=False) if replacing else None
        same = before is not None and _who(before.identity.principal) == _who(identity.principal)
        token, now = random_token(), self._now()
        principal = identity.principal
        await self._sessions.insert_one(
            {
                "_id": digest(token),
                "binding": before.binding if before is not None and same else digest(random_token()),
                "subject": principal.subject,
                "account_id": principal.account_id,
                "account_name": principal.account_name,
                "name": identity.name,
                "roles": sorted(principal.roles),
                "tokens": self._seal(token, identity),
                "renew_at": datetime.fromtimestamp(principal.expires_at, UTC),
                "seen_at": now,
                "created_at": now,
                "expires_at": now + self._life,
            }
        )
        if replacing:
            await self.end(replacing)
        return token

    async def open(self, token: str, *, touch: bool = True) -> Session | None:
        """The session of a cookie, unless it has ended. ``touch`` counts as use by the person."""
        now = self._now()
        alive = {"_id": digest(token), "expires_at": {"$gt": now}, "seen_at": {"$gt": now - self._idle}}
        found = await self._sessions.find_one(alive)
        if found is None:
            return None
        if touch and now - found["seen_at"] > timedelta(seconds=TOUCH_SECONDS):
            await self._sessions.update_one({"_id": found["_id"]}, {"$max": {"seen_at": now}})
        return self._session(token, found)

    async def end(self, token: str) -> None:
        """End the session of a cookie."""
        await self._sessions.delete_one({"_id": digest(token)})

    def _session(self, token: str, found: Document) -> Session | None:
        try:
            tokens = self._unseal(token, found["tokens"])
        except (InvalidTag, ValueError):
            return None  # sealed under another CONSOLE__SESSION_SECRET: the person signs in again
        principal = Principal(
            subject=found["subject"],
            account_id=found["account_id"],
            account_name=found["account_name"],
            app_id=None,
            roles=frozenset(found["roles"]),
            expires_at=int(found["renew_at"].timestamp()),
        )
        return Session(
            id=found["_id"],
            binding=found["binding"],
            identity=Identity(principal=principal, name=found["name"], **tokens),
            csrf_token=csrf_token(token),
            renew_at=found["renew_at"],
            expires_at=min(found["expires_at"], found["seen_at"] + self._idle),
        )

    def _seal(self, token: str, identity: Identity) -> bytes:
        nonce = os.urandom(12)
        plain = json.dumps({"access_token": identity.access_token, "id_token": identity.id_token}).encode()
        return nonce + AESGCM(self._key(token)).encrypt(nonce, plain, digest(token).encode())

    def _unseal(self, token: str, sealed: bytes) -> dict[str, Any]:
        plain = AESGCM(self._key(token)).decrypt(sealed[:12], sealed[12:], digest(token).encode())
        return dict(json.loads(plain))

    def _seal_text(self, state: str, text: str) -> bytes:
        """Where a person wanted to go may be somebody's link: only the browser's own state opens it again."""
        nonce = os.urandom(12)
        return nonce + AESGCM(self._key(state)).encrypt(nonce, text.encode(), b"next")

    def _unseal_text(self, state: str, sealed: bytes) -> str:
        return AESGCM(self._key(state)).decrypt(sealed[:12], sealed[12:], b"next").decode()

    def _key(self, token: str) -> bytes:
        return HKDF(SHA256(), 32, salt=token.encode(), info=b"consent-console tokens").derive(self._secret)


async def end_of(database: Database, person_id: str) -> bool:
    """End every session of a person; False when there was none.

    ``person_id`` is a key as of ``people``, or the issuer's subject alone: then it is all sessions of that subject.
    """
    user = user_of(person_id)
    mine = {"subject": person_id} if user is None else {"account_id": user[0], "subject": user[1]}
    return bool((await database["sessions"].delete_many(mine)).deleted_count)


def _who(principal: Principal) -> tuple[str, str | None]:
    return principal.subject, principal.account_id
