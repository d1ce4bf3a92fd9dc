"""Changes of client registrations; each is on the disk when it returns."""

import uuid
from collections.abc import Iterable
from datetime import datetime

from cryptography import x509

from entra_sandbox.admin.inputs import NewRegistration, RegistrationChange
from entra_sandbox.admin.refusals import OperationError
from entra_sandbox.directory import Directory
from entra_sandbox.model import ClientCertificate, ClientSecret, FederatedCredential, Registration, RequiredPermission


class RegistrationOperations:
    """What can be done to client registrations."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def registration(self, client_id: str) -> Registration:
        """A client registration (404 for an unknown one)."""
        found = self._directory.registration(client_id)
        if found is None:
            raise OperationError(404, f"There is no registration {client_id}.")
        return found

    def create_registration(self, wanted: NewRegistration) -> Registration:
        """Makes a client registration, present in its home tenant from the start."""
        home = self._directory.tenants.get(wanted.home_tenant_id)
        if home is None:
            raise OperationError(404, f"There is no tenant {wanted.home_tenant_id}.")
        client_id = wanted.client_id or str(uuid.uuid4())
        if self._directory.registration(client_id):
            raise OperationError(409, f"The registration {client_id} exists already.")
        self._check_permissions(wanted.permissions)
        values = wanted.model_dump(exclude={"secret", "client_id"})
        registration = Registration.model_validate(
            {**values, "client_id": client_id, "secrets": (ClientSecret(value=wanted.secret),)}
        )
        self._directory.registrations.put(client_id, registration)
        self._directory.grant(home, registration, ())
        return registration

    def change_registration(self, client_id: str, change: RegistrationChange) -> Registration:
        """Changes a client registration."""
        self._check_permissions(change.permissions or ())
        return self._with(client_id, **change.model_dump(exclude_unset=True))

    def add_secret(self, client_id: str, value: str, expires_at: datetime | None) -> Registration:
        """Adds a secret; those that are there stay good."""
        secret = ClientSecret(value=value, expires_at=expires_at)
        return self._with(client_id, secrets=(*self.registration(client_id).secrets, secret))

    def expire_secret(self, client_id: str, key_id: str, expires_at: datetime | None) -> Registration:
        """Gives a secret another expiry."""
        registration = self.registration(client_id)
        if key_id not in [item.key_id for item in registration.secrets]:
            raise OperationError(404, f"The registration has no secret {key_id}.")
        changed = tuple(
            item.model_copy(update={"expires_at": expires_at}) if item.key_id == key_id else item
            for item in registration.secrets
        )
        return self._with(client_id, secrets=changed)

    def add_certificate(self, client_id: str, pem: str) -> Registration:
        """Registers a certificate."""
        try:
            x509.load_pem_x509_certificate(pem.encode())
        except ValueError as error:
            raise OperationError(422, "pem is not a certificate in PEM form.") from error
        return self._with(
            client_id, certificates=(*self.registration(client_id).certificates, ClientCertificate(pem=pem))
        )

    def add_federated_credential(self, client_id: str, credential: FederatedCredential) -> Registration:
        """Trusts another issuer's assertions."""
        held = self.registration(client_id).federated_credentials
        return self._with(client_id, federated_credentials=(*held, credential))

    def delete_credential(self, client_id: str, key_id: str) -> Registration:
        """Takes a secret, certificate or federated credential away."""
        registration = self.registration(client_id)
        return self._with(
            client_id,
            secrets=tuple(item for item in registration.secrets if item.key_id != key_id),
            certificates=tuple(item for item in registration.certificates if item.key_id != key_id),
            federated_credentials=tuple(item for item in registration.federated_credentials if item.key_id != key_id),
        )

    def _with(self, client_id: str, **values: object) -> Registration:
        registration = self.registration(client_id)
        changed = Registration.model_validate({**registration.model_dump(), **values})
        return self._directory.registrations.put(registration.client_id, changed)

    def _check_permissions(self, permissions: Iterable[RequiredPermission]) -> None:
        for item in permissions:
            resource = self._directory.resources.get(item.resource_app_id)
            if resource is None or resource.permission(item.value, item.type) is None:
                raise OperationError(
                    422, f"The resource {item.resource_app_id} has no {item.type} permission {item.value}."
                )
