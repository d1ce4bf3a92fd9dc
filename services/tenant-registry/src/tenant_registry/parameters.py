"""The parameters of the read API's lists; one that a list doesn't know is an error, not ignored."""

from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from shared.events import Int64, Slug, canonical_tenant_id

Status = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,63}$")]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class Filters(BaseModel):
    """What all lists and exports have."""

    model_config = ConfigDict(extra="forbid")

    account_id: Slug | None = Field(None, description="Only this account (for staff and apps, who read across them).")


class PageParameters(Filters):
    """What all lists have."""

    limit: int = Field(50, ge=1, le=200, description="Most items on the page.")
    cursor: Cursor | None = Field(None, description="`next_cursor` of the page before.")


class TenantFilters(Filters):
    """Which tenants."""

    app_id: Slug | None = Field(None, description="Tenants with a grant that names this app.", examples=["search"])
    permission_set_id: Slug | None = Field(None, description="Tenants with a grant of this permission set.")
    status: Status | None = Field(
        None,
        description="Tenants with a grant of this status (that one, if app or set are named).",
        examples=["granted"],
    )
    version: Int64 | None = Field(
        None, ge=0, description="Tenants whose grant of `permission_set_id` has this version."
    )
    not_consented: Slug | None = Field(
        None, description="Tenants that have no grant of this permission set, or only a revoked one."
    )
    q: str | None = Field(
        None, max_length=200, description="Beginnings of words of the tenant's name or domain, or its whole id."
    )

    @model_validator(mode="after")
    def _version_of_a_set(self) -> Self:
        if self.version is not None and self.permission_set_id is None:
            raise ValueError("version counts per permission set: name one with permission_set_id")
        return self


class TenantParameters(TenantFilters, PageParameters):
    """The list of tenants."""


class HistoryFilters(Filters):
    """Which entries of the history."""

    type: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]{0,63}$")] | None = Field(
        None, description="Only events of this name.", examples=["PermissionRevoked"]
    )
    since: AwareDatetime | None = Field(None, description="From this time on (RFC 3339).")
    until: AwareDatetime | None = Field(None, description="Before this time (RFC 3339).")


class HistoryParameters(HistoryFilters, PageParameters):
    """The history of an account."""


class TenantHistoryFilters(HistoryFilters):
    """Which entries of a tenant's history."""

    permission_set_id: Slug | None = Field(None, description="Only what concerned this permission set.")


class TenantHistoryParameters(TenantHistoryFilters, PageParameters):
    """The history of a tenant."""


class HistoryExport(TenantHistoryFilters):
    """Which entries are exported: of an account, or of one of its tenants."""

    tenant_id: str | None = Field(None, description="Only what happened to this tenant (GUID).")

    @field_validator("tenant_id")
    @classmethod
    def _canonical(cls, value: str | None) -> str | None:
        if value is not None and canonical_tenant_id(value) is None:
            raise ValueError("a tenant id is a GUID")
        return canonical_tenant_id(value) if value is not None else None

    @model_validator(mode="after")
    def _set_of_a_tenant(self) -> Self:
        if self.permission_set_id is not None and self.tenant_id is None:
            raise ValueError("permission_set_id narrows the history of one tenant: name it with tenant_id")
        return self
