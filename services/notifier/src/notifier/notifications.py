"""Which change concerns whom, and the words of the webhook that tells them. Pure: no clock, no network, no store.

A ``Notice`` is what is kept of an event. A body is rendered from it and from who reads it, by nothing else, so a retry,
a resend or another process sends the same bytes under the same id.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic_core import to_json

from shared.events import (
    BadRecord,
    ConsentFailed,
    CredentialExpiring,
    Event,
    GrantData,
    Permission,
    PermissionStatusChanged,
    RegistrationStatusChanged,
    TenantRemoved,
    TenantUpdated,
)

Access = Literal["gained", "kept", "lost"]

STATUS_CHANGED = "permission.status_changed"
TENANT_UPDATED = "tenant.updated"
TENANT_REMOVED = "tenant.removed"
CONSENT_FAILED = "consent.failed"
CREDENTIAL_EXPIRING = "credential.expiring"
REGISTRATION_STATUS_CHANGED = "registration.status_changed"
ENDPOINT_DISABLED = "endpoint.disabled"
TEST_PING = "test.ping"

EVENT_TYPES = (
    STATUS_CHANGED,
    TENANT_UPDATED,
    TENANT_REMOVED,
    CONSENT_FAILED,
    CREDENTIAL_EXPIRING,
    REGISTRATION_STATUS_CHANGED,
    ENDPOINT_DISABLED,
    TEST_PING,
)
# They are about the suite itself: apps hear of them where they ask for them, accounts never do.
PLATFORM_TYPES = frozenset({CREDENTIAL_EXPIRING, REGISTRATION_STATUS_CHANGED})

# State republished for a rebuild is not news.
SILENT_CAUSES = frozenset({"snapshot"})
# Of events that don't say whether the grant was usable before: in these states it gave nobody access, whatever apps it
# names. A status we don't know is taken for a usable one: better told twice of a loss than never.
_WITHOUT_ACCESS = frozenset({None, "verifying", "blocked", "revoked"})
# The id is signed as "{id}.{timestamp}.{body}" and sent as a header: a dot or a line break would be forgery.
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

Fields = Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What one event tells: the fields all readers see, and per audience those that differ.

    ``audiences`` maps an app's id to its fields; the key None stands for the account itself. A notice of the platform
    (``platform``) concerns every app, but only where it was asked for by its type.
    """

    id: str
    type: str
    timestamp: str
    account_id: str | None
    data: Fields
    audiences: Mapping[str | None, Fields]
    platform: bool = False
    _bodies: dict[str | None, bytes] = field(default_factory=dict, repr=False, compare=False)

    def apps(self) -> Iterable[str]:
        """Ids of the apps it concerns."""
        return (app_id for app_id in self.audiences if app_id is not None)

    def permission_sets(self) -> frozenset[str]:
        """Ids of the permission sets it is about; none when it is about a tenant or an endpoint as a whole."""
        one, several = self.data.get("permission_set_id"), self.data.get("permission_set_ids")
        if isinstance(one, str):
            return frozenset((one,))
        return frozenset(several) if isinstance(several, list) else frozenset()

    def concerns(self, app_id: str | None) -> bool:
        """Whether the app, or with None the account, is among its readers."""
        return app_id in self.audiences or (self.platform and app_id is not None)

    def body(self, app_id: str | None) -> bytes:
        """The bytes that are signed and sent to a subscription of this app, or of the account, that it concerns."""
        body = self._bodies.get(app_id)
        if body is None:
            data = {**self.data, "app_id": app_id, **self.audiences.get(app_id, {})}
            # A fifth of what `json.dumps` takes, for the same bytes.
            body = self._bodies[app_id] = to_json({"type": self.type, "timestamp": self.timestamp, "data": data})
        return body


def notice_of(event: Event) -> Notice | None:
    """What the event tells, or None when it is nobody's news.

    Raises:
        BadRecord: its id can't be a webhook's id.
    """
    if not _SAFE_ID.fullmatch(event.id):
        raise BadRecord("ce_id is not 1 to 128 letters, digits, - or _")
    if getattr(event.data, "cause", None) in SILENT_CAUSES:
        return None
    return _told(event)


def _told(event: Event) -> Notice | None:
    match event.data:
        case PermissionStatusChanged() as data:
            return _status_changed(event, data)
        case TenantUpdated() as data:
            fields = _tenant_fields(data) | {"primary_domain": data.primary_domain, "revision": data.revision}
            return _notice(event, TENANT_UPDATED, data.account_id, fields, {None: {}})
        case TenantRemoved() as data:
            fields = _tenant_fields(data) | {"reason": data.reason, "revision": data.revision}
            readers = _everyone(data.apps, {"access": "lost"})
            return _notice(event, TENANT_REMOVED, data.account_id, fields, readers)
        case ConsentFailed() as data:
            return _consent_failed(event, data)
        case CredentialExpiring() | RegistrationStatusChanged() as data:
            return _of_the_platform(event, data)
        case _:
            return None


def access(*, had: bool, has: bool) -> Access:
    """What a change means for one reader; ``kept`` says nothing changed, ``usable`` beside it says what it is."""
    if had == has:
        return "kept"
    return "gained" if has else "lost"


def _status_changed(event: Event, data: GrantData) -> Notice:
    before = data.previous_usable
    if before is None:
        before = data.previous_status not in _WITHOUT_ACCESS
    fields: dict[str, object] = {
        **_tenant_fields(data),
        "permission_set_id": data.permission_set_id,
        "previous_status": data.previous_status,
        "status": data.status,
        "reason": data.reason,
        "permissions": _permissions(data.permissions),
        "missing": _permissions(data.missing),
        **_from_catalogue(data),
        "revision": data.revision,
    }
    epochs = dict(data.app_epochs) | {held.app_id: held.epoch for held in data.held_apps}
    audiences: dict[str | None, Fields] = {
        None: {"usable": data.usable, "access": access(had=before, has=data.usable)},
    }
    for app_id in dict.fromkeys((*data.apps, *data.previous_apps)):
        has = data.usable and app_id in data.apps
        own: dict[str, object] = {
            "usable": has,
            "access": access(had=before and app_id in data.previous_apps, has=has),
        }
        if app_id in epochs:
            own["epoch"] = epochs[app_id]
        audiences[app_id] = own
    return _notice(event, STATUS_CHANGED, data.account_id, fields, audiences)


def _from_catalogue(data: GrantData) -> Fields:
    """What a newer version asks for, what is planned, which settings are missing; what says nothing is left out."""
    found: dict[str, object] = {
        "available_version": data.available_version,
        "additional": _permissions(data.additional),
        "planned": [plan.model_dump(mode="json") for plan in data.planned],
        "settings": [setting.model_dump(mode="json") for setting in data.settings],
    }
    return {name: value for name, value in found.items() if value}


def _consent_failed(event: Event, data: ConsentFailed) -> Notice:
    fields: dict[str, object] = {
        "account_id": data.account_id,
        "tenant": {"id": data.tenant_id, "name": None} if data.tenant_id else None,
        "permission_set_ids": list(data.permission_set_ids),
        "stage": data.stage,
        "reason": data.reason,
        "error_code": data.error_code,
        "resource_app_id": data.resource_app_id,
        "attempt_id": data.attempt_id,
    }
    return _notice(event, CONSENT_FAILED, data.account_id, fields, _everyone(data.apps, {}))


def _of_the_platform(event: Event, data: CredentialExpiring | RegistrationStatusChanged) -> Notice:
    """The suite's own credentials and client registrations: no customer's account reads of them."""
    fields: dict[str, object] = {"registration": data.registration, "client_id": data.client_id}
    if isinstance(data, CredentialExpiring):
        fields |= {
            "credential": data.credential,
            "expires_at": timestamp(data.expires_at),
            "days_left": data.days_left,
        }
        return _notice(event, CREDENTIAL_EXPIRING, None, fields, {}, platform=True)
    fields |= {"status": data.status, "previous_status": data.previous_status, "error_code": data.error_code}
    return _notice(event, REGISTRATION_STATUS_CHANGED, None, fields, {}, platform=True)


def ping(*, notice_id: str, at: datetime, subscription_id: str, app_id: str | None, account_id: str | None) -> Notice:
    """What a subscription's owner asks for to see an endpoint work."""
    data = {"account_id": account_id, "subscription_id": subscription_id}
    return Notice(
        id=notice_id, type=TEST_PING, timestamp=timestamp(at), account_id=account_id, data=data, audiences={app_id: {}}
    )


def endpoint_disabled(
    *,
    at: datetime,
    subscription_id: str,
    version: int,
    url: str,
    reason: str,
    app_id: str | None,
    account_id: str | None,
) -> Notice:
    """Tells the owner, at the owner's other endpoints, that one was disabled.

    The id follows from the subscription's version: attempts that fail side by side announce one thing.
    """
    return Notice(
        id=str(uuid5(NAMESPACE_URL, f"{ENDPOINT_DISABLED}:{subscription_id}:{version}")),
        type=ENDPOINT_DISABLED,
        timestamp=timestamp(at),
        account_id=account_id,
        data={"account_id": account_id, "subscription_id": subscription_id, "url": url, "reason": reason},
        audiences={app_id: {}},
    )


def timestamp(time: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _notice(
    event: Event,
    kind: str,
    account_id: str | None,
    data: Fields,
    audiences: Mapping[str | None, Fields],
    *,
    platform: bool = False,
) -> Notice:
    return Notice(
        id=event.id,
        type=kind,
        timestamp=timestamp(event.time),
        account_id=account_id,
        data=data,
        audiences=audiences,
        platform=platform,
    )


def _tenant_fields(data: GrantData | TenantUpdated | TenantRemoved) -> dict[str, object]:
    return {"account_id": data.account_id, "tenant": {"id": data.tenant_id, "name": data.tenant_name}}


def _everyone(apps: Iterable[str], fields: Fields) -> dict[str | None, Fields]:
    """The account and the apps, who all read the same."""
    return dict.fromkeys((None, *apps), fields)


def _permissions(permissions: Iterable[Permission]) -> list[dict[str, str]]:
    return [{"resource_app_id": p.resource_app_id, "value": p.value, "type": p.type} for p in permissions]
