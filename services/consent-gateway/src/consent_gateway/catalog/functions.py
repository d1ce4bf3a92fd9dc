"""What each app can do on a tenant, by what was granted there and by what is set there in Entra. Pure.

A function needs any one of some sets or permissions, and beside them settings that no consent gives: a directory role
of our service principal, a licence of the tenant. What could not be read is unknown, and never taken for missing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from consent_gateway.catalog.model import App, Catalog, Function, Need, PermissionSet
from consent_gateway.grants.grants import Entra, Facts, Grant, Tenant
from shared.events import AdditionalSetting

DIRECTORY_ROLE = "directory_role"
LICENCE = "licence"
RESOURCE = "resource"


class State(StrEnum):
    """Whether a function works on a tenant; to readers an open string."""

    WORKS = "works"
    HELD_BACK = "held_back"
    VERIFYING = "verifying"
    LACKS = "lacks"


class Presence(StrEnum):
    """Whether a setting is there, as far as Entra let us see it."""

    THERE = "there"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that a function needs. A role is one of the service principal of ``client_ids``.

    A resource is an API that the tenant doesn't have, so that no Accept can bring what the function needs of it.
    """

    kind: str
    name: str
    presence: Presence
    client_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FunctionOnTenant:
    """A function of an app on a tenant. ``sets`` are those, one of which would bring what it lacks."""

    function: Function
    state: State
    sets: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()


def functions_of(catalog: Catalog, app: App, tenant: Tenant) -> tuple[FunctionOnTenant, ...]:
    """Every function of the app on this tenant, in the catalogue's order."""
    return tuple(function_on(catalog, app, function, tenant) for function in app.functions)


def missing_settings(catalog: Catalog, grant: Grant, tenant: Tenant) -> tuple[AdditionalSetting, ...]:
    """The settings that are known to be missing for what this grant serves, each with the functions it holds back."""
    found: dict[tuple[str, str], list[str]] = {}
    for app in (catalog.apps[each] for each in grant.apps if each in catalog.apps):
        for function in app.functions:
            on = function_on(catalog, app, function, tenant)
            resting = serving(function, app, tenant) or _but_for_apis(function, app, tenant)
            if not any(one.permission_set_id == grant.permission_set_id for one in resting):
                continue
            for setting in on.settings:
                if setting.presence is Presence.MISSING:
                    found.setdefault((setting.kind, setting.name), []).append(f"{app.id}/{function.id}")
    return tuple(
        AdditionalSetting(kind=kind, name=name, functions=tuple(functions))
        for (kind, name), functions in sorted(found.items())
    )


def satisfied(need: Need, app: App, tenant: Tenant) -> bool:
    """Whether the app may use, on this tenant, all that the need asks for."""
    return bool(_serving(need, app, tenant))


def serving(function: Function, app: App, tenant: Tenant) -> tuple[Grant, ...]:
    """The grants that the function rests on, on this tenant; none where it lacks something."""
    found = {grant.permission_set_id: grant for need in function.any_of for grant in _serving(need, app, tenant)}
    return tuple(found.values())


def brought_by(permission_set: PermissionSet, need: Need) -> bool:
    """Whether this set alone brings what the need asks for."""
    if need.permission_set_id is not None:
        return need.permission_set_id == permission_set.id
    return set(need.permissions) <= set(permission_set.required)


def sets_for(function: Function, app: App, catalog: Catalog) -> tuple[PermissionSet, ...]:
    """The app's sets that bring what the function needs, the first of each alternative."""
    mine = [catalog.sets[each] for each in app.sets if each in catalog.sets]
    first = (next((each for each in mine if brought_by(each, need)), None) for need in function.any_of)
    return tuple({each.id: each for each in first if each is not None}.values())


def clients_with_roles(catalog: Catalog, grants: Iterable[Grant]) -> frozenset[str]:
    """The client ids whose directory roles matter to a function of an app that may use one of the grants."""
    return frozenset(
        catalog.sets[grant.permission_set_id].client_id
        for grant in grants
        if grant.live and grant.permission_set_id in catalog.sets
        for app_id in grant.apps
        if app_id in catalog.apps
        and any(
            function.directory_roles
            and any(brought_by(catalog.sets[grant.permission_set_id], need) for need in function.any_of)
            for function in catalog.apps[app_id].functions
        )
    )


def needs_licences(catalog: Catalog, grants: Iterable[Grant]) -> bool:
    """Whether a licence matters to a function of an app that may use one of the grants."""
    apps = {app_id for grant in grants if grant.live for app_id in grant.apps}
    return any(function.licence for app in catalog.apps.values() if app.id in apps for function in app.functions)


def function_on(catalog: Catalog, app: App, function: Function, tenant: Tenant) -> FunctionOnTenant:
    """What becomes of a function on a tenant."""
    if serving(function, app, tenant):
        settings = tuple(_settings(catalog, function, app, tenant))
        held_back = any(one.presence is Presence.MISSING for one in settings)
        return FunctionOnTenant(
            function=function, state=State.HELD_BACK if held_back else State.WORKS, settings=settings
        )
    lacking = _but_for_apis(function, app, tenant)
    if lacking:
        apis = {p.resource_app_id for grant in lacking for p in grant.missing}
        return FunctionOnTenant(
            function=function, state=State.HELD_BACK, settings=tuple(_resources(catalog, lacking, apis))
        )
    sets = tuple(each.id for each in sets_for(function, app, catalog))
    soon = any(
        grant.live and grant.entra is Entra.VERIFYING and grant.permission_set_id in sets for grant in tenant.grants
    )
    return FunctionOnTenant(function=function, state=State.VERIFYING if soon else State.LACKS, sets=sets)


def _serving(need: Need, app: App, tenant: Tenant) -> tuple[Grant, ...]:
    mine = [grant for grant in tenant.grants if grant.usable and app.id in grant.apps]
    if need.permission_set_id is not None:
        return tuple(g for g in mine if g.permission_set_id == need.permission_set_id and not g.missing)
    wanted = set(need.permissions)
    if not wanted <= {permission for grant in mine for permission in grant.permissions}:
        return ()
    return tuple(grant for grant in mine if wanted.intersection(grant.permissions))


def _but_for_apis(function: Function, app: App, tenant: Tenant) -> tuple[Grant, ...]:
    """Grants that would bring what the function needs, if the tenant had the APIs that it doesn't have."""
    return tuple(
        grant
        for grant in tenant.grants
        if grant.usable
        and app.id in grant.apps
        and grant.missing
        and all(permission.resource_app_id in grant.health.absent for permission in grant.missing)
        and any(
            need.permission_set_id == grant.permission_set_id
            or (need.permissions and set(need.permissions) <= {*grant.permissions, *grant.missing})
            for need in function.any_of
        )
    )


def _resources(catalog: Catalog, grants: Iterable[Grant], app_ids: Iterable[str]) -> Iterator[Setting]:
    sets = [catalog.sets[one.permission_set_id] for one in grants if one.permission_set_id in catalog.sets]
    names = {resource.app_id: resource.name for one in sets for resource in one.resources}
    for app_id in sorted(app_ids):
        yield Setting(kind=RESOURCE, name=names.get(app_id, app_id), presence=Presence.MISSING)


def _settings(catalog: Catalog, function: Function, app: App, tenant: Tenant) -> Iterator[Setting]:
    clients = sorted(
        {
            catalog.sets[grant.permission_set_id].client_id
            for grant in serving(function, app, tenant)
            if grant.permission_set_id in catalog.sets
        }
    )
    for role in function.directory_roles:
        presence = _any_of(_has_role(tenant.facts, client_id, role.template_id) for client_id in clients)
        yield Setting(kind=DIRECTORY_ROLE, name=role.name, presence=presence, client_ids=tuple(clients))
    if function.licence is not None:
        plans = tenant.facts.service_plans
        presence = Presence.UNKNOWN
        if plans is not None:
            presence = Presence.THERE if plans.intersection(function.licence.service_plans) else Presence.MISSING
        yield Setting(kind=LICENCE, name=function.licence.title, presence=presence)


def _has_role(facts: Facts, client_id: str, template_id: str) -> Presence:
    roles = facts.directory_roles.get(client_id)
    if roles is None:
        return Presence.UNKNOWN
    return Presence.THERE if template_id in roles else Presence.MISSING


def _any_of(presences: Iterable[Presence]) -> Presence:
    """There if any is; missing only if all are known to be."""
    found = set(presences)
    if Presence.THERE in found:
        return Presence.THERE
    return Presence.MISSING if found == {Presence.MISSING} else Presence.UNKNOWN
