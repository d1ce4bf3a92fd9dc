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
_READ = {"resource_app_id": "00000003-0000-0000-c000-000000000000", "value": "User.Read.All", "type": "application"}
# What a grant's event may say beside that: nothing is as it is where an event leaves it out.
_REST: dict[str, Any] = {
    "cloud": "usgov",
    "previous_revision": 3,
    "previous_status": "verifying",
    "previous_usable": False,
    "reason": "removed",
    "previous_apps": ("search",),
    "held_apps": ({"app_id": "mobile-security", "tenant_id": FABRIKAM, "epoch": 3},),
    "app_epochs": {"identity-security": 2},
    "missing": ({**_READ, "value": "Group.Read.All"},),
    "extra": ({**_READ, "value": "Sites.Read.All"},),
    "unverified": ({**_READ, "value": "User.Read", "type": "delegated"},),
    "granted_at": START,
    "granted_by": ADMINISTRATOR.id,
    "verified_at": START + timedelta(hours=1),
    "attempt_id": "a-1",
    "available_version": 2,
    "additional": (_READ,),
    "planned": (
        {"version": 3, "effective_from": START + timedelta(days=30), "adds": (_READ,), "removes": (), "reason": "more"},
    ),
    "settings": ({"kind": "directory_role", "name": "Security Reader", "functions": ("search/find",)},),
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


def whole_grant_event(kind: type[GrantData] = PermissionGranted) -> GrantData:
    """The data of a grant's event that says all that there is to say."""
    return grant_event(kind, revision=4, **_REST)


def event(data: EventData) -> Event:
    """The event, with an id of its own."""
    return new_event(GATEWAY, data)
