"""What the catalogue's file means: its entries put together, each reference followed."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time

from consent_gateway.catalog.form import (
    AppEntry,
    CatalogForm,
    FunctionEntry,
    NeedEntry,
    PermissionEntry,
    PermissionRef,
    SetEntry,
)
from consent_gateway.catalog.model import (
    App,
    Catalog,
    CatalogPermission,
    DirectoryRole,
    Function,
    Licence,
    Need,
    PermissionSet,
    PlannedVersion,
    Resource,
)
from consent_gateway.errors import CatalogError
from shared.events import Permission


def build(file: CatalogForm, client_ids: Mapping[str, str]) -> Catalog:
    """The catalogue, as if no planned version's date had come.

    Raises:
        CatalogError: an entry refers to what isn't there, or appears twice; a registration has no client id.
    """
    _unique("permission set", (entry.id for entry in file.permission_sets))
    _unique("app", (entry.id for entry in file.apps))
    apis = {key: Resource(**entry.model_dump()) for key, entry in file.resources.items()}
    sets = {entry.id: _set(entry, apis, client_ids, file.apps) for entry in file.permission_sets}
    apps = {entry.id: _app(entry, apis, sets) for entry in file.apps}
    return Catalog(version=file.version, sets=sets, apps=apps)


def _set(
    entry: SetEntry, apis: Mapping[str, Resource], client_ids: Mapping[str, str], apps: Iterable[AppEntry]
) -> PermissionSet:
    if entry.registration not in client_ids:
        raise CatalogError(f"CATALOG__CLIENT_IDS names no client id for the registration {entry.registration!r}")
    permissions = tuple(_permission(permission, apis) for permission in entry.permissions)
    _unique(f"permission of {entry.id}", (f"{p.resource.name} {p.value} ({p.type})" for p in permissions))
    return PermissionSet(
        id=entry.id,
        title=entry.title,
        description=entry.description,
        version=entry.version,
        registration=entry.registration,
        client_id=client_ids[entry.registration],
        permissions=permissions,
        apps=tuple(app.id for app in apps if entry.id in app.permission_sets),
        planned=tuple(_planned(entry, apis)),
    )


def _permission(entry: PermissionEntry, apis: Mapping[str, Resource]) -> CatalogPermission:
    return CatalogPermission(
        resource=_api(entry.resource, apis), value=entry.value, type=entry.type, reason=entry.reason
    )


def _planned(entry: SetEntry, apis: Mapping[str, Resource]) -> Iterable[PlannedVersion]:
    """The announced versions, each checked against what the one before it leaves."""
    version, start = entry.version, date.min
    has = {_permission(one, apis).key for one in entry.permissions}
    for plan in entry.planned:
        where = f"permission set {entry.id}: planned version {plan.version}"
        if plan.version <= version or plan.from_ < start:
            raise CatalogError(f"{where}: versions and dates must grow")
        adds = tuple(_permission(one, apis) for one in plan.adds)
        removes = _keys(plan.removes, apis)
        if not adds and not removes:
            raise CatalogError(f"{where}: neither adds nor removes a permission")
        if has.intersection(one.key for one in adds) or not has.issuperset(removes):
            raise CatalogError(f"{where}: adds what is there, or removes what is not")
        has = (has - set(removes)) | {one.key for one in adds}
        version, start = plan.version, plan.from_
        yield PlannedVersion(
            version=version,
            effective_from=datetime.combine(start, time(), UTC),
            adds=adds,
            removes=removes,
            reason=plan.reason,
        )


def _app(entry: AppEntry, apis: Mapping[str, Resource], sets: Mapping[str, PermissionSet]) -> App:
    for set_id in entry.permission_sets:
        if set_id not in sets:
            raise CatalogError(f"app {entry.id}: there is no permission set {set_id!r}")
    _unique(f"function of {entry.id}", (function.id for function in entry.functions))
    return App(
        id=entry.id,
        name=entry.name,
        description=entry.description,
        tenant_limit=entry.tenant_limit,
        return_urls=tuple(entry.return_urls),
        sets=tuple(entry.permission_sets),
        functions=tuple(_function(entry, function, apis) for function in entry.functions),
    )


def _function(app: AppEntry, entry: FunctionEntry, apis: Mapping[str, Resource]) -> Function:
    for need in entry.any_of:
        if (need.permission_set is None) == (not need.permissions):
            raise CatalogError(f"function {app.id}/{entry.id}: a need is either a permission_set or permissions")
        if need.permission_set is not None and need.permission_set not in app.permission_sets:
            raise CatalogError(f"function {app.id}/{entry.id}: {need.permission_set!r} is not a set of the app")
    return Function(
        id=entry.id,
        title=entry.title,
        any_of=tuple(_need(need, apis) for need in entry.any_of),
        licence=Licence(title=entry.licence.title, service_plans=tuple(entry.licence.service_plans))
        if entry.licence
        else None,
        directory_roles=tuple(DirectoryRole(**role.model_dump()) for role in entry.directory_roles),
    )


def _need(entry: NeedEntry, apis: Mapping[str, Resource]) -> Need:
    return Need(permission_set_id=entry.permission_set, permissions=_keys(entry.permissions, apis))


def _keys(refs: Iterable[PermissionRef], apis: Mapping[str, Resource]) -> tuple[Permission, ...]:
    return tuple(
        Permission(resource_app_id=_api(ref.resource, apis).app_id, value=ref.value, type=ref.type) for ref in refs
    )


def _api(key: str, apis: Mapping[str, Resource]) -> Resource:
    try:
        return apis[key]
    except KeyError:
        raise CatalogError(f"there is no resource {key!r}") from None


def _unique(what: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise CatalogError(f"{what} {one!r} appears twice")
        seen.add(one)
