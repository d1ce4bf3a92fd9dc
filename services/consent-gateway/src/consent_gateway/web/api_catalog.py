"""The catalogue as the JSON API shows it, with examples for its OpenAPI document."""

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from consent_gateway.catalog.model import App, Catalog, CatalogPermission, Function, Need, PermissionSet
from consent_gateway.web.api_models import Shown
from shared.events import Permission

GRAPH = "00000003-0000-0000-c000-000000000000"


class PermissionShown(Shown):
    """A permission, with the reason why it is needed."""

    resource_app_id: str
    resource: str = Field(description="Name of the API in Entra.")
    value: str
    type: Literal["application", "delegated"]
    reason: str

    @classmethod
    def of(cls, permission: CatalogPermission) -> "PermissionShown":
        """From the catalogue."""
        return cls(
            resource_app_id=permission.resource.app_id,
            resource=permission.resource.name,
            value=permission.value,
            type=permission.type,
            reason=permission.reason,
        )


class PlannedShown(Shown):
    """A version that was announced; until its date nothing changes."""

    version: int
    effective_from: datetime
    reason: str
    adds: list[PermissionShown]
    removes: list[Permission]


class PermissionSetShown(Shown):
    """A permission set: the unit of consent."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "read-directory-data",
                "title": "Read directory data",
                "description": "Users, groups and memberships, so that apps know whom they protect.",
                "version": 1,
                "client_id": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01",
                "apps": ["mobile-security"],
                "permissions": [
                    {
                        "resource_app_id": GRAPH,
                        "resource": "Microsoft Graph",
                        "value": "Directory.Read.All",
                        "type": "application",
                        "reason": "Reads users, groups and devices of the directory.",
                    }
                ],
                "planned": [],
            }
        }
    )

    id: str
    title: str
    description: str
    version: int
    client_id: str = Field(description="Application (client) ID to look for among the tenant's enterprise apps.")
    apps: list[str]
    permissions: list[PermissionShown]
    planned: list[PlannedShown] = Field(description="Announced versions, the next one first.")

    @classmethod
    def of(cls, permission_set: PermissionSet) -> "PermissionSetShown":
        """From the catalogue."""
        return cls(
            id=permission_set.id,
            title=permission_set.title,
            description=permission_set.description,
            version=permission_set.version,
            client_id=permission_set.client_id,
            apps=list(permission_set.apps),
            permissions=[PermissionShown.of(permission) for permission in permission_set.permissions],
            planned=[
                PlannedShown(
                    version=plan.version,
                    effective_from=plan.effective_from,
                    reason=plan.reason,
                    adds=[PermissionShown.of(permission) for permission in plan.adds],
                    removes=list(plan.removes),
                )
                for plan in permission_set.planned
            ],
        )


class NeedShown(Shown):
    """One way to have what a function needs."""

    permission_set_id: str | None = None
    permissions: list[Permission]

    @classmethod
    def of(cls, need: Need) -> "NeedShown":
        """From the catalogue."""
        return cls(permission_set_id=need.permission_set_id, permissions=list(need.permissions))


class FunctionShown(Shown):
    """What an app can do, and what it needs for that."""

    id: str
    title: str
    any_of: list[NeedShown]
    licence: str | None
    directory_roles: list[str]

    @classmethod
    def of(cls, function: Function) -> "FunctionShown":
        """From the catalogue."""
        return cls(
            id=function.id,
            title=function.title,
            any_of=[NeedShown.of(need) for need in function.any_of],
            licence=function.licence.title if function.licence else None,
            directory_roles=[role.name for role in function.directory_roles],
        )


class AppShown(Shown):
    """An app of the suite."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "mobile-security",
                "name": "Mobile Security",
                "description": "Protects mobile devices; people enrol them with their Entra ID account.",
                "tenant_limit": 1,
                "permission_set_ids": ["read-directory-data"],
                "functions": [
                    {
                        "id": "enrolment",
                        "title": "Let people authenticate with Entra ID when they enrol a device",
                        "any_of": [{"permission_set_id": "read-directory-data", "permissions": []}],
                        "licence": None,
                        "directory_roles": [],
                    }
                ],
            }
        }
    )

    id: str
    name: str
    description: str
    tenant_limit: int | None = Field(description="1 where the app may use one tenant of an account only.")
    permission_set_ids: list[str]
    functions: list[FunctionShown]

    @classmethod
    def of(cls, app: App) -> "AppShown":
        """From the catalogue."""
        return cls(
            id=app.id,
            name=app.name,
            description=app.description,
            tenant_limit=app.tenant_limit,
            permission_set_ids=list(app.sets),
            functions=[FunctionShown.of(function) for function in app.functions],
        )


class PermissionSetPage(Shown):
    """A page of permission sets."""

    items: list[PermissionSetShown]
    next_cursor: str | None = None


class AppPage(Shown):
    """A page of apps."""

    items: list[AppShown]
    next_cursor: str | None = None


def sets_of(catalog: Catalog) -> PermissionSetPage:
    """All permission sets; a catalogue always fits a page."""
    return PermissionSetPage(items=[PermissionSetShown.of(one) for one in catalog.sets.values()])


def apps_of(catalog: Catalog) -> AppPage:
    """All apps."""
    return AppPage(items=[AppShown.of(one) for one in catalog.apps.values()])
