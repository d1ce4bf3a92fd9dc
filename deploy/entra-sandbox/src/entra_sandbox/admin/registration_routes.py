"""Client registrations over the admin API."""

from fastapi import APIRouter

from entra_sandbox.admin import inputs
from entra_sandbox.admin.registration_operations import RegistrationOperations
from entra_sandbox.admin.views import Items
from entra_sandbox.model import Registration, Resource
from entra_sandbox.sandbox import Sandbox


def registration_routes(sandbox: Sandbox, operations: RegistrationOperations) -> APIRouter:
    """Routes of client registrations."""
    routes, directory = APIRouter(), sandbox.directory

    @routes.get("/resources")
    async def resources() -> Items[Resource]:
        """The APIs that permissions are of."""
        return Items(items=list(directory.resources.values()))

    @routes.get("/registrations")
    async def registrations() -> Items[Registration]:
        """All client registrations."""
        return Items(items=directory.registrations.values())

    @routes.post("/registrations", status_code=201)
    async def create_registration(wanted: inputs.NewRegistration) -> Registration:
        """Makes a client registration."""
        return operations.create_registration(wanted)

    @routes.get("/registrations/{client_id}")
    async def registration(client_id: str) -> Registration:
        """One client registration."""
        return operations.registration(client_id)

    @routes.patch("/registrations/{client_id}")
    async def change_registration(client_id: str, change: inputs.RegistrationChange) -> Registration:
        """Changes a registration: permissions, redirect URIs, claims, audience."""
        return operations.change_registration(client_id, change)

    @routes.post("/registrations/{client_id}/secrets", status_code=201)
    async def add_secret(client_id: str, wanted: inputs.NewSecret) -> Registration:
        """Adds a client secret."""
        return operations.add_secret(client_id, wanted.value, wanted.expires_at)

    @routes.patch("/registrations/{client_id}/secrets/{key_id}")
    async def expire_secret(client_id: str, key_id: str, change: inputs.SecretChange) -> Registration:
        """Gives a client secret another expiry."""
        return operations.expire_secret(client_id, key_id, change.expires_at)

    @routes.post("/registrations/{client_id}/certificates", status_code=201)
    async def add_certificate(client_id: str, wanted: inputs.NewCertificate) -> Registration:
        """Registers a certificate."""
        return operations.add_certificate(client_id, wanted.pem)

    @routes.post("/registrations/{client_id}/federated-credentials", status_code=201)
    async def add_federated(client_id: str, wanted: inputs.NewFederatedCredential) -> Registration:
        """Trusts another issuer's assertions."""
        return operations.add_federated_credential(client_id, wanted.credential())

    @routes.delete("/registrations/{client_id}/credentials/{key_id}")
    async def delete_credential(client_id: str, key_id: str) -> Registration:
        """Takes a secret, certificate or federated credential away."""
        return operations.delete_credential(client_id, key_id)

    return routes
