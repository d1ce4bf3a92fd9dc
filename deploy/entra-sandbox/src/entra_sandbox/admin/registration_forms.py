"""Forms about client registrations. Each reads its fields, calls an operation and says what was done."""

import json
from datetime import datetime, timedelta

from starlette.datastructures import FormData

from entra_sandbox.admin import inputs
from entra_sandbox.admin.forms import Change, boolean, integer, words
from entra_sandbox.admin.operations import Operations
from entra_sandbox.admin.refusals import OperationError
from entra_sandbox.model import (
    PermissionType,
    Registration,
    RequiredPermission,
)
from entra_sandbox.sandbox import Sandbox


class RegistrationForms:
    """Forms about client registrations."""

    def __init__(self, sandbox: Sandbox, operations: Operations) -> None:
        self._sandbox, self._operations = sandbox, operations

    @property
    def changes(self) -> dict[str, Change]:
        """What each form does, by the last part of its action."""
        return {
            "change-registration": self._change_registration,
            "add-secret": self._add_secret,
            "expire-secret": self._expire_secret,
            "delete-credential": self._delete_credential,
            "add-certificate": self._add_certificate,
            "add-federated-credential": self._add_federated_credential,
            "add-permission": self._add_permission,
            "remove-permission": self._remove_permission,
        }

    def _change_registration(self, form: FormData) -> str:
        change = inputs.RegistrationChange.model_validate(
            {
                "group_membership_claims": form["group_membership_claims"],
                "sign_in_audience": form["sign_in_audience"],
                "publisher_verified": boolean(form, "publisher_verified"),
                "redirect_uris": words(form, "redirect_uris"),
            }
        )
        self._operations.registrations.change_registration(str(form["client_id"]), change)
        return "The registration was changed."

    def _add_secret(self, form: FormData) -> str:
        days = integer(form, "days")
        expires: datetime | None = self._sandbox.directory.clock + timedelta(days=days) if days is not None else None
        self._operations.registrations.add_secret(str(form["client_id"]), str(form["value"]), expires)
        return "The secret was added."

    def _expire_secret(self, form: FormData) -> str:
        moment = self._sandbox.directory.clock
        self._operations.registrations.expire_secret(str(form["client_id"]), str(form["key_id"]), moment)
        return "The secret has expired."

    def _delete_credential(self, form: FormData) -> str:
        self._operations.registrations.delete_credential(str(form["client_id"]), str(form["key_id"]))
        return "The credential was deleted."

    def _add_certificate(self, form: FormData) -> str:
        self._operations.registrations.add_certificate(str(form["client_id"]), str(form["pem"]))
        return "The certificate was registered."

    def _add_federated_credential(self, form: FormData) -> str:
        try:
            jwks = json.loads(str(form["jwks"]))
        except json.JSONDecodeError as error:
            raise OperationError(422, f"The key set is not JSON: {error}.") from error
        wanted = inputs.NewFederatedCredential(issuer=str(form["issuer"]), subject=str(form["subject"]), jwks=jwks)
        self._operations.registrations.add_federated_credential(str(form["client_id"]), wanted.credential())
        return "The issuer is trusted."

    def _add_permission(self, form: FormData) -> str:
        resource_app_id, kind, value = str(form["permission"]).split(" ")
        added = RequiredPermission(resource_app_id=resource_app_id, value=value, type=PermissionType(kind))
        held = self._operations.registrations.registration(str(form["client_id"]))
        return self._set_permissions(held, (*(item for item in held.permissions if item != added), added))

    def _remove_permission(self, form: FormData) -> str:
        resource_app_id, kind, value = str(form["permission"]).split(" ")
        removed = RequiredPermission(resource_app_id=resource_app_id, value=value, type=PermissionType(kind))
        held = self._operations.registrations.registration(str(form["client_id"]))
        return self._set_permissions(held, tuple(item for item in held.permissions if item != removed))

    def _set_permissions(self, held: Registration, permissions: tuple[RequiredPermission, ...]) -> str:
        change = inputs.RegistrationChange(permissions=permissions)
        self._operations.registrations.change_registration(held.client_id, change)
        return f"The registration asks for {len(permissions)} permissions."
