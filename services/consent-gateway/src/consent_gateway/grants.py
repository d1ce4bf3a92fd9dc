"""What a grant is."""

from dataclasses import dataclass
from datetime import datetime

from shared.events import HeldApp, Permission


@dataclass(frozen=True, kw_only=True)
class Grant:
    """(account, tenant, permission set) as the gateway knows it."""

    account_id: str
    tenant_id: str
    permission_set_id: str
    version: int
    status: str
    usable: bool
    reason: str | None
    apps: tuple[str, ...]
    held_apps: tuple[HeldApp, ...]
    app_epochs: dict[str, int]
    permissions: tuple[Permission, ...]
    missing: tuple[Permission, ...]
    extra: tuple[Permission, ...]
    unverified: tuple[Permission, ...]
    granted_at: datetime | None
    granted_by: str | None
    verified_at: datetime | None
    attempt_id: str | None
    revision: int


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A tenant of an account with its grants, for the screen. ``people`` are names by object id, where known."""

    account_id: str
    tenant_id: str
    tenant_name: str | None
    primary_domain: str | None
    cloud: str
    revision: int
    updated_at: datetime
    grants: tuple[Grant, ...]
    people: dict[str, str]
