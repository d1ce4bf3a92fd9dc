"""The JSON of the read API. A tenant is a ``shared.events.TenantState``: the same on HTTP and on Kafka."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from shared.events import Actor, HeldApp, Permission, Slug, TenantState

Status = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,63}$")]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=1000)]

TENANT_EXAMPLE: dict[str, Any] = {
    "account_id": "northwind",
    "tenant_id": "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10",
    "tenant_name": "Contoso Ltd",
    "primary_domain": "contoso.com",
    "cloud": "global",
    "revision": 1795438800123,
    "grants": [
        {
            "permission_set_id": "read-directory-data",
            "status": "granted",
            "usable": True,
            "reason": None,
            "version": 1,
            "apps": ["identity-security", "search"],
            "held_apps": [
                {"app_id": "mobile-security", "tenant_id": "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21", "epoch": 2}
            ],
            "app_epochs": {},
            "permissions": [
                {
                    "resource_app_id": "00000003-0000-0000-c000-000000000000",
                    "value": "Directory.Read.All",
                    "type": "application",
                }
            ],
            "missing": [],
            "extra": [],
            "unverified": [],
            "granted_at": "2026-11-23T13:00:00Z",
            "granted_by": "6e7b1c1e-0f0a-4c0e-8f57-3c1f6a2d9b04",
            "verified_at": "2026-11-23T13:00:02Z",
            "revision": 1795438800123,
        }
    ],
    "updated_at": "2026-11-23T13:00:02Z",
}

HISTORY_EXAMPLE: dict[str, Any] = {
    "id": "0d8f9a0e-6f5b-4a3e-9c1d-2b7e4f6a8c10",
    "type": "PermissionGranted",
    "account_id": "northwind",
    "tenant_id": "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10",
    "tenant_name": "Contoso Ltd",
    "permission_set_id": "read-directory-data",
    "version": 1,
    "revision": 1795438800123,
    "status": "granted",
    "previous_status": "verifying",
    "usable": True,
    "cause": "verification",
    "actor": {"kind": "administrator", "id": "6e7b1c1e-0f0a-4c0e-8f57-3c1f6a2d9b04"},
    "apps": ["identity-security", "search"],
    "occurred_at": "2026-11-23T13:00:02Z",
}


class TenantPage(BaseModel):
    """Some tenants, and where the next ones begin."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [TENANT_EXAMPLE], "next_cursor": None}]})

    items: Sequence[TenantState]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last one.")


class HistoryEntry(BaseModel):
    """What happened, by whom and when: the event as the gateway recorded it. Fields that it doesn't have are absent."""

    model_config = ConfigDict(json_schema_extra={"examples": [HISTORY_EXAMPLE]})

    id: str = Field(description="The event's id (CloudEvents `id`).")
    type: str = Field(description="Name of the event, for example PermissionGranted.")
    account_id: str | None = None
    tenant_id: str | None = None
    tenant_name: str | None = None
    primary_domain: str | None = None
    cloud: str | None = None
    permission_set_id: str | None = None
    permission_set_ids: tuple[str, ...] | None = None
    version: int | None = None
    revision: int | None = None
    previous_revision: int | None = None
    status: str | None = None
    previous_status: str | None = None
    usable: bool | None = None
    reason: str | None = None
    cause: str | None = None
    stage: str | None = None
    error_code: str | None = None
    detail: str | None = Field(None, description="What exactly did not hold, for support.")
    versions: dict[str, int] | None = None
    channel: str | None = Field(None, description="Where a run was started: console, api, app or invitation.")
    requested_by: str | None = None
    actor: Actor | None = Field(None, description="Object ids only; names are in the gateway.")
    apps: tuple[str, ...] | None = None
    previous_apps: tuple[str, ...] | None = None
    held_apps: tuple[HeldApp, ...] | None = None
    app_epochs: dict[str, int] | None = None
    permissions: tuple[Permission, ...] | None = None
    missing: tuple[Permission, ...] | None = None
    extra: tuple[Permission, ...] | None = None
    unverified: tuple[Permission, ...] | None = None
    granted_at: AwareDatetime | None = None
    granted_by: str | None = None
    verified_at: AwareDatetime | None = None
    attempt_id: str | None = None
    registration: str | None = None
    client_id: str | None = None
    credential: str | None = Field(None, description="Name of the credential, never the credential.")
    expires_at: AwareDatetime | None = None
    days_left: int | None = None
    occurred_at: AwareDatetime


class HistoryPage(BaseModel):
    """Some entries, newest first, and where the next ones begin."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [HISTORY_EXAMPLE], "next_cursor": None}]})

    items: Sequence[HistoryEntry]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last one.")


class ProblemDetails(BaseModel):
    """Problem details (RFC 9457); `code` is stable, `detail` names the next step."""

    type: str
    title: str
    status: int
    code: str
    detail: str


class PageParameters(BaseModel):
    """Parameters that all lists have; one that a list doesn't know is an error, not ignored."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=200, description="Most items on the page.")
    cursor: Cursor | None = Field(None, description="`next_cursor` of the page before.")
    account_id: Slug | None = Field(None, description="Only this account (for staff and apps, who read across them).")


class TenantParameters(PageParameters):
    """Parameters of the list of tenants."""

    app_id: Slug | None = Field(None, description="Tenants with a grant that names this app.", examples=["search"])
    permission_set_id: Slug | None = Field(None, description="Tenants with a grant of this permission set.")
    status: Status | None = Field(
        None,
        description="Tenants with a grant of this status (that one, if app or set are named).",
        examples=["granted"],
    )
    q: str | None = Field(
        None, max_length=200, description="Beginnings of words of the tenant's name or domain, or its whole id."
    )
