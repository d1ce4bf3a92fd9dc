"""Runs through Entra that failed and that nobody has put right or cleared yet, for the screen of the account. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from consent_gateway.consent.attempts import Attempt
from consent_gateway.consent.outcome import reference_of
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Tenant

# After that a failure is no news any more; the history still has it.
SHOWN_FOR = timedelta(days=7)
# Who declined knows it, an invitation that was taken back needs nobody, and time is up whenever a window is closed.
FAILURES = frozenset(Kind) - {Kind.DECLINED, Kind.WITHDRAWN, Kind.EXPIRED, Kind.SESSION_CHANGED}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed run: why, for which sets, on which tenant if one was named or proven, and what to quote."""

    id: str
    kind: Kind
    permission_set_ids: tuple[str, ...]
    tenant_id: str | None
    error_code: str | None
    reference: str
    at: datetime


def standing(attempts: Iterable[Attempt], tenants: Sequence[Tenant]) -> tuple[Failure, ...]:
    """The failures that still say something: the latest of its kind each, and not where it was granted since."""
    found: dict[tuple[object, ...], Failure] = {}
    for attempt in sorted(attempts, key=lambda one: one.created_at, reverse=True):
        if attempt.failure is None or attempt.failure not in FAILURES or _granted_since(attempt, tenants):
            continue
        failure = Failure(
            id=attempt.id,
            kind=attempt.failure,
            permission_set_ids=attempt.remaining,
            tenant_id=attempt.tenant_id,
            error_code=attempt.error_code,
            reference=reference_of(attempt),
            at=attempt.created_at,
        )
        found.setdefault((failure.kind, failure.permission_set_ids, failure.tenant_id), failure)
    return tuple(found.values())


def _granted_since(attempt: Attempt, tenants: Sequence[Tenant]) -> bool:
    since = {
        grant.permission_set_id
        for tenant in tenants
        if attempt.tenant_id in {None, tenant.tenant_id}
        for grant in tenant.grants
        if grant.live and grant.accepted_at > attempt.created_at
    }
    return since.issuperset(attempt.remaining)
