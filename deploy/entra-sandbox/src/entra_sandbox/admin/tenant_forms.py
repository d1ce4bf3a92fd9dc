"""Forms about tenants and people. Each reads its fields, calls an operation and says what was done."""

from starlette.datastructures import FormData

from entra_sandbox.admin import inputs
from entra_sandbox.admin.forms import Change, boolean, integer, number, optional, words
from entra_sandbox.admin.operations import Operations
from entra_sandbox.model import (
    Guest,
    Propagation,
    derived_id,
)
from entra_sandbox.sandbox import Sandbox


class TenantForms:
    """Forms about tenants and people."""

    def __init__(self, sandbox: Sandbox, operations: Operations) -> None:
        self._sandbox, self._operations = sandbox, operations

    @property
    def changes(self) -> dict[str, Change]:
        """What each form does, by the last part of its action."""
        return {
            "create-tenant": self._create_tenant,
            "change-tenant": self._change_tenant,
            "delete-tenant": self._delete_tenant,
            "release": self._release,
            "create-user": self._create_user,
            "change-user": self._change_user,
            "delete-user": self._delete_user,
        }

    def _create_tenant(self, form: FormData) -> str:
        wanted = inputs.NewTenant(
            id=optional(form, "id"), display_name=str(form["display_name"]), domains=words(form, "domains")
        )
        return f"{self._operations.tenants.create_tenant(wanted).display_name} is there."

    def _change_tenant(self, form: FormData) -> str:
        change = inputs.TenantChange.model_validate(
            {
                "display_name": form["display_name"],
                "domains": words(form, "domains"),
                "licences": words(form, "licences"),
                "user_consent": boolean(form, "user_consent"),
                "missing_resources": [str(item) for item in form.getlist("missing_resources")],
                "missing_resource_policy": form["missing_resource_policy"],
                "propagation": Propagation(
                    hold=boolean(form, "hold"),
                    delay_seconds=number(form, "delay_seconds"),
                    step_seconds=number(form, "step_seconds"),
                    service_principal=boolean(form, "service_principal"),
                ),
            }
        )
        return f"{self._operations.tenants.change_tenant(str(form['tenant_id']), change).display_name} was changed."

    def _delete_tenant(self, form: FormData) -> str:
        self._operations.tenants.delete_tenant(str(form["tenant_id"]))
        return "The tenant was deleted."

    def _release(self, form: FormData) -> str:
        tenant = self._operations.tenants.tenant(str(form["tenant_id"]))
        count = self._sandbox.directory.release(tenant.id, count=integer(form, "count"))
        return f"{count} app roles became visible."

    def _create_user(self, form: FormData) -> str:
        wanted = inputs.NewUser(
            user_principal_name=str(form["user_principal_name"]),
            display_name=str(form["display_name"]),
            roles=tuple(str(role) for role in form.getlist("roles")),
        )
        user = self._operations.tenants.create_user(str(form["tenant_id"]), wanted)
        return f"{user.user_principal_name} can sign in."

    def _change_user(self, form: FormData) -> str:
        user = self._operations.tenants.user(str(form["object_id"]))
        guests = user.guest_in
        guest_in = optional(form, "guest_in")
        if guest_in:
            guests = (*guests, Guest(tenant_id=guest_in, object_id=derived_id(guest_in, user.object_id)))
        change = inputs.UserChange(roles=tuple(str(role) for role in form.getlist("roles")), guest_in=guests)
        self._operations.tenants.change_user(user.object_id, change)
        return f"{user.user_principal_name} was changed."

    def _delete_user(self, form: FormData) -> str:
        self._operations.tenants.delete_user(str(form["object_id"]))
        return "The person was deleted."
