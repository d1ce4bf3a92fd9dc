"""What is behind a row of the screen: each permission with its state, and who accepted what when. Pure."""

from dataclasses import dataclass
from datetime import datetime

from consent_gateway.catalog.model import CatalogPermission, PermissionSet
from consent_gateway.catalog.needs import Affected
from consent_gateway.grants.grants import Grant
from consent_gateway.web.texts import plain


@dataclass(frozen=True, kw_only=True)
class PermissionLine:
    """One permission with its state: granted, missing, verifying, new, unverified, required or extra."""

    value: str
    resource: str
    type: str
    reason: str
    state: str


@dataclass(frozen=True, kw_only=True)
class Details:
    """Everything behind a row. ``affected`` are the functions that do not work now."""

    lines: tuple[PermissionLine, ...]
    affected: tuple[Affected, ...]
    client_id: str
    current_version: int
    accepted_version: int | None = None
    accepted_at: datetime | None = None
    accepted_by: str | None = None
    verified_at: datetime | None = None


def details_of(
    wanted: PermissionSet, grant: Grant | None, people: dict[str, str], broken: tuple[Affected, ...]
) -> Details:
    """The details of a set on a tenant, or of one that isn't granted there; ``people`` are names by object id."""
    lines = [_line(permission, _state(permission, grant)) for permission in wanted.permissions]
    resources = {permission.resource.app_id: permission.resource.name for permission in wanted.permissions}
    extra = [
        PermissionLine(
            value=permission.value,
            resource=resources.get(permission.resource_app_id, permission.resource_app_id),
            type=permission.type,
            reason=plain("permission.extra.reason"),
            state="extra",
        )
        for permission in (grant.extra if grant else ())
    ]
    return Details(
        lines=(*lines, *extra),
        affected=broken,
        client_id=wanted.client_id,
        current_version=wanted.version,
        accepted_version=grant.version if grant else None,
        accepted_at=grant.accepted_at if grant else None,
        accepted_by=people.get(grant.granted_by or "") if grant else None,
        verified_at=grant.health.last_good_at if grant else None,
    )


def _line(permission: CatalogPermission, state: str) -> PermissionLine:
    return PermissionLine(
        value=permission.value,
        resource=permission.resource.name,
        type=permission.type,
        reason=permission.reason,
        state=state,
    )


def _state(permission: CatalogPermission, grant: Grant | None) -> str:
    if grant is None:
        return "required"
    if permission.key in grant.permissions:
        return "granted"
    if permission.key not in grant.accepted:
        return "new"
    if permission.key in grant.unverified:
        return "unverified"
    return "verifying" if grant.status == "verifying" else "missing"
