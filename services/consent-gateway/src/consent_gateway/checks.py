"""What a check of a grant found in Entra, and what follows from it. Pure: the clock and the answers are arguments.

Only definite negatives, several and spread over time, take anything away: a single answer of Entra may be stale for
minutes. An answer that could not be had changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from consent_gateway.grant_events import same_to_readers
from consent_gateway.grants import Entra, Grant, Reason, gone
from shared.events import Permission

# While a grant is `verifying`, seconds until it is asked for again; the last one repeats, see SLOWER.
VERIFY_DELAYS = (2, 5, 10, 20, 40, 60)
# After so many seconds of verifying, so many seconds between two tries.
SLOWER = ((600, 300), (3_600, 900))
FAILURE_DELAYS = (10, 30, 60, 120, 300, 600)


@dataclass(frozen=True, kw_only=True)
class Organization:
    """The tenant as Graph describes it. Name and domain are the customer's own words: for display only."""

    tenant_id: str
    name: str | None
    primary_domain: str | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What Entra answered, by resource.

    ``roles`` holds the application permissions of each resource that answered; an empty set is an answer too.
    ``absent`` are resources that the tenant doesn't have. ``gone`` is set when Entra refused tokens for a reason on the
    customer's side that covers every resource. ``unanswered`` says why a resource gave no answer; where there is any,
    the finding decides nothing; ``ours`` marks a refusal of our own credential or registration. ``delegated`` is None
    where it can't be read. ``organization_later`` says that Graph could not describe the tenant just now.
    """

    roles: Mapping[str, frozenset[str]]
    absent: frozenset[str] = frozenset()
    gone: Reason | None = None
    unanswered: str | None = None
    ours: bool = False
    delegated: frozenset[tuple[str, str]] | None = None
    organization: Organization | None = None
    organization_later: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How often is checked, and how much it takes to take something away."""

    interval_seconds: float
    negatives: int
    negatives_span_seconds: float


class Outcome(StrEnum):
    """What a check was good for, for logs and metrics."""

    GOOD = "good"
    CHANGED = "changed"
    NEGATIVE = "negative"
    NOT_YET = "not_yet"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The grant after the check. ``changed`` says whether readers are to be told; health always moves on."""

    grant: Grant
    changed: bool
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A finding seen through what was accepted."""

    permissions: tuple[Permission, ...]
    missing: tuple[Permission, ...]
    extra: tuple[Permission, ...]
    unverified: tuple[Permission, ...]


def assess(accepted: tuple[Permission, ...], known: frozenset[Permission], finding: Finding) -> Assessment:
    """Compare. ``known`` are the permissions of all sets of the same registration: they are never ``extra``."""
    permissions, missing, unverified = [], [], []
    for permission in accepted:
        if permission.type == "delegated":
            if finding.delegated is None:
                unverified.append(permission)
            elif (permission.resource_app_id, permission.value) in finding.delegated:
                permissions.append(permission)
            else:
                missing.append(permission)
        elif permission.value in finding.roles.get(permission.resource_app_id, frozenset()):
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


def judge(grant: Grant, finding: Finding, *, known: frozenset[Permission], now: datetime, rules: Rules) -> Judgement:
    """What a check does to the grant."""
    if not grant.live:
        return Judgement(grant=grant, changed=False, outcome=Outcome.GOOD)
    if finding.unanswered is not None and finding.gone is None:
        return _inconclusive(grant, finding, now)
    found = assess(grant.accepted, known, finding)
    if finding.gone is None and not found.missing:
        return _good(grant, found, now, rules)
    return _negative(grant, finding, found, now, rules)


def _good(grant: Grant, found: Assessment, now: datetime, rules: Rules) -> Judgement:
    health = replace(
        grant.health,
        next_at=now + timedelta(seconds=rules.interval_seconds),
        last_at=now,
        last_good_at=now,
        tries=0,
        failures=0,
        negatives=0,
        negatives_since=None,
        error=None,
    )
    after = replace(
        grant,
        entra=Entra.COMPLETE,
        permissions=found.permissions,
        missing=(),
        extra=found.extra,
        unverified=found.unverified,
        health=health,
    )
    changed = not same_to_readers(grant, after)
    return Judgement(
        grant=replace(after, verified_at=now) if changed else after,
        changed=changed,
        outcome=Outcome.CHANGED if changed else Outcome.GOOD,
    )


def _negative(grant: Grant, finding: Finding, found: Assessment, now: datetime, rules: Rules) -> Judgement:
    health = replace(
        grant.health,
        last_at=now,
        tries=grant.health.tries + 1,
        failures=0,
        negatives=grant.health.negatives + 1,
        negatives_since=grant.health.negatives_since or now,
        error=None,
    )
    grant = replace(grant, health=health)
    if finding.gone is None and _better(grant, found):
        return _settle(grant, finding, found, now, rules)
    definite = (
        health.negatives >= rules.negatives
        and health.negatives_since is not None
        and (now - health.negatives_since).total_seconds() >= rules.negatives_span_seconds
    )
    if not definite or (grant.entra is Entra.VERIFYING and now < grant.verify_until):
        delay = _verify_delay(grant, now) if grant.entra is Entra.VERIFYING else _confirm_delay(rules)
        waiting = replace(grant, health=replace(health, next_at=now + timedelta(seconds=delay)))
        outcome = Outcome.NOT_YET if grant.entra is Entra.VERIFYING else Outcome.NEGATIVE
        return Judgement(grant=waiting, changed=False, outcome=outcome)
    return _settle(grant, finding, found, now, rules)


def _settle(grant: Grant, finding: Finding, found: Assessment, now: datetime, rules: Rules) -> Judgement:
    """Believe the negative: part of it is there, or nothing is."""
    was_verifying = grant.entra is Entra.VERIFYING
    if finding.gone is not None or not found.permissions:
        reason = Reason.NOT_GRANTED if was_verifying else (finding.gone or Reason.REMOVED)
        return Judgement(grant=gone(grant, reason), changed=True, outcome=Outcome.CHANGED)
    after = replace(
        grant,
        entra=Entra.INCOMPLETE,
        permissions=found.permissions,
        missing=found.missing,
        extra=found.extra,
        unverified=found.unverified,
        health=replace(
            grant.health,
            next_at=now + timedelta(seconds=rules.interval_seconds),
            negatives=0,
            negatives_since=None,
            tries=0,
        ),
    )
    changed = not same_to_readers(grant, after)
    return Judgement(
        grant=replace(after, verified_at=now) if changed else after,
        changed=changed,
        outcome=Outcome.CHANGED if changed else Outcome.GOOD,
    )


def _better(grant: Grant, found: Assessment) -> bool:
    """Whether a partial grant has lost nothing since it became partial: that needs no second answer."""
    return grant.entra is Entra.INCOMPLETE and bool(found.permissions) and set(found.missing) <= set(grant.missing)


def _inconclusive(grant: Grant, finding: Finding, now: datetime) -> Judgement:
    failures = grant.health.failures + 1
    delay = float(FAILURE_DELAYS[min(failures, len(FAILURE_DELAYS)) - 1])
    if grant.entra is Entra.VERIFYING:
        delay = min(delay, _verify_delay(grant, now))
    health = replace(
        grant.health,
        next_at=now + timedelta(seconds=max(delay, finding.retry_after or 0.0)),
        last_at=now,
        tries=grant.health.tries + 1,
        failures=failures,
        error=finding.unanswered,
    )
    return Judgement(grant=replace(grant, health=health), changed=False, outcome=Outcome.INCONCLUSIVE)


def _verify_delay(grant: Grant, now: datetime) -> float:
    elapsed = (now - grant.accepted_at).total_seconds()
    for after, delay in reversed(SLOWER):
        if elapsed >= after:
            return float(delay)
    return float(VERIFY_DELAYS[min(grant.health.tries, len(VERIFY_DELAYS)) - 1 if grant.health.tries else 0])


def _confirm_delay(rules: Rules) -> float:
    """A negative is asked for again soon, so that the needed number fits into the span."""
    return max(rules.negatives_span_seconds / max(rules.negatives - 1, 1), 1.0)
