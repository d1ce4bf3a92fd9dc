"""Changes of apps as they are present in tenants; each is on the disk when it returns."""

import uuid

from entra_sandbox.admin.inputs import AppRole, PrincipalChange
from entra_sandbox.admin.refusals import OperationError, check_roles
from entra_sandbox.admin.registration_operations import RegistrationOperations
from entra_sandbox.admin.tenant_operations import TenantOperations
from entra_sandbox.directory import Directory, principal_key
from entra_sandbox.model import PermissionType, RoleAssignment, ServicePrincipal


class AppOperations:
    """What can be done to an app in a tenant."""

    def __init__(self, directory: Directory, tenants: TenantOperations, registrations: RegistrationOperations) -> None:
        self._directory, self._tenants, self._registrations = directory, tenants, registrations

    def principal(self, tenant_id: str, client_id: str) -> ServicePrincipal:
        """An app as it is present in a tenant, propagated or not (404 if it is not)."""
        found = self._directory.principal(self._tenants.tenant(tenant_id).id, client_id.lower(), hidden=True)
        if found is None:
            raise OperationError(404, f"The app {client_id} is not present in the tenant {tenant_id}.")
        return found

    def consent(self, tenant_id: str, client_id: str) -> ServicePrincipal:
        """Grants everything in a registration, as if an administrator of the tenant had accepted it."""
        registration = self._registrations.registration(client_id)
        return self._directory.grant(self._tenants.tenant(tenant_id), registration, registration.permissions)

    def change_principal(self, tenant_id: str, client_id: str, change: PrincipalChange) -> ServicePrincipal:
        """Enables, disables, or gives directory roles."""
        check_roles(change.directory_roles or ())
        item = self.principal(tenant_id, client_id)
        return self._directory.put_principal(item.model_copy(update=change.model_dump(exclude_unset=True)))

    def delete_principal(self, tenant_id: str, client_id: str) -> None:
        """Removes an app from a tenant, with all that was granted to it."""
        item = self.principal(tenant_id, client_id)
        self._directory.service_principals.delete(principal_key(item.tenant_id, item.client_id))

    def add_app_role(self, tenant_id: str, client_id: str, role: AppRole) -> ServicePrincipal:
        """Grants one application permission, visible at once, whether or not the registration asks for it."""
        item, role_id = self.principal(tenant_id, client_id), self._role_id(role)
        if any(
            entry.app_role_id == role_id and entry.resource_app_id == role.resource_app_id for entry in item.assignments
        ):
            return item
        now = self._directory.clock
        added = RoleAssignment(
            id=str(uuid.uuid4()),
            app_role_id=role_id,
            resource_app_id=role.resource_app_id,
            created_at=now,
            visible_at=now,
        )
        return self._directory.put_principal(item.model_copy(update={"assignments": (*item.assignments, added)}))

    def remove_app_role(self, tenant_id: str, client_id: str, role: AppRole) -> ServicePrincipal:
        """Revokes one application permission."""
        item, role_id = self.principal(tenant_id, client_id), self._role_id(role)
        kept = tuple(
            entry
            for entry in item.assignments
            if (entry.app_role_id, entry.resource_app_id) != (role_id, role.resource_app_id)
        )
        return self._directory.put_principal(item.model_copy(update={"assignments": kept}))

    def remove_grants(self, tenant_id: str, client_id: str) -> ServicePrincipal:
        """Revokes all delegated permissions of an app in a tenant."""
        item = self.principal(tenant_id, client_id)
        return self._directory.put_principal(item.model_copy(update={"grants": ()}))

    def _role_id(self, role: AppRole) -> str:
        resource = self._directory.resources.get(role.resource_app_id)
        found = resource and resource.permission(role.value, PermissionType.APPLICATION)
        if not found:
            raise OperationError(
                404, f"The resource {role.resource_app_id} has no application permission {role.value}."
            )
        return found.id
