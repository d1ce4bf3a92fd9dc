"""The directory: everything the sandbox knows, questions to it, and the changes that can be made.

Everything is in memory and was on the disk before it got there. Nothing here knows HTTP.
"""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from entra_sandbox import grants
from entra_sandbox.errors import EntraError
from entra_sandbox.model import (
    Behaviour,
    Member,
    PermissionType,
    Registration,
    RequiredPermission,
    Resource,
    RoleAssignment,
    ServicePrincipal,
    Tenant,
    User,
    derived_id,
)
from entra_sandbox.seed import Seed
from entra_sandbox.store import Collection, Store

Clock = Callable[[], datetime]
Shared = Literal["organizations", "common", "consumers"]
Authority = Tenant | Shared
Permissions = tuple[RequiredPermission, ...]

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DOMAIN = re.compile(r"(?=.{4,253}$)([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}")
_SHARED_NAMES: dict[str, Shared] = {
    "organizations": "organizations",
    "common": "common",
    "consumers": "consumers",
}


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class Directory:
    """All tenants, people, apps and grants."""

    def __init__(self, store: Store, seed: Seed, *, redirect_uris: tuple[str, ...] = (), clock: Clock = now) -> None:
        self._store, self._clock = store, clock
        self.redirect_uris = redirect_uris
        self.resources = {item.app_id: item for item in seed.resources}
        self.tenants = Collection(store, "tenant", Tenant, seed=lambda: {item.id: item for item in seed.tenants})
        self.users = Collection(store, "user", User, seed=lambda: {item.object_id: item for item in seed.users})
        self.registrations = Collection(
            store, "registration", Registration, seed=lambda: {item.client_id: item for item in seed.registrations}
        )
        self.service_principals = Collection(
            store, "service_principal", ServicePrincipal, seed=self._home_principals(seed)
        )
        self._behaviour = Collection(store, "behaviour", Behaviour)

    def _home_principals(self, seed: Seed) -> Callable[[], dict[str, ServicePrincipal]]:
        """A registration always has a service principal in its own tenant: creating one in Entra makes it."""
        created = datetime(2026, 1, 1, tzinfo=UTC)
        return lambda: {
            principal_key(item.home_tenant_id, item.client_id): ServicePrincipal(
                object_id=derived_id(item.home_tenant_id, item.client_id),
                tenant_id=item.home_tenant_id,
                client_id=item.client_id,
                created_at=created,
                visible_at=created,
            )
            for item in seed.registrations
        }

    def reload(self) -> None:
        """Takes everything from the store again, as at a start."""
        for collection in (self.tenants, self.users, self.registrations, self.service_principals, self._behaviour):
            collection.reload()

    @property
    def clock(self) -> datetime:
        """The present moment."""
        return self._clock()

    def authority(self, segment: str) -> Authority:
        """What the first segment of a path names: a tenant by GUID or verified domain, or one of the shared names.

        Raises:
            EntraError: 90002 for a tenant that does not exist, 900023 for what cannot be the name of one.
        """
        name = segment.lower()
        if name in _SHARED_NAMES:
            return _SHARED_NAMES[name]
        if _GUID.fullmatch(segment):
            tenant = self.tenants.get(name)
        elif _DOMAIN.fullmatch(segment):
            tenant = next((item for item in self.tenants.values() if name in item.domains), None)
        else:
            raise EntraError(900023, tenant=segment)
        if tenant is None:
            raise EntraError(90002, tenant=segment)
        return tenant

    def delete_tenant(self, tenant_id: str) -> None:
        """Removes a tenant with its people and service principals."""
        self.service_principals.delete(
            *[principal_key(item.tenant_id, item.client_id) for item in self.principals_of(tenant_id)]
        )
        self.users.delete(*[item.object_id for item in self.users.values() if item.tenant_id == tenant_id])
        self.tenants.delete(tenant_id)

    def user_by_name(self, name: str) -> User | None:
        """The person who signs in with that name; capitals do not matter."""
        wanted = name.strip().lower()
        return next((item for item in self.users.values() if item.user_principal_name.lower() == wanted), None)

    def people_of(self, tenant_id: str) -> list[User]:
        """Members of a tenant, then its guests."""
        everybody = self.users.values()
        return [item for item in everybody if item.tenant_id == tenant_id] + [
            item for item in everybody if any(guest.tenant_id == tenant_id for guest in item.guest_in)
        ]

    def member(self, user: User, tenant: Tenant) -> Member | None:
        """The person as the tenant knows them; None for a stranger."""
        if user.tenant_id == tenant.id:
            return Member(user=user, tenant_id=tenant.id, object_id=user.object_id, roles=user.roles)
        guest = next((item for item in user.guest_in if item.tenant_id == tenant.id), None)
        if guest is None:
            return None
        return Member(user=user, tenant_id=tenant.id, object_id=guest.object_id, roles=guest.roles)

    def registration(self, client_id: str) -> Registration | None:
        """The registration with that client id."""
        return self.registrations.get(client_id.lower())

    def redirect_uris_of(self, registration: Registration) -> tuple[str, ...]:
        """Those of the gateway's settings and those that were added."""
        return (*self.redirect_uris, *registration.redirect_uris)

    def resource_named(self, identifier: str) -> Resource | None:
        """The resource with that identifier URI or app id; a slash at the end does not matter."""
        wanted = identifier.rstrip("/").lower()
        return next(
            (item for item in self.resources.values() if wanted in [name.lower() for name in item.identifiers]), None
        )

    def resource_object_id(self, tenant: Tenant, app_id: str) -> str | None:
        """Object id of a resource's service principal in a tenant; None where the tenant lacks the resource."""
        if app_id in tenant.missing_resources or app_id not in self.resources:
            return None
        return derived_id(tenant.id, app_id)

    def principal(self, tenant_id: str, client_id: str, *, hidden: bool = False) -> ServicePrincipal | None:
        """An app as it is present in a tenant; one that has not propagated yet only if `hidden`."""
        item = self.service_principals.get(principal_key(tenant_id, client_id))
        return item if item and (hidden or self._seen(item.visible_at)) else None

    def principals_of(self, tenant_id: str) -> list[ServicePrincipal]:
        """All apps that are present in a tenant, propagated or not."""
        keys = [principal_key(tenant_id, item.client_id) for item in self.registrations.values()]
        return [item for key in keys if (item := self.service_principals.get(key))]

    def put_principal(self, item: ServicePrincipal) -> ServicePrincipal:
        """Stores a service principal."""
        return self.service_principals.put(principal_key(item.tenant_id, item.client_id), item)

    def visible_assignments(self, item: ServicePrincipal) -> list[RoleAssignment]:
        """The application permissions that Entra's answers show by now."""
        return [assignment for assignment in item.assignments if self._seen(assignment.visible_at)]

    def roles_for(self, item: ServicePrincipal, resource: Resource) -> list[str]:
        """Names of the app roles that a token for the resource carries now."""
        held = {
            entry.app_role_id for entry in self.visible_assignments(item) if entry.resource_app_id == resource.app_id
        }
        return [permission.value for permission in resource.permissions if permission.id in held]

    def release(self, tenant_id: str, *, count: int | None = None, client_id: str | None = None) -> int:
        """Lets held-back app roles of a tenant show up, the oldest first; all of them without `count`."""
        released = 0
        for item in self.principals_of(tenant_id):
            if client_id and item.client_id != client_id:
                continue
            assignments = []
            for entry in item.assignments:
                due = entry.visible_at is None and (count is None or released < count)
                released += due
                assignments.append(entry.model_copy(update={"visible_at": self.clock}) if due else entry)
            self.put_principal(
                item.model_copy(update={"assignments": tuple(assignments), "visible_at": item.visible_at or self.clock})
            )
        return released

    def _seen(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.clock

    def missing_resource(self, tenant: Tenant, permissions: Permissions) -> Resource | None:
        """The first resource that a consent would need and that the tenant does not have."""
        for permission in permissions:
            if permission.resource_app_id in tenant.missing_resources:
                return self.resources[permission.resource_app_id]
        return None

    def grant(
        self, tenant: Tenant, registration: Registration, permissions: Permissions, *, replace: bool = True
    ) -> ServicePrincipal:
        """What an administrator's Accept does: the service principal and its grants for everybody in the tenant.

        With `replace` the permissions become exactly these: what was granted before and is no longer asked for is gone.
        What is kept stays visible; what is new becomes visible by the tenant's propagation. Resources that the tenant
        lacks are left out.
        """
        return self.put_principal(self._granted(tenant, registration, permissions, replace=replace))

    def grant_many(self, tenants: list[Tenant], registrations: list[Registration]) -> None:
        """Everything in the registrations to all of the tenants, in one write."""
        granted = [
            self._granted(tenant, registration, registration.permissions, replace=True)
            for tenant in tenants
            for registration in registrations
        ]
        self.service_principals.put_all({principal_key(item.tenant_id, item.client_id): item for item in granted})

    def _granted(
        self, tenant: Tenant, registration: Registration, permissions: Permissions, *, replace: bool
    ) -> ServicePrincipal:
        present = tuple(item for item in permissions if self.resource_object_id(tenant, item.resource_app_id))
        principal = self._principal_for_consent(tenant, registration)
        wanted = [
            (found.id, item.resource_app_id)
            for item in present
            if item.type is PermissionType.APPLICATION
            and (found := self.resources[item.resource_app_id].permission(item.value, item.type))
        ]
        delegated = tuple(item for item in present if item.type is PermissionType.DELEGATED)
        assignments = grants.assign(principal, wanted, tenant.propagation, now=self.clock, replace=replace)
        general = grants.for_everybody(principal, delegated, replace=replace)
        return principal.model_copy(update={"assignments": assignments, "grants": general})

    def grant_to_person(
        self, tenant: Tenant, registration: Registration, permissions: Permissions, person_id: str
    ) -> ServicePrincipal:
        """What a person's own Accept does: delegated permissions for that person alone."""
        principal = self._principal_for_consent(tenant, registration)
        personal = grants.for_person(principal, permissions, person_id)
        return self.put_principal(principal.model_copy(update={"grants": personal}))

    def scopes_granted(self, item: ServicePrincipal, person_id: str) -> set[tuple[str, str]]:
        """Delegated permissions that hold for a person: (resource app id, scope)."""
        return {
            (grant.resource_app_id, scope)
            for grant in item.grants
            if grant.principal_id in {None, person_id}
            for scope in grant.scopes
        }

    def _principal_for_consent(self, tenant: Tenant, registration: Registration) -> ServicePrincipal:
        existing = self.principal(tenant.id, registration.client_id, hidden=True)
        if existing:
            return existing
        delay = tenant.propagation
        return ServicePrincipal(
            object_id=str(uuid.uuid4()),
            tenant_id=tenant.id,
            client_id=registration.client_id,
            created_at=self.clock,
            visible_at=grants.visible_at(delay, 0, self.clock) if delay.service_principal else self.clock,
        )

    @property
    def behaviour(self) -> Behaviour:
        """How the sandbox answers where Entra has been seen to answer in several ways."""
        return self._behaviour.get("all") or Behaviour()

    @behaviour.setter
    def behaviour(self, value: Behaviour) -> None:
        self._behaviour.put("all", value)


def principal_key(tenant_id: str, client_id: str) -> str:
    """Where a service principal is kept."""
    return f"{tenant_id}/{client_id}"
