"""Consent events as the gateway writes them, with every part that a test doesn't care about filled in."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from shared.events import GATEWAY, Actor, Event, EventData, GrantData, PermissionGranted, new_event

ACCOUNT = "northwind"
CONTOSO = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"
FABRIKAM = "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21"
ADMINISTRATOR = Actor(kind="administrator", id="6e7b1c1e-0f0a-4c0e-8f57-3c1f6a2d9b04")
START = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)

Data = TypeVar("Data", bound=EventData)

_TENANT: dict[str, Any] = {
    "account_id": ACCOUNT,
    "tenant_id": CONTOSO,
    "tenant_name": "Contoso Ltd",
    "primary_domain": "contoso.com",
    "revision": 1,
    "cause": "consent",
    "actor": ADMINISTRATOR,
}
_GRANT: dict[str, Any] = {
    "permission_set_id": "read-directory-data",
    "version": 1,
    "status": "granted",
    "usable": True,
    "apps": ("identity-security", "search"),
    "permissions": (
        {
            "resource_app_id": "00000003-0000-0000-c000-000000000000",
            "value": "Directory.Read.All",
            "type": "application",
        },
    ),
}


def at(revision: int) -> datetime:
    """The time of a revision: later ones are later."""
    return START + timedelta(milliseconds=revision)


def tenant_event(kind: type[Data], **changes: Any) -> Data:
    """The data of a tenant's event, such as TenantUpdated."""
    fields = _TENANT | changes
    if "occurred_at" not in fields:
        fields["occurred_at"] = at(fields["revision"])
    return kind.model_validate(fields)


def grant_event(kind: type[GrantData] = PermissionGranted, **changes: Any) -> GrantData:
    """The data of a grant's event."""
    return tenant_event(kind, **_GRANT | changes)


def event(data: EventData) -> Event:
    """The event, with an id of its own."""
    return new_event(GATEWAY, data)
