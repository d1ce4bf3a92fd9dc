"""Reading the catalogue from its YAML file, strictly: a wrong file is one readable line, never a surprise later."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

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
from shared.events import Permission, Slug, TenantId

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s#]+$")]

# The one that libyaml backs reads ten times as fast; wheels have it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


class _PermissionRef(_Entry):
    resource: str
    value: Text
    type: Literal["application", "delegated"] = "application"


class _Planned(_Entry):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    version: int = Field(ge=2)
    from_: date = Field(alias="from")
    reason: Text
    adds: list[_Permission] = []
    removes: list[_PermissionRef] = []


class _Set(_Entry):
    id: Slug
    title: Text
    description: Text
    version: int = Field(ge=1)
    registration: Slug
    permissions: list[_Permission] = Field(min_length=1)
    planned: list[_Planned] = []


class _Need(_Entry):
    permission_set: str | None = None
    permissions: list[_PermissionRef] = []


class _Licence(_Entry):
    title: Text
    service_plans: list[Text] = Field(min_length=1)


class _DirectoryRole(_Entry):
    name: Text
    template_id: TenantId


class _Function(_Entry):
    id: Slug
    title: Text
    any_of: list[_Need] = Field(min_length=1)
    licence: _Licence | None = None
    directory_roles: list[_DirectoryRole] = []


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


@dataclass(frozen=True, kw_only=True)
class CatalogContent:
    """A catalogue as it is kept: its version, and all that it says in one canonical form.

    Comments, order of keys and values that are the default don't matter, so they don't make it another content.
    """

    version: int
    text: str

    @property
    def digest(self) -> str:
        """Equal for equal contents."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def catalog(self, client_ids: Mapping[str, str], *, at: datetime | None = None, edition: int = 0) -> Catalog:
        """The catalogue at this moment; without one, as if no planned version's date had come.

        What a newer release of the gateway wrote, this one may not know in every field: such fields are left out.

        Raises:
            CatalogError: it refers to what isn't there, or a registration has no client id.
        """
        try:
            file = _File.model_validate_json(self.text, extra="ignore")
        except ValidationError as error:
            raise CatalogError(_first(error)) from None
        catalog = _build(file, client_ids)
        sets = {name: replace(one if at is None else one.at(at), edition=edition) for name, one in catalog.sets.items()}
        return replace(catalog, sets=sets, edition=edition)


def load_catalog(path: Path | None, client_ids: Mapping[str, str]) -> Catalog:
    """The catalogue of the file, or the packaged one, with the client id of every registration that it uses.

    Raises:
        CatalogError: the file can't be read, has another form, or refers to what isn't there.
    """
    return load_content(path, client_ids)[1]


def load_content(path: Path | None, client_ids: Mapping[str, str]) -> tuple[CatalogContent, Catalog]:
    """What the file says, and its catalogue, from one reading of it; as ``load_catalog``."""
    content = read_catalog(path)
    try:
        return content, content.catalog(client_ids)
    except CatalogError as error:
        raise CatalogError(f"{_name(path)}: {error}") from None


def read_catalog(path: Path | None) -> CatalogContent:
    """What the file, or the packaged one, says; its form is checked, what it refers to is not.

    Raises:
        CatalogError: the file can't be read or has another form.
    """
    name = _name(path)
    try:
        text = _packaged() if path is None else path.read_text(encoding="utf-8")
        content: Any = yaml.load(text, Loader=_LOADER)  # noqa: S506 - both are safe loaders
    except OSError as error:
        raise CatalogError(f"{name}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"{name}: is not YAML: {' '.join(str(error).split())[:200]}") from None
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise CatalogError(f"{name}: {_first(error)}") from None
    # Defaults are left out: a later release that adds a field doesn't make the same file another one.
    canonical = json.dumps(file.model_dump(mode="json", by_alias=True, exclude_defaults=True), sort_keys=True)
    return CatalogContent(version=file.version, text=canonical)


def _name(path: Path | None) -> str:
    return str(path) if path is not None else "the packaged catalogue"


def _first(error: ValidationError) -> str:
    item = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}"


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


def _permission(entry: _Permission, apis: Mapping[str, Resource]) -> CatalogPermission:
    return CatalogPermission(
        resource=_api(entry.resource, apis), value=entry.value, type=entry.type, reason=entry.reason
    )


def _planned(entry: _Set, apis: Mapping[str, Resource]) -> Iterable[PlannedVersion]:
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
        licence=Licence(title=entry.licence.title, service_plans=tuple(entry.licence.service_plans))
        if entry.licence
        else None,
        directory_roles=tuple(DirectoryRole(**role.model_dump()) for role in entry.directory_roles),
    )


def _need(entry: _Need, apis: Mapping[str, Resource]) -> Need:
    return Need(permission_set_id=entry.permission_set, permissions=_keys(entry.permissions, apis))


def _keys(refs: Iterable[_PermissionRef], apis: Mapping[str, Resource]) -> tuple[Permission, ...]:
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
