"""What a browser carries: who has signed in (a signed cookie), and the request that a page's form goes on with."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import jwt
from pydantic import ValidationError

from entra_sandbox.model import Frozen

COOKIE = "ESTSAUTH"
_ALGORITHM = "HS256"
_FORM_LIFE = timedelta(hours=1)


class SignedIn(Frozen):
    """One person of a browser session."""

    object_id: str
    at: str


class BrowserSession(Frozen):
    """The people who have signed in with a browser, the latest first."""

    id: str
    people: tuple[SignedIn, ...] = ()

    def with_person(self, object_id: str) -> "BrowserSession":
        """The session after a person has signed in (again)."""
        latest = SignedIn(object_id=object_id, at=datetime.now(UTC).isoformat())
        others = tuple(item for item in self.people if item.object_id != object_id)
        return self.model_copy(update={"people": (latest, *others)})

    def without_person(self, object_id: str) -> "BrowserSession":
        """The session after a person has signed out."""
        return self.model_copy(update={"people": tuple(item for item in self.people if item.object_id != object_id)})


class Pending(Frozen):
    """A request that waits for a form: where it came in and with which parameters, and for whom the form was made."""

    kind: Literal["authorize", "adminconsent", "adminconsent_v1"]
    tenant: str
    params: dict[str, str]
    session: str
    person: str | None = None


class Sealer:
    """Signs what goes to the browser, and accepts only what it has signed."""

    def __init__(self, key: str) -> None:
        self._key = key

    def session(self, cookie: str | None) -> BrowserSession:
        """The session of a cookie; a new one for no cookie or one that is not ours."""
        try:
            return BrowserSession.model_validate(self._open(cookie or "", "session"))
        except (jwt.InvalidTokenError, ValidationError):
            return BrowserSession(id=uuid.uuid4().hex)

    def session_cookie(self, session: BrowserSession) -> str:
        """The cookie of a session."""
        return self._seal(session.model_dump(mode="json"), "session")

    def pending(self, sealed: str, session: BrowserSession) -> Pending | None:
        """The request that a form goes on with, if this browser was given that form within the last hour."""
        try:
            found = Pending.model_validate(self._open(sealed, "form"))
        except (jwt.InvalidTokenError, ValidationError):
            return None
        return found if found.session == session.id else None

    def seal_pending(self, pending: Pending) -> str:
        """The hidden field of a form."""
        expires = datetime.now(UTC) + _FORM_LIFE
        return self._seal(pending.model_dump(mode="json"), "form", expires)

    def _seal(self, content: dict[str, Any], purpose: str, expires: datetime | None = None) -> str:
        claims = {"exp": expires} if expires else {}
        return jwt.encode({"content": content, "aud": purpose, **claims}, self._key, algorithm=_ALGORITHM)

    def _open(self, sealed: str, purpose: str) -> dict[str, Any]:
        content: dict[str, Any] = jwt.decode(sealed, self._key, algorithms=[_ALGORITHM], audience=purpose)["content"]
        return content
