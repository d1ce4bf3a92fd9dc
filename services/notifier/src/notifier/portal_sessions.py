"""Who is signed in at the portal: links that are good once and for minutes, sessions that are good for an hour.

The notifier has no people of its own and no sign-in. Whoever holds an owner's token asks the API for a link and opens
it in a browser; the browser then holds a session of that owner, never the token. Only hashes are stored.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from notifier.clock import ServerClock
from notifier.store import expire_after
from notifier.subscriptions import Owner

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

LINK = timedelta(minutes=5)
SESSION = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A browser that acts for an owner. ``csrf`` is what its forms must carry."""

    token: str
    owner: Owner

    @property
    def csrf(self) -> str:
        """Follows from the token and doesn't give it away."""
        return hmac.digest(self.token.encode(), b"csrf", "sha256").hex()


class PortalSessions:
    """Links and sessions in MongoDB, so that any replica knows them."""

    def __init__(self, database: "Database", clock: ServerClock) -> None:
        self._rows: Collection = database["portal_sessions"]
        self._clock = clock

    async def create_indexes(self) -> None:
        """Make the index; idempotent."""
        await expire_after(self._rows, "expires_at", 0)

    async def link(self, owner: Owner) -> tuple[str, datetime]:
        """A token that opens one session, and until when."""
        return await self._issue("link", owner, LINK)

    async def open(self, link: str) -> Session | None:
        """The session that a link opens, once; None when it was used, has expired or never was."""
        row: Document | None = await self._rows.find_one_and_delete({"_id": _hash("link", link), **self._valid()})
        if row is None:
            return None
        owner = _owner(row)
        token, _ = await self._issue("session", owner, SESSION)
        return Session(token=token, owner=owner)

    async def find(self, token: str) -> Session | None:
        """The session of a browser's token."""
        row = await self._rows.find_one({"_id": _hash("session", token), **self._valid()})
        return Session(token=token, owner=_owner(row)) if row is not None else None

    async def close(self, session: Session) -> None:
        """Sign out."""
        await self._rows.delete_one({"_id": _hash("session", session.token)})

    async def _issue(self, kind: str, owner: Owner, lasts: timedelta) -> tuple[str, datetime]:
        token, expires_at = secrets.token_urlsafe(32), self._clock.now() + lasts
        await self._rows.insert_one(
            {
                "_id": _hash(kind, token),
                "app_id": owner.app_id,
                "account_id": owner.account_id,
                "expires_at": expires_at,
            }
        )
        return token, expires_at

    def _valid(self) -> "Document":
        return {"expires_at": {"$gt": self._clock.now()}}


def _hash(kind: str, token: str) -> str:
    return hashlib.sha256(f"{kind}:{token}".encode()).hexdigest()


def _owner(row: "Document") -> Owner:
    return Owner(app_id=row["app_id"], account_id=row["account_id"])
