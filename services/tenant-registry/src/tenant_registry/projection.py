"""What a consent event means for the registry. Pure: no clock, no random numbers, no I/O.

Every event yields one status event, at most one history row and at most one change of a tenant's document, each a
function of that event alone, so that a repeated event repeats them. Changes of one tenant form a join-semilattice:
``merge`` is commutative, associative and idempotent, and so is what the store makes of a change. In whatever order
and however often a tenant's events arrive, its document ends the same.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from shared.events import (
    REGISTRY,
    Event,
    EventData,
    GrantData,
    GrantState,
    PermissionStatusChanged,
    TenantRemoved,
    TenantState,
    TenantUpdated,
    derived_event,
    tenant_key,
)
from shared.topics import CONSENT_EVENTS

SNAPSHOT = "snapshot"
PREFIX_LENGTH = 3

_GRANT_FIELDS = tuple(GrantState.model_fields)
_WORD = re.compile(r"[^\W_]+")

Fields = Mapping[str, Any]


class Unexpected(ValueError):
    """An event of a type that has no place on the topic of consent events."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How people call a tenant, as of the revision of the event that said so."""

    revision: int
    tenant_name: str | None
    primary_domain: str | None


@dataclass(frozen=True, kw_only=True)
class TenantChange:
    """What one or more events say about one tenant's document.

    Each part is guarded by a revision of its own: an event that comes late for one grant may still be the newest for
    another. ``revision`` is the newest of all, and ``updated_at`` and ``cloud`` are that event's. Grants and profiles
    that are not newer than ``removed_revision`` are gone.
    """

    account_id: str
    tenant_id: str
    revision: int
    updated_at: datetime
    cloud: str
    profile: Profile | None = None
    removed_revision: int = 0
    grants: Mapping[str, Fields] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The document's id."""
        return tenant_key(self.account_id, self.tenant_id)

    def merge(self, other: "TenantChange") -> "TenantChange":
        """Both changes at once; the newer one wins part by part."""
        newest = other if other.revision > self.revision else self
        profiles = [profile for profile in (self.profile, other.profile) if profile is not None]
        grants = dict(self.grants)
        for permission_set_id, grant in other.grants.items():
            known = grants.get(permission_set_id)
            if known is None or grant["revision"] > known["revision"]:
                grants[permission_set_id] = grant
        return replace(
            newest,
            profile=max(profiles, key=lambda profile: profile.revision, default=None),
            removed_revision=max(self.removed_revision, other.removed_revision),
            grants=grants,
        )


@dataclass(frozen=True, kw_only=True)
class Projected:
    """The three outcomes of one event."""

    status: Event
    history: Fields | None
    change: TenantChange | None


def project(event: Event) -> Projected:
    """What follows from an event.

    A snapshot is no news: it changes state like any other event, its status event keeps ``cause: snapshot`` so that
    nobody is notified of it, and it has no place in the history.

    Raises:
        Unexpected: the event belongs on another topic.
    """
    data = event.data
    if data.type_name not in CONSENT_EVENTS.event_types:
        raise Unexpected(f"{data.type_name} does not belong on this topic")
    fields = data.model_dump()
    status: EventData = data
    change: TenantChange | None = None
    if isinstance(data, GrantData):
        status = PermissionStatusChanged.model_validate({**data.__dict__, "change": data.type_name})
        grant = {name: fields[name] for name in _GRANT_FIELDS}
        change = _change(data, grants={data.permission_set_id: grant})
    elif isinstance(data, TenantUpdated):
        change = _change(data)
    elif isinstance(data, TenantRemoved):
        change = replace(_change(data), profile=None, removed_revision=data.revision)
    return Projected(
        status=derived_event(event.id, REGISTRY, event.time, status),
        history=None if fields.get("cause") == SNAPSHOT else _history(event, fields),
        change=change,
    )


def _change(
    data: GrantData | TenantUpdated | TenantRemoved, *, grants: Mapping[str, Fields] | None = None
) -> TenantChange:
    named = data.tenant_name is not None or data.primary_domain is not None
    profile = Profile(revision=data.revision, tenant_name=data.tenant_name, primary_domain=data.primary_domain)
    return TenantChange(
        account_id=data.account_id,
        tenant_id=data.tenant_id,
        revision=data.revision,
        updated_at=data.occurred_at,
        cloud=data.cloud,
        # An event from before the name was known must not take the name away.
        profile=profile if named else None,
        grants=grants or {},
    )


def _history(event: Event, fields: Fields) -> Fields:
    """The row: the event's data as it is, under the event's id; what doesn't belong to an account has none."""
    scope = {"account_id": None, "tenant_id": None, "revision": 0}
    return {"_id": event.id, "type": event.data.type_name, **scope, **fields}


def fold(changes: Iterable[TenantChange]) -> list[TenantChange]:
    """One change per tenant."""
    folded: dict[str, TenantChange] = {}
    for change in changes:
        known = folded.get(change.key)
        folded[change.key] = change if known is None else known.merge(change)
    return list(folded.values())


def state_of(document: Fields) -> TenantState | None:
    """The tenant of a stored document; None for the tombstone of a removed one."""
    if document.get("removed"):
        return None
    profile = document.get("profile") or {}
    grants = document.get("grants") or {}
    return TenantState.model_validate(
        {
            **document,
            "tenant_name": profile.get("tenant_name"),
            "primary_domain": profile.get("primary_domain"),
            "grants": [grants[permission_set_id] for permission_set_id in sorted(grants)],
        }
    )


def facets_of(grant: Fields) -> list[str]:
    """What a tenant can be found by because of this grant; see ``queries``."""
    permission_set_id, status = grant["permission_set_id"], grant["status"]
    facets = [f"set:{permission_set_id}", f"set:{permission_set_id}:{status}", f"status:{status}"]
    facets.append(version_facet(permission_set_id, grant["version"]))
    for app_id in grant["apps"]:
        facets += [f"app:{app_id}", f"app:{app_id}:{status}"]
        if grant["usable"]:
            facets.append(f"usable:{app_id}")
    return facets


def version_facet(permission_set_id: str, version: int) -> str:
    """The facet of a grant's version; no status looks like it, for none has a digit."""
    return f"set:{permission_set_id}:v{version}"


def words_of(*texts: str | None) -> tuple[str, ...]:
    """The words of texts as a search compares them."""
    return tuple(word for text in texts if text for word in _WORD.findall(text.casefold()))
