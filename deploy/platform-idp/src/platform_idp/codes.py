"""Authorization codes: single-use, short-lived, held in memory.

Memory is the right place: a restart forgets the codes of the last minute, so their browsers sign in again,
while a code that survived a restart could be redeemed twice.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from platform_idp.authorization import AuthorizationRequest
from platform_idp.people import Person


@dataclass(frozen=True, slots=True)
class CodeGrant:
    """What a code stands for. ``auth_time`` and ``expires_at`` are unix seconds."""

    request: AuthorizationRequest
    person: Person
    auth_time: int
    expires_at: float


class AuthorizationCodes:
    """The codes that were issued and not yet redeemed."""

    def __init__(self, *, life: int, now: Callable[[], float] = time.time) -> None:
        self._life = life
        self._now = now
        self._grants: dict[str, CodeGrant] = {}

    def issue(self, request: AuthorizationRequest, person: Person, *, auth_time: int) -> str:
        """A new code for a request that this person has signed in for."""
        now = self._now()
        self._grants = {code: grant for code, grant in self._grants.items() if grant.expires_at > now}
        code = secrets.token_urlsafe(32)
        self._grants[code] = CodeGrant(request, person, auth_time, expires_at=now + self._life)
        return code

    def redeem(self, code: str) -> CodeGrant | None:
        """What the code stands for, once; None for a code that is unknown, used or expired.

        The code is spent even if the caller then refuses the exchange, so that nobody can guess a verifier.
        """
        grant = self._grants.pop(code, None)
        return grant if grant is not None and grant.expires_at > self._now() else None
