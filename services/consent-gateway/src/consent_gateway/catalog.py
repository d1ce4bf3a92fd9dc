"""The catalogue: permission sets, the apps that use them, and what each function of an app needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Resource:
    """An API in Entra. ``identifier`` is what stands before ``/.default`` in a scope."""

    app_id: str
    identifier: str
    name: str


@dataclass(frozen=True, kw_only=True)
class CatalogPermission:
    """A permission of a set, with the plain-language reason why it is needed."""

    resource: Resource
    value: str
    type: Literal["application", "delegated"]
    reason: str


@dataclass(frozen=True, kw_only=True)
class PermissionSet:
    """The unit of consent. ``apps`` are the ids of the apps that use it."""

    id: str
    title: str
    description: str
    version: int
    registration: str
    client_id: str
    permissions: tuple[CatalogPermission, ...]
    apps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Function:
    """What an app can do, given any one of the sets (or permissions) and the settings in Entra."""

    id: str
    title: str
    any_of: tuple[str, ...]
    licence: str | None
    directory_roles: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class App:
    """A Vision One app. ``sets`` are the ids of the sets that it may use."""

    id: str
    name: str
    description: str
    tenant_limit: int | None
    return_urls: tuple[str, ...]
    sets: tuple[str, ...]
    functions: tuple[Function, ...]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All sets and apps by id, in the order of the file."""

    version: int
    sets: Mapping[str, PermissionSet]
    apps: Mapping[str, App]
