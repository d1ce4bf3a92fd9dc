"""The form of the catalogue's file: which entries there are, and what each holds. References are not followed here."""

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.events import Slug, TenantId

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s#]+$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ResourceEntry(_Entry):
    """An API, by the key that permissions refer to it with."""

    app_id: TenantId
    identifier: Text
    name: Text


class PermissionEntry(_Entry):
    """A permission that a set asks for, and why."""

    resource: str
    value: Text
    type: Literal["application", "delegated"] = "application"
    reason: Text


class PermissionRef(_Entry):
    """A permission that is named elsewhere."""

    resource: str
    value: Text
    type: Literal["application", "delegated"] = "application"


class PlannedEntry(_Entry):
    """A version that is announced: what it adds and removes, and from which day on."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    version: int = Field(ge=2)
    from_: date = Field(alias="from")
    reason: Text
    adds: list[PermissionEntry] = []
    removes: list[PermissionRef] = []


class SetEntry(_Entry):
    """A permission set."""

    id: Slug
    title: Text
    description: Text
    version: int = Field(ge=1)
    registration: Slug
    permissions: list[PermissionEntry] = Field(min_length=1)
    planned: list[PlannedEntry] = []


class NeedEntry(_Entry):
    """What a function needs: a permission set, or some permissions."""

    permission_set: str | None = None
    permissions: list[PermissionRef] = []


class LicenceEntry(_Entry):
    """A licence, by any of the service plans that bring it."""

    title: Text
    service_plans: list[Text] = Field(min_length=1)


class DirectoryRoleEntry(_Entry):
    """A directory role of Entra, by its template."""

    name: Text
    template_id: TenantId


class FunctionEntry(_Entry):
    """A function of an app: any one of its needs is enough."""

    id: Slug
    title: Text
    any_of: list[NeedEntry] = Field(min_length=1)
    licence: LicenceEntry | None = None
    directory_roles: list[DirectoryRoleEntry] = []


class AppEntry(_Entry):
    """An app, and the sets that it uses."""

    id: Slug
    name: Text
    description: Text
    tenant_limit: Literal[1] | None = None
    return_urls: list[Url] = []
    permission_sets: list[str] = Field(min_length=1)
    functions: list[FunctionEntry] = []


class CatalogForm(_Entry):
    """The whole file."""

    version: int = Field(ge=1)
    resources: dict[Slug, ResourceEntry]
    permission_sets: list[SetEntry] = Field(min_length=1)
    apps: list[AppEntry]
