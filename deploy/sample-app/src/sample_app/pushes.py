"""What a push says, and whether it is news: the rules of a good receiver, free of HTTP and of storage.

Pushes arrive at least once, and a retry may arrive after a later change. So a receiver needs two rules beside the
signature: forget what it has seen (by ``webhook-id``), and drop what is older than what it knows (by ``revision``,
and for an app that may use one tenant only, by the ``epoch`` of its slot).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# Bounded by what the database can hold, so that a strange number is unreadable and not an error of ours.
Counter = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Verdict(StrEnum):
    """What became of a push."""

    APPLIED = "applied"
    """It was news, and the app acts on it."""
    NOTED = "noted"
    """Kept, but it changes no tenant: a ping, or a type this app does not know."""
    DUPLICATE = "duplicate"
    """Seen before under the same ``webhook-id``."""
    STALE_REVISION = "stale_revision"
    """Older than what the app knows of this tenant and permission set."""
    STALE_EPOCH = "stale_epoch"
    """Gives access to a tenant that this one-tenant app has since left."""
    UNREADABLE = "unreadable"
    """Signed by the notifier, but not in the documented form: kept aside, and not asked for again."""
    REJECTED = "rejected"
    """The signature is missing, wrong or too old."""
    FAULT = "fault"
    """Turned away on purpose, by hand."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Tenant(_Frozen):
    """A Microsoft Entra tenant."""

    id: str
    name: str | None = None


class Permission(_Frozen):
    """One permission of one resource API."""

    resource_app_id: str
    value: str
    type: str


class StatusChanged(_Frozen):
    """A grant changed, seen from one app: ``usable`` says whether it may read with it now."""

    account_id: str
    tenant: Tenant
    permission_set_id: str
    status: str
    usable: bool
    access: Literal["gained", "kept", "lost"]
    reason: str | None = None
    missing: tuple[Permission, ...] = ()
    revision: Counter
    epoch: Counter | None = None


class TenantChange(_Frozen):
    """A tenant's name changed, or it is gone."""

    account_id: str
    tenant: Tenant
    revision: Counter


class Envelope(_Frozen):
    """The body of every push. ``data`` depends on ``type``, which is an open set."""

    type: str
    timestamp: str
    data: dict[str, object]


Change = StatusChanged | TenantChange


@dataclass(frozen=True, slots=True)
class Push:
    """A push that was read. ``change`` is None for the types that change no tenant."""

    type: str
    change: Change | None


@dataclass(frozen=True, slots=True)
class Known:
    """What the app knows about the subject of a push, before it."""

    grant_revision: int = 0
    name_revision: int = 0
    removed_revision: int = 0
    slot_epoch: int = 0


def read(body: bytes) -> Push:
    """The push in a verified body.

    Raises:
        ValueError: not JSON, or not in the documented form.
    """
    try:
        envelope = Envelope.model_validate_json(body)
        match envelope.type:
            case "permission.status_changed":
                return Push(envelope.type, StatusChanged.model_validate(envelope.data))
            case "tenant.updated" | "tenant.removed":
                return Push(envelope.type, TenantChange.model_validate(envelope.data))
            case _:
                return Push(envelope.type, None)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None


def judge(push: Push, known: Known) -> Verdict:
    """Whether a push that was not seen before is news.

    A loss of access is never dropped for its epoch: the app must stop reading whatever else it knows.
    """
    match push.type, push.change:
        case "tenant.updated", TenantChange() as change:
            fresh = change.revision > max(known.name_revision, known.removed_revision)
        case "tenant.removed", TenantChange() as change:
            fresh = change.revision > known.removed_revision
        case _, StatusChanged() as change:
            fresh = change.revision > max(known.grant_revision, known.removed_revision)
            if fresh and change.usable and change.epoch is not None and change.epoch < known.slot_epoch:
                return Verdict.STALE_EPOCH
        case _:
            return Verdict.NOTED
    return Verdict.APPLIED if fresh else Verdict.STALE_REVISION
