"""The catalogue: permission sets, the apps that use them, and what each function of an app needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from shared.events import Permission

MICROSOFT_GRAPH = "00000003-0000-0000-c000-000000000000"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """An API in Entra. ``identifier`` is what stands before ``/.default`` in a scope."""

    app_id: str
    identifier: str
    name: str

    @property
    def scope(self) -> str:
        """The scope that stands for all of an application's permissions on this API."""
        return f"{self.identifier}/.default"


@dataclass(frozen=True, kw_only=True)
class CatalogPermission:
    """A permission of a set, with the plain-language reason why it is needed."""

    resource: Resource
    value: str
    type: Literal["application", "delegated"]
    reason: str

    @property
    def key(self) -> Permission:
        """The permission as events name it."""
        return Permission(resource_app_id=self.resource.app_id, value=self.value, type=self.type)


@dataclass(frozen=True, kw_only=True)
class PlannedVersion:
    """A version of a set that was announced. It takes the place of the one before at ``effective_from``, not sooner."""

    version: int
    effective_from: datetime
    adds: tuple[CatalogPermission, ...]
    removes: tuple[Permission, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class PermissionSet:
    """The unit of consent. ``apps`` are the ids of the apps that use it.

    ``edition`` is that of the catalogue which the set was read from: a grant remembers it.
    """

    id: str
    title: str
    description: str
    version: int
    registration: str
    client_id: str
    permissions: tuple[CatalogPermission, ...]
    apps: tuple[str, ...]
    planned: tuple[PlannedVersion, ...] = ()
    edition: int = 0

    def at(self, moment: datetime) -> "PermissionSet":
        """The set as it is at this moment: planned versions whose date has come have taken its place."""
        current = self
        for plan in self.planned:
            if plan.effective_from > moment:
                break
            kept = tuple(one for one in current.permissions if one.key not in plan.removes)
            current = replace(
                current, version=plan.version, permissions=(*kept, *plan.adds), planned=current.planned[1:]
            )
        return current

    @property
    def required(self) -> tuple[Permission, ...]:
        """The permissions as events name them."""
        return tuple(permission.key for permission in self.permissions)

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The APIs of the set, Microsoft Graph first where it is one of them."""
        found = {permission.resource.app_id: permission.resource for permission in self.permissions}
        return tuple(sorted(found.values(), key=lambda resource: resource.app_id != MICROSOFT_GRAPH))

    @property
    def needs_privileged_administrator(self) -> bool:
        """Whether only a Global or Privileged Role Administrator can accept it: it has Graph application roles."""
        return any(
            permission.type == "application" and permission.resource.app_id == MICROSOFT_GRAPH
            for permission in self.permissions
        )


@dataclass(frozen=True, kw_only=True)
class Need:
    """One way to have what a function needs: a whole permission set, or all of some permissions of whatever sets."""

    permission_set_id: str | None = None
    permissions: tuple[Permission, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A licence of the tenant, and the service plans (``servicePlanName`` in Graph), any of which stands for it."""

    title: str
    service_plans: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DirectoryRole:
    """A built-in role of Entra, by the id that is the same in every tenant."""

    name: str
    template_id: str


@dataclass(frozen=True, kw_only=True)
class Function:
    """What an app can do, given any one of the needs and the settings in Entra.

    ``licence`` and ``directory_roles`` (of the service principal) are settings that consent can't give.
    """

    id: str
    title: str
    any_of: tuple[Need, ...]
    licence: Licence | None
    directory_roles: tuple[DirectoryRole, ...]


@dataclass(frozen=True, kw_only=True)
class App:
    """A Vision One app. ``sets`` are the ids of the sets that it may use."""

    id: str
    name: str
    description: str
    tenant_limit: Literal[1] | None
    return_urls: tuple[str, ...]
    sets: tuple[str, ...]
    functions: tuple[Function, ...]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All sets and apps by id, in the order of the file.

    ``edition`` counts what was ever active, over all replicas: a newer version, and each planned one whose date came.
    """

    version: int
    sets: Mapping[str, PermissionSet]
    apps: Mapping[str, App]
    edition: int = 0

    def sharing_registration(self, permission_set: PermissionSet) -> tuple[PermissionSet, ...]:
        """The sets, this one included, that one Accept covers: they use the same client registration."""
        return tuple(other for other in self.sets.values() if other.registration == permission_set.registration)

    def next_accepted(self, permission_set_ids: Iterable[str]) -> tuple[PermissionSet, ...]:
        """Of sets that are accepted one registration after the other, those that the next Accept covers."""
        sets = [self.sets[one] for one in permission_set_ids if one in self.sets]
        return tuple(one for one in sets if one.registration == sets[0].registration)

    def limited_apps(self, app_ids: Iterable[str]) -> tuple[str, ...]:
        """Those of the apps that may use one tenant only."""
        return tuple(
            app_id for app_id in app_ids if (app := self.apps.get(app_id)) is not None and app.tenant_limit is not None
        )

    def apps_of(self, permission_set_ids: Iterable[str]) -> tuple[str, ...]:
        """The apps that use any of the sets, in the catalogue's order."""
        wanted = set(permission_set_ids)
        return tuple(app.id for app in self.apps.values() if wanted.intersection(app.sets))

    def allows_return_to(self, url: str, permission_set_ids: Iterable[str]) -> bool:
        """Whether the URL is, to the letter, a return URL of an app that uses one of the sets."""
        return any(url in self.apps[app_id].return_urls for app_id in self.apps_of(permission_set_ids))


class ActiveCatalog(Catalog):
    """The catalogue that is active now. It reads like any other, and is replaced as a whole, never in parts.

    ``return_urls`` by app are those of this deployment, beside the ones that a catalogue itself has.
    """

    # It holds a catalogue instead of the fields of one.
    def __init__(self, catalog: Catalog, *, return_urls: Mapping[str, Sequence[str]] | None = None) -> None:
        self._return_urls = return_urls or {}
        self.activate(catalog)

    def activate(self, catalog: Catalog) -> None:
        """From now on it is this one."""
        apps = {
            app.id: replace(app, return_urls=(*app.return_urls, *self._return_urls.get(app.id, ())))
            for app in catalog.apps.values()
        }
        self._now = replace(catalog, apps=apps)

    @property
    def version(self) -> int:
        """The file's version."""
        return self._now.version

    @property
    def edition(self) -> int:
        """Grows with every activation."""
        return self._now.edition

    @property
    def sets(self) -> Mapping[str, PermissionSet]:
        """The sets by id."""
        return self._now.sets

    @property
    def apps(self) -> Mapping[str, App]:
        """The apps by id."""
        return self._now.apps
