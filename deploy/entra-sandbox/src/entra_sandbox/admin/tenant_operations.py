"""Changes of tenants and their people; each is on the disk when it returns."""

import uuid
from collections.abc import Iterable

from entra_sandbox.admin.inputs import NewTenant, NewUser, TenantBatch, TenantChange, UserChange
from entra_sandbox.admin.refusals import OperationError, check_roles
from entra_sandbox.admin.registration_operations import RegistrationOperations
from entra_sandbox.directory import Directory
from entra_sandbox.model import Tenant, User, derived_id

_PEOPLE = (
    ("admin", "Administrator", ("Global Administrator",)),
    ("user", "User", ()),
    ("reader", "Reader", ("Global Reader",)),
)


class TenantOperations:
    """What can be done to tenants and people."""

    def __init__(self, directory: Directory, registrations: RegistrationOperations) -> None:
        self._directory, self._registrations = directory, registrations

    def tenant(self, tenant_id: str) -> Tenant:
        """A tenant (404 for an unknown one)."""
        found = self._directory.tenants.get(tenant_id.lower())
        if found is None:
            raise OperationError(404, f"There is no tenant {tenant_id}.")
        return found

    def create_tenant(self, wanted: NewTenant) -> Tenant:
        """Makes a tenant (409 if its id or one of its domains is taken)."""
        tenant_id = wanted.id or str(uuid.uuid4())
        self._check_free(tenant_id, wanted.domains)
        tenant = Tenant(
            id=tenant_id,
            display_name=wanted.display_name,
            domains=tuple(name.lower() for name in wanted.domains),
            licences=wanted.licences,
        )
        consented = [self._registrations.registration(client_id) for client_id in wanted.consented]
        self._directory.tenants.put(tenant.id, tenant)
        if wanted.people:
            self._directory.users.put_all({user.object_id: user for user in _people(tenant)})
        for registration in consented:
            self._directory.grant(tenant, registration, registration.permissions)
        return tenant

    def create_tenants(self, wanted: TenantBatch) -> list[str]:
        """Makes many tenants in one go, and returns their ids. Those that are there already stay as they are."""
        consented = [self._registrations.registration(client_id) for client_id in wanted.consented]
        names = [f"{wanted.prefix}-{number}.example" for number in range(wanted.count)]
        tenants = [Tenant(id=derived_id(name), display_name=name.split(".")[0], domains=(name,)) for name in names]
        new = [tenant for tenant in tenants if self._directory.tenants.get(tenant.id) is None]
        self._directory.tenants.put_all({tenant.id: tenant for tenant in new})
        if wanted.people:
            self._directory.users.put_all({user.object_id: user for tenant in new for user in _people(tenant)})
        self._directory.grant_many(new, consented)
        return [tenant.id for tenant in tenants]

    def change_tenant(self, tenant_id: str, change: TenantChange) -> Tenant:
        """Changes a tenant."""
        tenant = self.tenant(tenant_id)
        changed = Tenant.model_validate({**tenant.model_dump(), **change.model_dump(exclude_unset=True)})
        self._check_free(None, [name for name in changed.domains if name not in tenant.domains])
        return self._directory.tenants.put(tenant.id, changed)

    def delete_tenant(self, tenant_id: str) -> None:
        """Deletes a tenant with everything in it."""
        self._directory.delete_tenant(self.tenant(tenant_id).id)

    def user(self, object_id: str) -> User:
        """A person (404 for an unknown one)."""
        found = self._directory.users.get(object_id.lower())
        if found is None:
            raise OperationError(404, f"There is no user {object_id}.")
        return found

    def create_user(self, tenant_id: str, wanted: NewUser) -> User:
        """Makes a person at home in a tenant (409 if the name is taken)."""
        tenant = self.tenant(tenant_id)
        check_roles(wanted.roles)
        if self._directory.user_by_name(wanted.user_principal_name):
            raise OperationError(409, f"{wanted.user_principal_name} exists already.")
        object_id = wanted.object_id or derived_id(tenant.id, wanted.user_principal_name.lower())
        user = User.model_validate({**wanted.model_dump(), "object_id": object_id, "tenant_id": tenant.id})
        return self._directory.users.put(user.object_id, user)

    def change_user(self, object_id: str, change: UserChange) -> User:
        """Changes a person."""
        user = self.user(object_id)
        check_roles(change.roles or ())
        for guest in change.guest_in or ():
            self.tenant(guest.tenant_id)
            check_roles(guest.roles)
        changed = User.model_validate({**user.model_dump(), **change.model_dump(exclude_unset=True)})
        return self._directory.users.put(user.object_id, changed)

    def delete_user(self, object_id: str) -> None:
        """Deletes a person."""
        self._directory.users.delete(self.user(object_id).object_id)

    def _check_free(self, tenant_id: str | None, domains: Iterable[str]) -> None:
        if tenant_id and self._directory.tenants.get(tenant_id):
            raise OperationError(409, f"The tenant {tenant_id} exists already.")
        wanted = {name.lower() for name in domains}
        taken = next((item for item in self._directory.tenants.values() if wanted & set(item.domains)), None)
        if taken:
            raise OperationError(409, f"{taken.display_name} has one of these domains already.")


def _people(tenant: Tenant) -> list[User]:
    return [
        User(
            object_id=derived_id(tenant.id, f"{name}@{tenant.domains[0]}"),
            tenant_id=tenant.id,
            user_principal_name=f"{name}@{tenant.domains[0]}",
            display_name=f"{tenant.display_name} {title}",
            roles=roles,
        )
        for name, title, roles in _PEOPLE
    ]
