"""What a grant is, and the pure rules by which it changes: no clock, no network, no database in here.

Stored are what Entra says (``entra``) and whether the customer blocked it (``blocked``); status and usable follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from consent_gateway.catalog.model import PermissionSet
from shared.events import AdditionalSetting, HeldApp, Permission, PlannedChange


class Status(StrEnum):
    """What readers are told; to them it is an open string."""

    VERIFYING = "verifying"
    GRANTED = "granted"
    UPDATE_AVAILABLE = "update_available"
    PARTIAL = "partial"
    BLOCKED = "blocked"
    REVOKED = "revoked"


class Entra(StrEnum):
    """What Entra says of the permissions that were accepted."""

    VERIFYING = "verifying"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    GONE = "gone"


class Reason(StrEnum):
    """Why a grant is gone."""

    REMOVED = "removed"
    DISABLED = "disabled"
    TENANT_DELETED = "tenant_deleted"
    NOT_GRANTED = "not_granted"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, kw_only=True)
class Health:
    """When the grant was and will be checked, and what the last checks said. Never part of an event.

    Entra asked not to be asked again before ``not_before``. ``full_at`` is when everything that a check can read was
    last read, ``absent`` the APIs of the set that the tenant doesn't have. ``removal_said_at`` is when somebody said
    that it was taken away in Entra, ``token`` the fencing token of the latest claim; a check only reads these two.
    """

    next_at: datetime | None = None
    not_before: datetime | None = None
    last_at: datetime | None = None
    last_good_at: datetime | None = None
    full_at: datetime | None = None
    tries: int = 0
    failures: int = 0
    negatives: int = 0
    negatives_since: datetime | None = None
    error: str | None = None
    absent: tuple[str, ...] = ()
    removal_said_at: datetime | None = None
    token: int = 0


@dataclass(frozen=True, kw_only=True)
class Grant:
    """(account, tenant, permission set) as the gateway knows it.

    ``permissions`` are those of the accepted version that Entra shows; delegated ones that can't be checked are
    ``unverified``. ``client_id`` is the client registration that was consented to, whatever the catalogue names today,
    ``service_principal_id`` the object id that it has in the tenant, as far as a token has shown it.
    ``revision`` is that of the last change.
    """

    account_id: str
    tenant_id: str
    permission_set_id: str
    client_id: str | None = None
    service_principal_id: str | None = None
    version: int
    accepted: tuple[Permission, ...]
    entra: Entra
    blocked: bool = False
    asks_more: bool = False
    reason: str | None = None
    apps: tuple[str, ...] = ()
    held_apps: tuple[HeldApp, ...] = ()
    app_epochs: dict[str, int]
    permissions: tuple[Permission, ...] = ()
    missing: tuple[Permission, ...] = ()
    extra: tuple[Permission, ...] = ()
    unverified: tuple[Permission, ...] = ()
    accepted_at: datetime
    verify_until: datetime
    granted_at: datetime | None = None
    granted_by: str | None = None
    verified_at: datetime | None = None
    attempt_id: str | None = None
    # What the active catalogue asks for beyond what was accepted, and what it announces; ``catalog_edition`` is the
    # edition by which this was found.
    available_version: int | None = None
    additional: tuple[Permission, ...] = ()
    planned: tuple[PlannedChange, ...] = ()
    catalog_edition: int = 0
    # Additional settings in Entra that are known to be missing.
    settings: tuple[AdditionalSetting, ...] = ()
    revision: int = 0
    health: Health = Health()

    @property
    def status(self) -> Status:
        """The status that follows from what is stored."""
        if self.entra is Entra.GONE:
            return Status.REVOKED
        if self.blocked:
            return Status.BLOCKED
        if self.entra is Entra.VERIFYING:
            return Status.VERIFYING
        if self.entra is Entra.INCOMPLETE:
            return Status.PARTIAL
        return Status.UPDATE_AVAILABLE if self.asks_more else Status.GRANTED

    @property
    def usable(self) -> bool:
        """Whether apps may read with it now. What was there before a new Accept stays usable while that is verified."""
        if self.entra is Entra.GONE or self.blocked:
            return False
        return self.entra is Entra.COMPLETE or bool(self.permissions)

    @property
    def live(self) -> bool:
        """Whether it holds the tenant's link and the slots of its apps."""
        return self.entra is not Entra.GONE


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What Graph says of a tenant beside permissions; what could not be read is not in here.

    ``directory_roles`` are the template ids of the roles of our service principals, by client id.
    """

    directory_roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    service_plans: frozenset[str] | None = None
    read_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A tenant of an account with its grants, for the screen. ``people`` are names by object id, where known.

    ``connected`` says that a grant is live; ``removed_at`` since when the account wants to see it no more.
    """

    account_id: str
    tenant_id: str
    tenant_name: str | None
    primary_domain: str | None
    cloud: str
    revision: int
    updated_at: datetime
    connected: bool = False
    removed_at: datetime | None = None
    grants: tuple[Grant, ...] = ()
    people: dict[str, str]
    facts: Facts = field(default_factory=Facts)


def accept(
    previous: Grant | None,
    permission_set: PermissionSet,
    *,
    account_id: str,
    tenant_id: str,
    administrator: str,
    attempt_id: str,
    now: datetime,
    verify_until: datetime,
    first_check_at: datetime,
) -> Grant:
    """The grant after a proven Accept: to be verified, with what was there before still usable, and not blocked.

    Apps and slots are not decided here: they depend on what other tenants hold.
    """
    survives = previous if previous is not None and previous.live else None
    required = permission_set.required
    return Grant(
        account_id=account_id,
        tenant_id=tenant_id,
        permission_set_id=permission_set.id,
        client_id=permission_set.client_id,
        service_principal_id=survives.service_principal_id
        if survives and survives.client_id == permission_set.client_id
        else None,
        version=permission_set.version,
        accepted=required,
        entra=Entra.VERIFYING,
        apps=survives.apps if survives else (),
        held_apps=survives.held_apps if survives else (),
        app_epochs=dict(survives.app_epochs) if survives else {},
        permissions=tuple(p for p in survives.permissions if p in required) if survives else (),
        extra=survives.extra if survives else (),
        unverified=tuple(p for p in required if p.type == "delegated"),
        accepted_at=now,
        verify_until=verify_until,
        granted_at=now,
        granted_by=administrator,
        verified_at=survives.verified_at if survives else None,
        attempt_id=attempt_id,
        planned=announced(permission_set),
        catalog_edition=permission_set.edition,
        settings=survives.settings if survives else (),
        revision=previous.revision if previous else 0,
        health=Health(
            next_at=first_check_at,
            last_good_at=survives.health.last_good_at if survives else None,
        ),
    )


def announced(permission_set: PermissionSet) -> tuple[PlannedChange, ...]:
    """The planned versions of a set, as events tell them."""
    return tuple(
        PlannedChange(
            version=plan.version,
            effective_from=plan.effective_from,
            adds=tuple(permission.key for permission in plan.adds),
            removes=plan.removes,
            reason=plan.reason,
        )
        for plan in permission_set.planned
    )


def gone(grant: Grant, reason: Reason) -> Grant:
    """The grant after it ended: nothing present, no app, never checked again."""
    return replace(
        grant,
        entra=Entra.GONE,
        reason=reason,
        blocked=False,
        asks_more=False,
        apps=(),
        held_apps=(),
        app_epochs={},
        permissions=(),
        missing=grant.accepted if reason is not Reason.DISCONNECTED else (),
        extra=(),
        unverified=(),
        available_version=None,
        additional=(),
        planned=(),
        settings=(),
        health=replace(grant.health, next_at=None),
    )


def with_app(grant: Grant, app_id: str, epoch: int) -> Grant:
    """The grant after a limited app came to use this tenant."""
    apps = grant.apps if app_id in grant.apps else (*grant.apps, app_id)
    held = tuple(one for one in grant.held_apps if one.app_id != app_id)
    return replace(grant, apps=apps, held_apps=held, app_epochs={**grant.app_epochs, app_id: epoch})


def without_app(grant: Grant, held: HeldApp) -> Grant:
    """The grant after a limited app came to use another tenant."""
    others = tuple(one for one in grant.held_apps if one.app_id != held.app_id)
    return replace(
        grant,
        apps=tuple(app_id for app_id in grant.apps if app_id != held.app_id),
        held_apps=(*others, held),
        app_epochs={app_id: epoch for app_id, epoch in grant.app_epochs.items() if app_id != held.app_id},
    )
