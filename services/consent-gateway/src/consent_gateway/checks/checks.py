"""What a check of a grant found in Entra, and what follows from it. Pure: the clock and the answers are arguments.

Only definite negatives, several and spread over time, take anything away: a single answer of Entra may be stale for
minutes. An answer that could not be had changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from consent_gateway.checks.schedule import Rules, Schedule, removal_is_watched
from consent_gateway.grants.events import same_to_readers
from consent_gateway.grants.grants import Entra, Grant, Health, Reason, gone
from shared.events import Permission


@dataclass(frozen=True, kw_only=True)
class Organization:
    """The tenant as Graph describes it. Name and domain are the customer's own words: for display only."""

    tenant_id: str
    name: str | None
    primary_domain: str | None


class Delegated(StrEnum):
    """Why a finding has no list of delegated permissions."""

    UNREADABLE = "unreadable"  # the set's own permissions don't allow it
    UNASKED = "unasked"  # not this time: what was known stands
    LATER = "later"  # Graph could not answer just now


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What Entra answered, by resource.

    ``roles`` holds the application permissions of each resource that answered; an empty set is an answer too.
    ``absent`` are resources that the tenant doesn't have. ``gone`` is set when Entra refused tokens for a reason on the
    customer's side that covers every resource. ``unanswered`` says why a resource gave no answer; where there is any,
    the finding decides nothing; ``ours`` marks a refusal of our own credential or registration, ``throttled`` that
    Entra was too busy, failing or out of reach. ``delegated`` are the
    (resource app id, scope) granted for everybody, or why there is no such list. ``organization_later`` says that Graph
    could not describe the tenant just now. ``full`` says that everything was asked for that can be.
    ``service_principal_id`` is the object id of our service principal in the tenant, where a token names it.
    """

    roles: Mapping[str, frozenset[str]]
    absent: frozenset[str] = frozenset()
    gone: Reason | None = None
    unanswered: str | None = None
    ours: bool = False
    throttled: bool = False
    delegated: frozenset[tuple[str, str]] | Delegated = Delegated.UNREADABLE
    organization: Organization | None = None
    organization_later: bool = False
    retry_after: float | None = None
    full: bool = True
    service_principal_id: str | None = None


class Outcome(StrEnum):
    """What a check was good for, for logs and metrics."""

    GOOD = "good"
    CHANGED = "changed"
    NEGATIVE = "negative"
    NOT_YET = "not_yet"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The grant after the check, and the one that was judged.

    ``changed`` says whether readers are to be told; health always moves on.
    """

    before: Grant
    grant: Grant
    changed: bool
    outcome: Outcome

    @property
    def takes_away(self) -> bool:
        """Whether the answer speaks against the grant: counted, or believed."""
        return self.outcome is Outcome.NEGATIVE or (self.changed and self.grant.entra in {Entra.INCOMPLETE, Entra.GONE})


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A finding seen through what was accepted."""

    permissions: tuple[Permission, ...]
    missing: tuple[Permission, ...]
    extra: tuple[Permission, ...]
    unverified: tuple[Permission, ...]


def assess(
    accepted: tuple[Permission, ...],
    known: frozenset[Permission],
    finding: Finding,
    *,
    before: Grant | None = None,
) -> Assessment:
    """Compare. ``known`` are the permissions of all sets of the same registration: they are never ``extra``.

    ``before`` is what stands for delegated permissions that were not asked for.
    """
    permissions, missing, unverified = [], [], []
    for permission in accepted:
        is_there = _is_there(permission, finding, before)
        if is_there is None:
            unverified.append(permission)
        elif is_there:
            permissions.append(permission)
        else:
            missing.append(permission)
    seen = (
        Permission(resource_app_id=resource, value=value, type="application")
        for resource, values in sorted(finding.roles.items())
        for value in sorted(values)
    )
    return Assessment(
        permissions=tuple(permissions),
        missing=tuple(missing),
        extra=tuple(permission for permission in seen if permission not in known and permission not in accepted),
        unverified=tuple(unverified),
    )


def _is_there(permission: Permission, finding: Finding, before: Grant | None) -> bool | None:
    """Whether Entra shows the permission; None where that can't be told."""
    if permission.type == "application":
        return permission.value in finding.roles.get(permission.resource_app_id, frozenset())
    if isinstance(finding.delegated, frozenset):
        return (permission.resource_app_id, permission.value) in finding.delegated
    if finding.delegated is Delegated.UNREADABLE or before is None or permission in before.unverified:
        return None
    return permission in before.permissions


def judge(
    grant: Grant,
    finding: Finding,
    *,
    known: frozenset[Permission],
    now: datetime,
    rules: Rules,
    spread: float = 0.5,
) -> Judgement:
    """What a check does to the grant; ``spread`` is a number from 0 to 1 that keeps due times apart."""
    if not grant.live:
        return Judgement(before=grant, grant=grant, changed=False, outcome=Outcome.GOOD)
    delegated = any(permission.type == "delegated" for permission in grant.accepted)
    if finding.unanswered is None and delegated and finding.delegated is Delegated.LATER:
        finding = replace(finding, unanswered="graph: later")
    at = Schedule(now=now, rules=rules, spread=spread)
    if finding.unanswered is not None and finding.gone is None:
        return _inconclusive(grant, finding, at)
    found = assess(grant.accepted, known, finding, before=grant)
    if finding.gone is None and not found.missing:
        judgement = _good(grant, finding, found, at)
    else:
        judgement = _negative(grant, finding, found, at)
    return replace(judgement, before=grant)


def _good(grant: Grant, finding: Finding, found: Assessment, at: Schedule) -> Judgement:
    health = replace(
        _answered(grant.health, finding, at.now), last_good_at=at.now, tries=0, negatives=0, negatives_since=None
    )
    return _as_found(replace(grant, entra=Entra.COMPLETE, health=health), grant, found, at)


def _negative(grant: Grant, finding: Finding, found: Assessment, at: Schedule) -> Judgement:
    health = replace(
        _answered(grant.health, finding, at.now),
        tries=grant.health.tries + 1,
        negatives=grant.health.negatives + 1,
        negatives_since=grant.health.negatives_since or at.now,
    )
    grant = replace(grant, health=health)
    if finding.gone is None and (_better(grant, found) or _lacks_apis_only(grant, finding, found, at.rules)):
        return _settle(grant, finding, found, at)
    definite = (
        health.negatives >= at.rules.negatives
        and health.negatives_since is not None
        and (at.now - health.negatives_since).total_seconds() >= at.span(grant)
    )
    is_new = grant.entra is Entra.VERIFYING
    # What was just accepted may still come, unless somebody says that it was taken away again.
    may_come = is_new and at.now < grant.verify_until and not removal_is_watched(grant, at.now)
    if not definite or may_come:
        next_at = at.verifying(grant) if is_new else at.confirming(grant)
        waiting = replace(grant, health=replace(health, next_at=next_at))
        return Judgement(
            before=grant, grant=waiting, changed=False, outcome=Outcome.NOT_YET if is_new else Outcome.NEGATIVE
        )
    return _settle(grant, finding, found, at)


def _settle(grant: Grant, finding: Finding, found: Assessment, at: Schedule) -> Judgement:
    """Believe the negative: part of it is there, or nothing is."""
    was_verifying = grant.entra is Entra.VERIFYING
    if finding.gone is not None or not found.permissions:
        reason = Reason.NOT_GRANTED if was_verifying else (finding.gone or Reason.REMOVED)
        return Judgement(before=grant, grant=gone(grant, reason), changed=True, outcome=Outcome.CHANGED)
    health = replace(grant.health, negatives=0, negatives_since=None, tries=0)
    return _as_found(replace(grant, entra=Entra.INCOMPLETE, health=health), grant, found, at)


def _as_found(after: Grant, before: Grant, found: Assessment, at: Schedule) -> Judgement:
    """The grant with what was found; a change is what readers would see."""
    after = replace(
        after,
        permissions=found.permissions,
        missing=found.missing,
        extra=found.extra,
        unverified=found.unverified,
    )
    changed = not same_to_readers(before, after)
    if changed:
        after = replace(after, verified_at=at.now)
    health = replace(after.health, next_at=at.settled(after))
    return Judgement(
        before=before,
        grant=replace(after, health=health),
        changed=changed,
        outcome=Outcome.CHANGED if changed else Outcome.GOOD,
    )


def _answered(health: Health, finding: Finding, now: datetime) -> Health:
    """The health after an answer, be it good or bad."""
    return replace(
        health,
        last_at=now,
        not_before=None,
        failures=0,
        error=None,
        absent=tuple(sorted(finding.absent)),
        full_at=now if finding.full else health.full_at,
    )


def _better(grant: Grant, found: Assessment) -> bool:
    """Whether a partial grant has lost nothing since it became partial: that needs no second answer."""
    return grant.entra is Entra.INCOMPLETE and bool(found.permissions) and set(found.missing) <= set(grant.missing)


def _lacks_apis_only(grant: Grant, finding: Finding, found: Assessment, rules: Rules) -> bool:
    """Whether a fresh consent lacks nothing but what is on APIs that the tenant doesn't have.

    Everything else shows already, so there is no propagation to wait for. Some answers in a row are still asked for:
    right after an Accept the API's service principal may be on its way.
    """
    return (
        grant.entra is Entra.VERIFYING
        and grant.health.negatives >= rules.negatives
        and bool(found.permissions)
        and all(permission.resource_app_id in finding.absent for permission in found.missing)
    )


def _inconclusive(grant: Grant, finding: Finding, at: Schedule) -> Judgement:
    health = replace(
        grant.health,
        last_at=at.now,
        not_before=at.now + timedelta(seconds=finding.retry_after) if finding.retry_after else None,
        tries=grant.health.tries + 1,
        failures=grant.health.failures + 1,
        error=finding.unanswered,
    )
    after = replace(grant, health=health)
    next_at = max(at.failed(after), health.not_before or at.now)
    after = replace(after, health=replace(health, next_at=next_at))
    return Judgement(before=grant, grant=after, changed=False, outcome=Outcome.INCONCLUSIVE)
