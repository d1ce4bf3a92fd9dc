"""Authorization codes: for one client, redirect URI, tenant and person; ten minutes; good for one redemption."""

import secrets
from datetime import datetime, timedelta

from entra_sandbox.directory import Clock, now
from entra_sandbox.model import Frozen, Guid
from entra_sandbox.store import Collection, Store

_LIFE = timedelta(minutes=10)
_REMEMBERED = timedelta(hours=1)


class Code(Frozen):
    """What a code stands for."""

    client_id: Guid
    redirect_uri: str
    tenant_id: Guid
    user_id: Guid
    scopes: tuple[str, ...]
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str
    session_id: str
    expires_at: datetime
    redeemed: bool = False


class Codes:
    """The codes that were issued within the last hour; redeemed ones are remembered to refuse them by name."""

    def __init__(self, store: Store, *, clock: Clock = now) -> None:
        self._codes = Collection(store, "code", Code)
        self._clock = clock

    def reload(self) -> None:
        """Takes everything from the store again, as at a start."""
        self._codes.reload()

    def issue(self, **values: object) -> str:
        """Stores a new code before it is handed out."""
        stale = [key for key, item in self._codes.items() if item.expires_at + _REMEMBERED < self._clock()]
        if stale:
            self._codes.delete(*stale)
        name = f"1.A{secrets.token_urlsafe(160)}"
        self._codes.put(name, Code.model_validate({**values, "expires_at": self._clock() + _LIFE}))
        return name

    def find(self, name: str) -> Code | None:
        """The code, whether or not it is still good."""
        return self._codes.get(name)

    def expired(self, code: Code) -> bool:
        """Whether its ten minutes are over."""
        return code.expires_at <= self._clock()

    def redeem(self, name: str, code: Code) -> None:
        """Marks a code as used."""
        self._codes.put(name, code.model_copy(update={"redeemed": True}))
