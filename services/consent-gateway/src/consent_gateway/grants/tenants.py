"""What a change makes of the tenant's own document, and what is said of it. Pure."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from consent_gateway.checks.checks import Organization
from consent_gateway.grants.change import Change, Turn
from consent_gateway.grants.grants import Tenant
from shared.events import EventData, TenantRemoved, TenantUpdated

# Made of the tenant, its revision, the one before, and the time.
MakeEvent = Callable[[Tenant, int, int | None, datetime], EventData]


def described(turn: Turn, organization: Organization | None, *, cloud: str, now: datetime) -> Tenant:
    """The tenant with its latest name and domain; a new one has neither before Graph was asked."""
    known = turn.tenant or Tenant(
        account_id=turn.account_id,
        tenant_id=turn.tenant_id,
        tenant_name=None,
        primary_domain=None,
        cloud=cloud,
        revision=0,
        updated_at=now,
        people={},
    )
    if organization is None:
        return replace(known, updated_at=now)
    return replace(
        known,
        tenant_name=organization.name or known.tenant_name,
        primary_domain=organization.primary_domain or known.primary_domain,
        updated_at=now,
    )


def tenant_events(turn: Turn, change: Change, tenant: Tenant) -> list[MakeEvent]:
    """What is said of the tenant itself beside its grants; each still waits for its revision."""
    before = turn.tenant
    events: list[MakeEvent] = []
    renamed = before is not None and (before.tenant_name, before.primary_domain) != (
        tenant.tenant_name,
        tenant.primary_domain,
    )
    # A first name that comes with a grant's event needs no event of its own.
    if renamed and not (before is not None and before.tenant_name is None and change.grants):
        events.append(lambda *now: TenantUpdated(**_about(change, *now)))
    if change.removed is not None:
        reason, apps = change.removed, {app for grant in turn.grants.values() for app in grant.apps}
        events.append(lambda *now: TenantRemoved(**_about(change, *now), reason=reason, apps=tuple(sorted(apps))))
    return events


def removed_at(before: Tenant | None, change: Change, now: datetime) -> datetime | None:
    """Since when the tenant is removed: a new consent brings it back."""
    if change.removed is not None:
        return now
    return before.removed_at if before is not None and not change.accepted else None


def next_revision(previous: int | None, now: datetime) -> int:
    """Survives a restored backup: a counter that was set back is overtaken by the clock."""
    return max((previous or 0) + 1, int(now.timestamp() * 1000))


def _about(change: Change, tenant: Tenant, revision: int, previous: int | None, now: datetime) -> dict[str, object]:
    return {
        "account_id": tenant.account_id,
        "tenant_id": tenant.tenant_id,
        "tenant_name": tenant.tenant_name,
        "primary_domain": tenant.primary_domain,
        "cloud": tenant.cloud,
        "revision": revision,
        "previous_revision": previous,
        "cause": change.cause,
        "actor": change.actor,
        "occurred_at": now,
    }
