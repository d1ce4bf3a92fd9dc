"""How a consent changes what a service principal holds (pure)."""

import uuid
from datetime import datetime, timedelta

from entra_sandbox.model import (
    DelegatedGrant,
    Propagation,
    RequiredPermission,
    RoleAssignment,
    ServicePrincipal,
    derived_id,
)

Roles = list[tuple[str, str]]
"""App roles: (id of the role, app id of the resource)."""


def visible_at(delay: Propagation, order: int, now: datetime) -> datetime | None:
    """When the n-th new thing of a consent shows up; None while it is held back."""
    return None if delay.hold else now + timedelta(seconds=delay.delay_seconds + order * delay.step_seconds)


def assign(
    principal: ServicePrincipal, wanted: Roles, delay: Propagation, *, now: datetime, replace: bool
) -> tuple[RoleAssignment, ...]:
    """The app role assignments after a consent: kept ones as they were, new ones late by the tenant's propagation."""
    kept = [item for item in principal.assignments if not replace or (item.app_role_id, item.resource_app_id) in wanted]
    held = {(item.app_role_id, item.resource_app_id) for item in kept}
    added = [
        RoleAssignment(
            id=str(uuid.uuid4()),
            app_role_id=role,
            resource_app_id=resource,
            created_at=now,
            visible_at=visible_at(delay, order, now),
        )
        for order, (role, resource) in enumerate(pair for pair in wanted if pair not in held)
    ]
    return (*kept, *added)


def for_everybody(
    principal: ServicePrincipal, delegated: tuple[RequiredPermission, ...], *, replace: bool
) -> tuple[DelegatedGrant, ...]:
    """The delegated grants after an administrator's consent for all; those of single people stay."""
    personal = tuple(item for item in principal.grants if item.principal_id)
    general = [item for item in principal.grants if not item.principal_id]
    scopes = {} if replace else {item.resource_app_id: list(item.scopes) for item in general}
    return (*_grants(principal, _added(scopes, delegated), None), *personal)


def for_person(
    principal: ServicePrincipal, delegated: tuple[RequiredPermission, ...], person_id: str
) -> tuple[DelegatedGrant, ...]:
    """The delegated grants after a person's own consent."""
    others = tuple(item for item in principal.grants if item.principal_id != person_id)
    mine = [item for item in principal.grants if item.principal_id == person_id]
    scopes = {item.resource_app_id: list(item.scopes) for item in mine}
    return (*others, *_grants(principal, _added(scopes, delegated), person_id))


def _added(scopes: dict[str, list[str]], delegated: tuple[RequiredPermission, ...]) -> dict[str, list[str]]:
    for item in delegated:
        present = scopes.setdefault(item.resource_app_id, [])
        if item.value not in present:
            present.append(item.value)
    return scopes


def _grants(
    principal: ServicePrincipal, scopes: dict[str, list[str]], person_id: str | None
) -> tuple[DelegatedGrant, ...]:
    return tuple(
        DelegatedGrant(
            id=derived_id(principal.object_id, resource, person_id or "everybody"),
            resource_app_id=resource,
            scopes=tuple(values),
            principal_id=person_id,
        )
        for resource, values in scopes.items()
    )
