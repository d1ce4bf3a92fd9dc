"""Forms about apps in tenants. Each reads its fields, calls an operation and says what was done."""

from starlette.datastructures import FormData

from entra_sandbox.admin import inputs
from entra_sandbox.admin.forms import Change, boolean
from entra_sandbox.admin.operations import Operations
from entra_sandbox.sandbox import Sandbox


class AppForms:
    """Forms about apps in tenants."""

    def __init__(self, sandbox: Sandbox, operations: Operations) -> None:
        self._sandbox, self._operations = sandbox, operations

    @property
    def changes(self) -> dict[str, Change]:
        """What each form does, by the last part of its action."""
        return {
            "consent": self._consent,
            "change-app": self._change_app,
            "delete-app": self._delete_app,
            "remove-app-role": self._remove_app_role,
            "add-app-role": self._add_app_role,
        }

    def _consent(self, form: FormData) -> str:
        self._operations.apps.consent(str(form["tenant_id"]), str(form["client_id"]))
        return "Everything in the registration is granted."

    def _change_app(self, form: FormData) -> str:
        change = inputs.PrincipalChange(
            account_enabled=boolean(form, "account_enabled"),
            directory_roles=tuple(str(role) for role in form.getlist("directory_roles")),
        )
        self._operations.apps.change_principal(str(form["tenant_id"]), str(form["client_id"]), change)
        return "The app was changed."

    def _delete_app(self, form: FormData) -> str:
        self._operations.apps.delete_principal(str(form["tenant_id"]), str(form["client_id"]))
        return "The app was deleted from the tenant."

    def _remove_app_role(self, form: FormData) -> str:
        role = inputs.AppRole(resource_app_id=str(form["resource_app_id"]), value=str(form["value"]))
        self._operations.apps.remove_app_role(str(form["tenant_id"]), str(form["client_id"]), role)
        return f"{role.value} was revoked."

    def _add_app_role(self, form: FormData) -> str:
        resource_app_id, _, value = str(form["permission"]).partition(" ")
        role = inputs.AppRole(resource_app_id=resource_app_id, value=value)
        self._operations.apps.add_app_role(str(form["tenant_id"]), str(form["client_id"]), role)
        return f"{role.value} was granted."
