"""The JSON of the read API. A tenant is a ``shared.events.TenantState``: the same on HTTP and on Kafka."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.events import Actor, AdditionalSetting, HeldApp, Permission, PlannedChange, TenantState

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
            "available_version": None,
            "additional": [],
            "planned": [],
            "settings": [{"kind": "licence", "name": "AAD_PREMIUM_P2", "functions": ["identity-security/risky-users"]}],
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


FLEET_EXAMPLE: dict[str, Any] = {
    "account_id": "northwind",
    "tenants": 3,
    "statuses": {"granted": 2, "partial": 1, "revoked": 1},
    "permission_sets": [
        {
            "permission_set_id": "read-directory-data",
            "statuses": {"granted": 2, "revoked": 1},
            "versions": {"1": 2},
            "not_consented": 1,
        },
        {
            "permission_set_id": "manage-accounts",
            "statuses": {"partial": 1},
            "versions": {"1": 1},
            "not_consented": 2,
        },
    ],
    "counted_at": "2026-11-23T13:00:02Z",
}

ACCOUNT_EXAMPLE: dict[str, Any] = {"account_id": "northwind", "tenants": 3, "attention": 2}


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
    resource_app_id: str | None = Field(None, description="App id of the API that the tenant lacks.")
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
    available_version: int | None = None
    additional: tuple[Permission, ...] | None = None
    planned: tuple[PlannedChange, ...] | None = None
    settings: tuple[AdditionalSetting, ...] | None = None
    attempt_id: str | None = None
    registration: str | None = None
    client_id: str | None = None
    credential: str | None = Field(None, description="Name of the credential, never the credential.")
    expires_at: AwareDatetime | None = None
    days_left: int | None = None
    occurred_at: AwareDatetime


def entry_of(row: Mapping[str, Any]) -> HistoryEntry:
    """The entry of a stored row."""
    return HistoryEntry.model_validate({**row, "id": row["_id"], "revision": row["revision"] or None})


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


class SetCountsShown(BaseModel):
    """One permission set over the tenants of a fleet."""

    permission_set_id: str
    statuses: dict[str, int] = Field(description="Tenants by the status of their grant of this set.")
    versions: dict[int, int] = Field(description="Tenants by the accepted version; revoked grants are not counted.")
    not_consented: int = Field(description="Tenants without a grant of this set, or with a revoked one.")


class FleetShown(BaseModel):
    """How many tenants there are, and how they stand. Sets that no tenant ever consented to are not in here."""

    model_config = ConfigDict(json_schema_extra={"examples": [FLEET_EXAMPLE]})

    account_id: str | None = Field(description="Null over all accounts.")
    tenants: int
    statuses: dict[str, int] = Field(description="Tenants with some grant of that status.")
    permission_sets: Sequence[SetCountsShown]
    counted_at: AwareDatetime = Field(description="Large fleets are counted now and then, not at each request.")


class AccountShown(BaseModel):
    """An account with tenants. Counts end at 1001, which stands for more than 1000."""

    model_config = ConfigDict(json_schema_extra={"examples": [ACCOUNT_EXAMPLE]})

    account_id: str
    tenants: int
    attention: int = Field(description="Tenants with a grant that is partial, revoked or asks for more.")


class AccountPage(BaseModel):
    """Some accounts, and where the next ones begin."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [ACCOUNT_EXAMPLE], "next_cursor": None}]})

    items: Sequence[AccountShown]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last one.")
