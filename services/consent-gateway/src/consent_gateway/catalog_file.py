"""Reading the catalogue from its YAML file, strictly: a wrong file is one readable line, never a surprise later."""

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from consent_gateway.catalog import App, Catalog, CatalogPermission, Function, Need, PermissionSet, Resource
from consent_gateway.errors import CatalogError
from shared.events import Permission, Slug, TenantId

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s#]+$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Resource(_Entry):
    app_id: TenantId
    identifier: Text
    name: Text


class _Permission(_Entry):
    resource: str
    value: Text
    type: Literal["application", "delegated"] = "application"
    reason: Text


class _Set(_Entry):
    id: Slug
    title: Text
    description: Text
    version: int = Field(ge=1)
    registration: Slug
    permissions: list[_Permission] = Field(min_length=1)


class _PermissionRef(_Entry):
    resource: str
    value: Text
    type: Literal["application", "delegated"] = "application"


class _Need(_Entry):
    permission_set: str | None = None
    permissions: list[_PermissionRef] = []


class _Function(_Entry):
    id: Slug
    title: Text
    any_of: list[_Need] = Field(min_length=1)
    licence: Text | None = None
    directory_roles: list[Text] = []


class _App(_Entry):
    id: Slug
    name: Text
    description: Text
    tenant_limit: Literal[1] | None = None
    return_urls: list[Url] = []
    permission_sets: list[str] = Field(min_length=1)
    functions: list[_Function] = []


class _File(_Entry):
    version: int = Field(ge=1)
    resources: dict[Slug, _Resource]
    permission_sets: list[_Set] = Field(min_length=1)
    apps: list[_App]


def load_catalog(path: Path | None, client_ids: Mapping[str, str]) -> Catalog:
    """The catalogue of the file, or the packaged one, with the client id of every registration that it uses.

    Raises:
        CatalogError: the file can't be read, has another form, or refers to what isn't there.
    """
    name = str(path) if path is not None else "the packaged catalogue"
    try:
        text = _packaged() if path is None else path.read_text(encoding="utf-8")
        content: Any = yaml.safe_load(text)
    except OSError as error:
        raise CatalogError(f"{name}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"{name}: is not YAML: {' '.join(str(error).split())[:200]}") from None
    try:
        return _build(_File.model_validate(content), client_ids)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        place = ".".join(map(str, item["loc"])) or "file"
        raise CatalogError(f"{name}: {place}: {item['msg']}") from None
    except CatalogError as error:
        raise CatalogError(f"{name}: {error}") from None


def _packaged() -> str:
    return resources.files("consent_gateway").joinpath("catalog.yaml").read_text(encoding="utf-8")


def _build(file: _File, client_ids: Mapping[str, str]) -> Catalog:
    _unique("permission set", (entry.id for entry in file.permission_sets))
    _unique("app", (entry.id for entry in file.apps))
    apis = {key: Resource(**entry.model_dump()) for key, entry in file.resources.items()}
    sets = {entry.id: _set(entry, apis, client_ids, file.apps) for entry in file.permission_sets}
    apps = {entry.id: _app(entry, apis, sets) for entry in file.apps}
    return Catalog(version=file.version, sets=sets, apps=apps)


def _set(
    entry: _Set, apis: Mapping[str, Resource], client_ids: Mapping[str, str], apps: Iterable[_App]
) -> PermissionSet:
    if entry.registration not in client_ids:
        raise CatalogError(f"CATALOG__CLIENT_IDS names no client id for the registration {entry.registration!r}")
    permissions = tuple(
        CatalogPermission(
            resource=_api(permission.resource, apis),
            value=permission.value,
            type=permission.type,
            reason=permission.reason,
        )
        for permission in entry.permissions
    )
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
    )


def _app(entry: _App, apis: Mapping[str, Resource], sets: Mapping[str, PermissionSet]) -> App:
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


def _function(app: _App, entry: _Function, apis: Mapping[str, Resource]) -> Function:
    for need in entry.any_of:
        if (need.permission_set is None) == (not need.permissions):
            raise CatalogError(f"function {app.id}/{entry.id}: a need is either a permission_set or permissions")
        if need.permission_set is not None and need.permission_set not in app.permission_sets:
            raise CatalogError(f"function {app.id}/{entry.id}: {need.permission_set!r} is not a set of the app")
    return Function(
        id=entry.id,
        title=entry.title,
        any_of=tuple(_need(need, apis) for need in entry.any_of),
        licence=entry.licence,
        directory_roles=tuple(entry.directory_roles),
    )


def _need(entry: _Need, apis: Mapping[str, Resource]) -> Need:
    permissions = tuple(
        Permission(resource_app_id=_api(ref.resource, apis).app_id, value=ref.value, type=ref.type)
        for ref in entry.permissions
    )
    return Need(permission_set_id=entry.permission_set, permissions=permissions)


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
