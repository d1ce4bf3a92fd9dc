"""The events services meet in: their data, their CloudEvents envelope, and the only way to write and read them.

Wire form: CloudEvents 1.0, Kafka protocol binding, binary mode (``ce_*`` headers, JSON body). Events carry state, not
deltas. A type's version changes only when a reader of the old one would be misled; fields are only ever added.
Readers ignore fields they don't know and skip types they don't know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from typing_extensions import override

AccountId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
TenantId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _int64(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("does not fit into 64 bits")
    return value


def _instant(value: datetime) -> datetime:
    # Compared as they are: a time at the very end of the calendar can't be brought to UTC.
    if not _EARLIEST <= value < _LATEST:
        raise ValueError("is not between the years 1970 and 9000")
    return value


# What every reader can store (BSON's integers and dates) and calculate with. The schemas don't say it, because it takes
# nothing away that a record ever held.
Int64 = Annotated[int, AfterValidator(_int64)]
Instant = Annotated[AwareDatetime, AfterValidator(_instant)]

TYPE_PREFIX = "visionone.entra."
GATEWAY = "/consent-gateway"
REGISTRY = "/tenant-registry"
PLATFORM_KEY = "platform:-"


class Frozen(BaseModel):
    """A value: equal by content, never changed, unknown fields ignored on the way in."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Permission(Frozen):
    """One permission of one resource API; the same value exists on several resources."""

    resource_app_id: str
    value: str
    type: Literal["application", "delegated"]


class HeldApp(Frozen):
    """A limited app that uses another tenant than the grant's, since the slot's epoch."""

    app_id: str
    tenant_id: str
    epoch: Int64


class PlannedChange(Frozen):
    """A version of the permission set that was announced: until its date nothing changes."""

    version: Int64
    effective_from: Instant
    adds: tuple[Permission, ...] = ()
    removes: tuple[Permission, ...] = ()
    reason: str


class AdditionalSetting(Frozen):
    """Something in Entra that no consent gives and that is not there: what it is, and what it holds back."""

    kind: str = Field(description="directory_role, licence or resource (an API); an open string.")
    name: str
    functions: tuple[str, ...] = Field((), description="The functions held back, as `{app_id}/{function_id}`.")


class Actor(Frozen):
    """Who caused a change. Object ids only: names stay in the gateway, where they can be erased."""

    kind: Literal["user", "administrator", "app", "system"]
    id: str


class EventData(Frozen):
    """The data of an event; ``type_name`` is the last part of its CloudEvents type."""

    type_name: ClassVar[str]

    def key(self) -> str:
        """The Kafka key: one key's events keep their order."""
        raise NotImplementedError

    def subject(self) -> str | None:
        """The CloudEvents subject."""
        return None


class _TenantScoped(EventData):
    account_id: AccountId
    tenant_id: TenantId
    tenant_name: str | None = None
    primary_domain: str | None = None
    cloud: str = "global"
    revision: Int64 = Field(ge=1, description="Counter per (account, tenant); one per event; never restarts.")
    previous_revision: Int64 | None = Field(None, description="The revision this one follows.")
    cause: str = Field(description="consent, verification, check, operator, catalog, snapshot, ...")
    actor: Actor
    occurred_at: Instant

    @override
    def key(self) -> str:
        return tenant_key(self.account_id, self.tenant_id)

    @override
    def subject(self) -> str | None:
        return self.tenant_id


class GrantData(_TenantScoped):
    """The whole grant after the change, and what it was before."""

    permission_set_id: Slug
    version: Int64 = Field(ge=1, description="The catalogue version of the set that was accepted.")
    status: str = Field(description="An open string: readers must bear values they don't know.")
    previous_status: str | None = None
    usable: bool = Field(description="Whether apps may read with it now.")
    previous_usable: bool | None = Field(
        None, description="Whether apps could read with it before; null in events that are older than this field."
    )
    reason: str | None = None
    apps: tuple[str, ...] = Field((), description="Ids of the apps that may use the grant on this tenant.")
    previous_apps: tuple[str, ...] = ()
    held_apps: tuple[HeldApp, ...] = ()
    app_epochs: dict[str, Int64] = Field(
        default_factory=dict, description="The slot's epoch of each app in `apps` that has a tenant limit."
    )
    permissions: tuple[Permission, ...] = ()
    missing: tuple[Permission, ...] = ()
    extra: tuple[Permission, ...] = ()
    unverified: tuple[Permission, ...] = ()
    granted_at: Instant | None = None
    granted_by: str | None = Field(None, description="Object id of the administrator who accepted.")
    verified_at: Instant | None = None
    attempt_id: str | None = None
    available_version: Int64 | None = Field(None, description="The version that asks for more than was accepted.")
    additional: tuple[Permission, ...] = Field((), description="What `available_version` asks for beyond that.")
    planned: tuple[PlannedChange, ...] = Field((), description="Announced versions, the next one first.")
    settings: tuple[AdditionalSetting, ...] = Field((), description="Settings in Entra that hold functions back.")

    @override
    def subject(self) -> str | None:
        return f"{self.tenant_id}/{self.permission_set_id}"


class PermissionGranted(GrantData):
    """The grant arrived at `granted`."""

    type_name = "PermissionGranted"


class PermissionChanged(GrantData):
    """The grant is `verifying`, `partial` or `update_available`, or its apps changed."""

    type_name = "PermissionChanged"


class PermissionBlocked(GrantData):
    """The customer told the suite to stop using the grant."""

    type_name = "PermissionBlocked"


class PermissionRevoked(GrantData):
    """The grant is gone."""

    type_name = "PermissionRevoked"


class PermissionStatusChanged(GrantData):
    """The registry holds this change: a reader who is told of it finds it there."""

    type_name = "PermissionStatusChanged"

    change: str = Field(description="Name of the consent event behind this one, for example PermissionGranted.")


class TenantUpdated(_TenantScoped):
    """The tenant's name or domain changed."""

    type_name = "TenantUpdated"


class TenantRemoved(_TenantScoped):
    """The tenant is no longer connected to the account; all of its grants are gone."""

    type_name = "TenantRemoved"

    reason: str
    apps: tuple[str, ...] = Field((), description="Ids of the apps that could use a grant on it before.")


class ConsentFailed(EventData):
    """A run through Entra ended without a grant. Without a proven tenant it belongs to the account alone."""

    type_name = "ConsentFailed"

    account_id: AccountId
    tenant_id: TenantId | None = None
    permission_set_ids: tuple[Slug, ...]
    apps: tuple[str, ...] = ()
    attempt_id: str
    stage: str
    reason: str
    error_code: str | None = Field(None, description="Entra's code, for example AADSTS65004.")
    detail: str | None = Field(None, description="What exactly did not hold, for support; never what a caller sent.")
    resource_app_id: str | None = Field(
        None, description="App id of the API that the tenant lacks: for service_missing, where Entra named it."
    )
    versions: dict[str, Int64] = Field(default_factory=dict, description="The version of each set that was asked for.")
    channel: str | None = Field(None, description="Where the run was started: console, api, app or invitation.")
    requested_by: str | None = Field(None, description="Id of the app that asked for it, where one did.")
    actor: Actor
    occurred_at: Instant

    @override
    def key(self) -> str:
        return tenant_key(self.account_id, self.tenant_id)


class CredentialExpiring(EventData):
    """A credential of one of our own client registrations ends soon. Never holds the credential."""

    type_name = "CredentialExpiring"

    registration: str
    client_id: str
    credential: str
    expires_at: Instant
    days_left: Int64
    occurred_at: Instant

    @override
    def key(self) -> str:
        return PLATFORM_KEY


class RegistrationStatusChanged(EventData):
    """Entra came to refuse one of our own client registrations, or takes it again. No grant changes by that."""

    type_name = "RegistrationStatusChanged"

    registration: str
    client_id: str
    status: str = Field(
        description="failing: our own tenant refuses it, and no grant of it is checked until that is put right; held: "
        "so many tenants seem gone at once that an operator must look; working: checks go on."
    )
    previous_status: str
    error_code: str | None = Field(None, description="Entra's code, for example AADSTS7000222, where it gave one.")
    occurred_at: Instant

    @override
    def key(self) -> str:
        return PLATFORM_KEY


class GrantState(Frozen):
    """A grant inside a tenant's document."""

    permission_set_id: str
    status: str
    usable: bool
    reason: str | None = None
    version: Int64
    apps: tuple[str, ...] = ()
    held_apps: tuple[HeldApp, ...] = ()
    app_epochs: dict[str, Int64] = Field(default_factory=dict)
    permissions: tuple[Permission, ...] = ()
    missing: tuple[Permission, ...] = ()
    extra: tuple[Permission, ...] = ()
    unverified: tuple[Permission, ...] = ()
    granted_at: Instant | None = None
    granted_by: str | None = None
    verified_at: Instant | None = None
    available_version: Int64 | None = None
    additional: tuple[Permission, ...] = ()
    planned: tuple[PlannedChange, ...] = ()
    settings: tuple[AdditionalSetting, ...] = ()
    revision: Int64


class TenantState(EventData):
    """The whole document of one tenant of one account, for compacted state and for readers."""

    type_name = "TenantState"

    account_id: AccountId
    tenant_id: TenantId
    tenant_name: str | None = None
    primary_domain: str | None = None
    cloud: str = "global"
    revision: Int64
    grants: tuple[GrantState, ...] = ()
    updated_at: Instant

    @override
    def key(self) -> str:
        return tenant_key(self.account_id, self.tenant_id)

    @override
    def subject(self) -> str | None:
        return self.tenant_id


EVENT_TYPES: dict[str, type[EventData]] = {
    f"{TYPE_PREFIX}{kind.type_name}.v1": kind
    for kind in (
        PermissionGranted,
        PermissionChanged,
        PermissionBlocked,
        PermissionRevoked,
        PermissionStatusChanged,
        TenantUpdated,
        TenantRemoved,
        ConsentFailed,
        CredentialExpiring,
        RegistrationStatusChanged,
        TenantState,
    )
}


def tenant_key(account_id: str, tenant_id: str | None) -> str:
    """The key of a tenant's records; `-` stands for no tenant."""
    return f"{account_id}:{tenant_id or '-'}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event in its CloudEvents envelope. ``id`` is unique for ever, together with ``source``."""

    id: str
    source: str
    time: datetime
    data: EventData

    @property
    def type(self) -> str:
        """The CloudEvents type, with its version."""
        return f"{TYPE_PREFIX}{self.data.type_name}.v1"


def new_event(source: str, data: EventData) -> Event:
    """An event that has just happened, with an id of its own."""
    return Event(id=str(uuid4()), source=source, time=datetime.now(UTC), data=data)


def derived_event(cause_id: str, source: str, time: datetime, data: EventData) -> Event:
    """An event that follows from another: made again from the same cause it has the same id (RFC 9562, version 5)."""
    name = f"{TYPE_PREFIX}{data.type_name}:{cause_id}"
    return Event(id=str(uuid5(NAMESPACE_URL, name)), source=source, time=time, data=data)


Headers = Sequence[tuple[str, bytes]]


def encode(event: Event) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of the Kafka record (CloudEvents Kafka protocol binding 1.0.2, binary mode)."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
        ("ce_time", event.time.isoformat().encode()),
        ("content-type", b"application/json"),
    ]
    subject = event.data.subject()
    if subject is not None:
        headers.append(("ce_subject", subject.encode()))
    return event.data.key().encode(), event.data.model_dump_json().encode(), headers


class BadRecord(ValueError):
    """A record that no retry can make readable; its message is the reason kept beside the dead letter."""


class UnknownType(BadRecord):
    """A well-formed CloudEvent of a type this reader doesn't know: to be skipped and counted, not dead-lettered."""


def decode(headers: Headers, value: bytes | None) -> Event:
    """The event of a Kafka record.

    Raises:
        UnknownType: a valid envelope of a type that isn't in ``EVENT_TYPES``.
        BadRecord: anything else that isn't an event; the message says what is wrong without repeating the data.
    """
    attributes = _attributes(headers)
    if attributes.get("ce_specversion") != "1.0":
        raise BadRecord("ce_specversion is not 1.0")
    absent = [name for name in ("ce_id", "ce_source", "ce_type") if not attributes.get(name)]
    if absent:
        raise BadRecord(f"missing header {', '.join(absent)}")
    kind = EVENT_TYPES.get(attributes["ce_type"])
    if kind is None:
        raise UnknownType(f"unknown type {attributes['ce_type'][:200]!r}")
    if value is None:
        raise BadRecord("no value")
    try:
        data = kind.model_validate_json(value)
    except ValidationError as error:
        raise BadRecord(_explain(error)) from None
    return Event(id=attributes["ce_id"], source=attributes["ce_source"], time=_time(attributes, data), data=data)


def _attributes(headers: Headers) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, raw in headers:
        if not (name.startswith("ce_") or name == "content-type"):
            continue
        if name in attributes:
            raise BadRecord(f"header {name} appears twice")
        # A null header value reaches us as None, whatever the client's types say.
        if not isinstance(raw, bytes):
            raise BadRecord(f"header {name} has no value")
        try:
            attributes[name] = raw.decode()
        except UnicodeDecodeError:
            raise BadRecord(f"header {name} is not UTF-8") from None
    return attributes


def _time(attributes: dict[str, str], data: EventData) -> datetime:
    text = attributes.get("ce_time")
    if text is None:
        return getattr(data, "occurred_at", None) or datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadRecord("ce_time is not a timestamp") from None
    if time.tzinfo is None:
        raise BadRecord("ce_time has no zone")
    try:
        return _instant(time)
    except ValueError as error:
        raise BadRecord(f"ce_time {error}") from None


def _explain(error: ValidationError) -> str:
    items: list[Any] = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in items[:5])


def canonical_tenant_id(text: str) -> str | None:
    """The tenant's GUID in lower case, or None where the text isn't a GUID in its usual form or is the nil GUID."""
    try:
        value = UUID(text)
    except ValueError:
        return None
    canonical = str(value)
    return canonical if text.lower() == canonical and value.int else None
