"""When our own credentials end, and when that is to be said. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from consent_gateway.entra.credentials import Held

THRESHOLDS = (60, 30, 7, 1)
# A federated assertion lives for minutes; when its file is that long behind, whoever writes it has stopped.
STALE = timedelta(minutes=5)
BANNER_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A registration's credential that lasts longest, and when it ends."""

    registration: str
    client_id: str
    credential: str
    kind: str
    fingerprint: str
    expires_at: datetime

    def days_left(self, now: datetime) -> int:
        """Whole days until the end; negative after it."""
        return (self.expires_at - now) // timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something to be said once, over all replicas and restarts: ``id`` is the same for the same."""

    id: str
    ending: Ending


def ending_of(registration: str, held: Sequence[Held]) -> Ending | None:
    """When the registration is left without a credential: its successor counts. None where nobody knows."""
    known = [one for one in held if one.expires_at is not None]
    last = max(known, key=lambda one: one.expires_at or datetime.min.replace(tzinfo=UTC), default=None)
    if last is None or last.expires_at is None:
        return None
    return Ending(
        registration=registration,
        client_id=last.client_id,
        credential=last.name,
        kind=last.kind,
        fingerprint=last.fingerprint,
        expires_at=last.expires_at,
    )


def alert_of(ending: Ending, now: datetime) -> Alert | None:
    """What is to be said now: after a gap the nearest threshold alone, and of an assertion only that it is stale."""
    left = ending.expires_at - now
    if ending.kind == "assertion":
        if left > -STALE:
            return None
        return Alert(id=f"{ending.client_id}:{ending.credential}:stale:{now.date().isoformat()}", ending=ending)
    crossed = [days for days in THRESHOLDS if left <= timedelta(days=days)]
    if not crossed:
        return None
    return Alert(id=f"{ending.client_id}:{ending.fingerprint}:{min(crossed)}", ending=ending)


def shown(ending: Ending, now: datetime) -> bool:
    """Whether people of the platform are to see it on the screen."""
    if ending.kind == "assertion":
        return alert_of(ending, now) is not None
    return ending.expires_at - now <= timedelta(days=BANNER_DAYS)


def with_home(held: Iterable[Held], application: Mapping[str, Any] | None) -> tuple[Held, ...]:
    """Secrets with the end that the home tenant knows of them, where they have none yet.

    Entra lists a secret by its first characters only; of two that begin alike the earlier end counts.
    """
    listed = [one for one in (application or {}).get("passwordCredentials") or [] if isinstance(one, dict)]
    found: list[Held] = []
    for one in held:
        ends = [
            end
            for entry in listed
            if one.hint and entry.get("hint") == one.hint and (end := moment(entry.get("endDateTime"))) is not None
        ]
        found.append(replace(one, expires_at=min(ends)) if one.expires_at is None and ends else one)
    return tuple(found)


def moment(text: object) -> datetime | None:
    """A time as Graph writes it (ISO 8601, up to seven digits of a second)."""
    if not isinstance(text, str):
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
