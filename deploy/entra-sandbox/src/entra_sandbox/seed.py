"""The directory at the first start: the packaged YAML file, or another one of the same form."""

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from entra_sandbox.model import (
    Frozen,
    PermissionType,
    Registration,
    RequiredPermission,
    Resource,
    Tenant,
    User,
    derived_id,
)

# libyaml reads the packaged seed ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class SeedError(Exception):
    """The seed file cannot be used; the message is one line that says why."""


class Seed(Frozen):
    """Tenants, people, registrations and resources of the first start."""

    tenants: tuple[Tenant, ...] = ()
    users: tuple[User, ...] = ()
    registrations: tuple[Registration, ...] = ()
    resources: tuple[Resource, ...] = ()


def load(path: Path | None) -> Seed:
    """The seed in a file, or the packaged one.

    Raises:
        SeedError: the file is missing, is not YAML, or does not have the form of the packaged one.
    """
    try:
        text = path.read_text() if path else resources.files("entra_sandbox").joinpath("seed.yaml").read_text()
        return _parse(yaml.load(text, Loader=_LOADER))  # noqa: S506 both are safe loaders
    except OSError as error:
        raise SeedError(f"cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SeedError(f"is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise SeedError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise SeedError(f"does not have the expected form: {error!r}") from error


def _parse(raw: dict[str, Any]) -> Seed:
    offered = tuple(Resource.model_validate(item) for item in raw["resources"])
    tenants = tuple(Tenant.model_validate(item) for item in raw["tenants"])
    defaults = raw.get("registration_defaults", {})
    return Seed(
        tenants=tenants,
        users=tuple(_user(item, tenants) for item in raw.get("users", ())),
        registrations=tuple(_registration({**defaults, **item}, offered) for item in raw.get("registrations", ())),
        resources=offered,
    )


def _user(item: dict[str, Any], tenants: tuple[Tenant, ...]) -> User:
    name = item["user_principal_name"]
    domain = name.partition("@")[2]
    tenant = next((tenant for tenant in tenants if domain in tenant.domains), None)
    if tenant is None:
        raise SeedError(f"users: no tenant has the domain of {name}")
    return User.model_validate({"tenant_id": tenant.id, "object_id": derived_id(tenant.id, name), **item})


def _registration(item: dict[str, Any], offered: tuple[Resource, ...]) -> Registration:
    by_name = {resource.name: resource for resource in offered}
    permissions: list[RequiredPermission] = []
    for resource_name, kinds in item["permissions"].items():
        resource = by_name.get(resource_name)
        if resource is None:
            raise SeedError(f"registrations: {item['name']}: unknown resource {resource_name!r}")
        for kind, values in kinds.items():
            for value in values:
                if resource.permission(value, PermissionType(kind)) is None:
                    raise SeedError(f"registrations: {item['name']}: {resource_name} has no {kind} permission {value}")
                permissions.append(RequiredPermission(resource_app_id=resource.app_id, value=value, type=kind))
    key_ids = [
        {"key_id": derived_id(item["client_id"], f"secret-{number}"), **secret}
        for number, secret in enumerate(item.get("secrets", ()))
    ]
    return Registration.model_validate({**item, "permissions": permissions, "secrets": key_ids})
