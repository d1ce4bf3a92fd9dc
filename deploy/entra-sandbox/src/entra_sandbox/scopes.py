"""The `scope` parameter, read by the rules of Entra's v2.0 endpoints.

Source: "Scopes and permissions in the Microsoft identity platform". A scope without resource is Microsoft Graph's;
`.default` stands for everything in the registration and goes with no other scope but those of OpenID Connect.
"""

from dataclasses import dataclass

from entra_sandbox.directory import Directory
from entra_sandbox.errors import EntraError
from entra_sandbox.model import GRAPH_APP_ID, PermissionType, Registration, RequiredPermission, Resource

OPENID_SCOPES = ("openid", "profile", "email", "offline_access")
_DEFAULT = "/.default"


@dataclass(frozen=True)
class ScopeRequest:
    """What a `scope` asks for: `default_of` is the resource of `.default`, `named` are delegated permissions."""

    openid: tuple[str, ...]
    default_of: Resource | None
    named: tuple[RequiredPermission, ...]

    def permissions(self, registration: Registration) -> tuple[RequiredPermission, ...]:
        """Every permission that a consent to this scope covers: with `.default` all APIs of the registration."""
        basics = tuple(
            RequiredPermission(resource_app_id=GRAPH_APP_ID, value=value, type=PermissionType.DELEGATED)
            for value in self.openid
        )
        asked = registration.permissions if self.default_of else self.named
        return tuple(dict.fromkeys((*asked, *basics)))


def read(directory: Directory, registration: Registration, scope: str, *, tenant: str) -> ScopeRequest:
    """Reads a `scope` parameter.

    Raises:
        EntraError: 70011 for an empty or mixed scope, 500011 for an unknown resource, 650053 for an unknown permission.
    """
    items = scope.split()
    if not items:
        raise EntraError(70011, scope="''")
    openid = tuple(item for item in items if item in OPENID_SCOPES)
    others = [item for item in items if item not in OPENID_SCOPES]
    defaults = [item for item in others if item.endswith(_DEFAULT) or item == ".default"]
    if defaults and len(others) > 1:
        message = (
            "The provided value for the input parameter 'scope' is not valid. .default scope can't be combined with "
            "resource-specific scopes."
        )
        raise EntraError(70011, message=message)
    if defaults:
        return ScopeRequest(openid, _resource(directory, defaults[0].removesuffix(".default"), tenant), ())
    return ScopeRequest(openid, None, tuple(_named(directory, registration, item, tenant) for item in others))


def default_resource(directory: Directory, scope: str, *, tenant: str) -> tuple[Resource, str]:
    """The resource of a client-credentials request, and the identifier it was asked for by.

    Raises:
        EntraError: 70011 unless the scope is exactly one `{resource}/.default`, 500011 for an unknown resource.
    """
    items = scope.split()
    if len(items) != 1 or not items[0].endswith(_DEFAULT):
        raise EntraError(70011, scope=scope or "''")
    identifier = items[0].removesuffix(_DEFAULT)
    return _resource(directory, identifier, tenant), identifier.rstrip("/")


def _resource(directory: Directory, identifier: str, tenant: str) -> Resource:
    resource = directory.resource_named(identifier) if identifier else directory.resources.get(GRAPH_APP_ID)
    if resource is None:
        raise EntraError(500011, resource=identifier.rstrip("/"), tenant=tenant)
    return resource


def _named(directory: Directory, registration: Registration, item: str, tenant: str) -> RequiredPermission:
    identifier, _, value = item.rpartition("/")
    resource = _resource(directory, identifier, tenant)
    if resource.permission(value, PermissionType.DELEGATED) is None:
        raise EntraError(650053, app=registration.display_name, scope=value, resource=resource.app_id)
    return RequiredPermission(resource_app_id=resource.app_id, value=value, type=PermissionType.DELEGATED)
