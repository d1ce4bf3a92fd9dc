"""What can be done to the sandbox while it runs, for the admin API and its pages alike."""

from dataclasses import dataclass

from entra_sandbox.admin.app_operations import AppOperations
from entra_sandbox.admin.registration_operations import RegistrationOperations
from entra_sandbox.admin.tenant_operations import TenantOperations
from entra_sandbox.directory import Directory


@dataclass(frozen=True)
class Operations:
    """Operations by what they change."""

    registrations: RegistrationOperations
    tenants: TenantOperations
    apps: AppOperations


def operations_on(directory: Directory) -> Operations:
    """The operations on a directory."""
    registrations = RegistrationOperations(directory)
    tenants = TenantOperations(directory, registrations)
    return Operations(registrations, tenants, AppOperations(directory, tenants, registrations))
