"""What the admin API and its pages show of a directory."""

from datetime import datetime
from typing import Generic, TypeVar

from entra_sandbox.directory import Directory
from entra_sandbox.model import Frozen, ServicePrincipal

Item = TypeVar("Item")


class Items(Frozen, Generic[Item]):
    """A list as the admin API answers with it."""

    items: list[Item]


class AppRoleView(Frozen):
    """An application permission that an app holds; held-back ones are not visible to anybody else yet."""

    resource: str
    resource_app_id: str
    value: str
    visible: bool
    visible_at: datetime | None


class GrantView(Frozen):
    """Delegated permissions that an app holds."""

    resource: str
    consent_type: str
    principal_id: str | None
    scopes: tuple[str, ...]


class PrincipalView(Frozen):
    """An app as it is present in a tenant."""

    client_id: str
    display_name: str
    object_id: str
    tenant_id: str
    account_enabled: bool
    visible: bool
    created_at: datetime
    app_roles: tuple[AppRoleView, ...]
    grants: tuple[GrantView, ...]
    directory_roles: tuple[str, ...]


def principal_view(directory: Directory, item: ServicePrincipal) -> PrincipalView:
    """An app in a tenant with the names of what it holds."""
    registration = directory.registration(item.client_id)
    seen = {entry.id for entry in directory.visible_assignments(item)}
    return PrincipalView(
        client_id=item.client_id,
        display_name=registration.display_name if registration else item.client_id,
        object_id=item.object_id,
        tenant_id=item.tenant_id,
        account_enabled=item.account_enabled,
        visible=directory.principal(item.tenant_id, item.client_id) is not None,
        created_at=item.created_at,
        app_roles=tuple(
            AppRoleView(
                resource=directory.resources[entry.resource_app_id].name,
                resource_app_id=entry.resource_app_id,
                value=_role_name(directory, entry.resource_app_id, entry.app_role_id),
                visible=entry.id in seen,
                visible_at=entry.visible_at,
            )
            for entry in item.assignments
        ),
        grants=tuple(
            GrantView(
                resource=directory.resources[grant.resource_app_id].name,
                consent_type=grant.consent_type,
                principal_id=grant.principal_id,
                scopes=grant.scopes,
            )
            for grant in item.grants
        ),
        directory_roles=item.directory_roles,
    )


def _role_name(directory: Directory, resource_app_id: str, role_id: str) -> str:
    permissions = directory.resources[resource_app_id].permissions
    return next((item.value for item in permissions if item.id == role_id), role_id)
