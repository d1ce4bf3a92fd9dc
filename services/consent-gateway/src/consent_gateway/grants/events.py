"""What is said of a grant that changed. Pure."""

from datetime import datetime

from consent_gateway.grants.grants import Grant, Status, Tenant
from shared.events import (
    Actor,
    GrantData,
    PermissionBlocked,
    PermissionChanged,
    PermissionGranted,
    PermissionRevoked,
)


def same_to_readers(one: Grant, other: Grant) -> bool:
    """Whether the two differ in nothing that an event would say."""
    return _said(one) == _said(other)


def _said(grant: Grant) -> tuple[object, ...]:
    return (
        grant.status,
        grant.usable,
        grant.reason,
        grant.version,
        set(grant.apps),
        set(grant.held_apps),
        grant.app_epochs,
        set(grant.permissions),
        set(grant.missing),
        set(grant.extra),
        set(grant.unverified),
        grant.granted_at,
        grant.granted_by,
        grant.attempt_id,
        grant.available_version,
        set(grant.additional),
        grant.planned,
        set(grant.settings),
    )


def event_of(
    before: Grant | None,
    after: Grant,
    *,
    tenant: Tenant,
    previous_revision: int | None,
    cause: str,
    actor: Actor,
    occurred_at: datetime,
) -> GrantData:
    """The event of a change; ``after`` and ``tenant`` carry what is committed with it."""
    previous_status = before.status if before is not None else None
    kind: type[GrantData] = PermissionChanged
    if after.status is not previous_status:
        arrivals: dict[Status, type[GrantData]] = {
            Status.GRANTED: PermissionGranted,
            Status.BLOCKED: PermissionBlocked,
            Status.REVOKED: PermissionRevoked,
        }
        kind = arrivals.get(after.status, PermissionChanged)
    return kind(
        account_id=after.account_id,
        tenant_id=after.tenant_id,
        tenant_name=tenant.tenant_name,
        primary_domain=tenant.primary_domain,
        cloud=tenant.cloud,
        revision=after.revision,
        previous_revision=previous_revision,
        cause=cause,
        actor=actor,
        occurred_at=occurred_at,
        permission_set_id=after.permission_set_id,
        version=after.version,
        status=after.status,
        previous_status=previous_status,
        usable=after.usable,
        previous_usable=before.usable if before is not None else False,
        reason=after.reason,
        apps=after.apps,
        previous_apps=before.apps if before is not None else (),
        held_apps=after.held_apps,
        app_epochs=after.app_epochs,
        permissions=after.permissions,
        missing=after.missing,
        extra=after.extra,
        unverified=after.unverified,
        granted_at=after.granted_at,
        granted_by=after.granted_by,
        verified_at=after.verified_at,
        attempt_id=after.attempt_id,
        available_version=after.available_version,
        additional=after.additional,
        planned=after.planned,
        settings=after.settings,
    )
