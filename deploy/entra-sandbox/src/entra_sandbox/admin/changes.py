"""What the forms of the sandbox's pages do: each reads its fields, calls an operation and says what was done."""

from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import quote, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from starlette.datastructures import FormData

from entra_sandbox.admin import inputs
from entra_sandbox.admin.forms import boolean, integer, number, optional, words
from entra_sandbox.admin.operations import Operations
from entra_sandbox.admin.origin import is_own
from entra_sandbox.admin.refusals import OperationError
from entra_sandbox.faults import NewFault
from entra_sandbox.flaws import Flaw
from entra_sandbox.model import Behaviour, Guest, Propagation, derived_id
from entra_sandbox.sandbox import Sandbox

Change = Callable[[FormData], str]
"""Does what a form asks for and says so in a sentence."""


class AdminForms:
    """Takes the forms of the pages, and sends the browser back to the page that it came from."""

    def __init__(self, sandbox: Sandbox, operations: Operations) -> None:
        self._sandbox, self._operations = sandbox, operations
        self._changes: dict[str, Change] = {
            "create-tenant": self._create_tenant,
            "change-tenant": self._change_tenant,
            "delete-tenant": self._delete_tenant,
            "release": self._release,
            "create-user": self._create_user,
            "change-user": self._change_user,
            "delete-user": self._delete_user,
            "consent": self._consent,
            "change-app": self._change_app,
            "delete-app": self._delete_app,
            "remove-app-role": self._remove_app_role,
            "change-registration": self._change_registration,
            "add-secret": self._add_secret,
            "expire-secret": self._expire_secret,
            "delete-credential": self._delete_credential,
            "add-certificate": self._add_certificate,
            "add-fault": self._add_fault,
            "delete-fault": self._delete_fault,
            "arm-flaw": self._arm_flaw,
            "disarm-flaws": self._disarm_flaws,
            "change-behaviour": self._change_behaviour,
            "rotate-keys": self._rotate_keys,
            "forget-requests": self._forget_requests,
            "reset": self._reset,
        }

    def answer(self, change: str, request: Request, form: FormData) -> Response:
        """Does a change for a form of our own pages; a form of another site is refused."""
        if not is_own(request):
            raise OperationError(403, "This form was not sent by a page of the sandbox.")
        action = self._changes.get(change)
        if action is None:
            raise OperationError(404, f"There is nothing called {change} to do.")
        back = str(form.get("back", "/sandbox"))
        if not back.startswith("/sandbox"):
            back = "/sandbox"
        try:
            return _back(back if change != "delete-tenant" else "/sandbox", "done", action(form))
        except ValidationError as error:
            first = error.errors()[0]
            return _back(back, "problem", f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except (OperationError, ValueError) as error:
            return _back(back, "problem", str(error))
        except KeyError as error:
            return _back(back, "problem", f"The form has no field {error}.")

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

    def _add_fault(self, form: FormData) -> str:
        names = ("kind", "endpoint", "tenant_id", "client_id", "status", "retry_after", "seconds", "code", "error")
        given = {name: value for name in (*names, "body", "remaining") if (value := optional(form, name)) is not None}
        self._sandbox.faults.add(NewFault.model_validate(given))
        return "The trouble is armed."

    def _delete_fault(self, form: FormData) -> str:
        self._sandbox.faults.faults.delete(str(form["id"]))
        return "The trouble is over."

    def _arm_flaw(self, form: FormData) -> str:
        flaw = Flaw(str(form["flaw"]))
        self._sandbox.faults.arm(flaw, remaining=integer(form, "remaining"), tenant_id=optional(form, "tenant_id"))
        return f"ID tokens will have the flaw {flaw}."

    def _disarm_flaws(self, form: FormData) -> str:
        del form
        self._sandbox.faults.disarm()
        return "ID tokens are right again."

    def _change_behaviour(self, form: FormData) -> str:
        values = {
            "decline": optional(form, "decline"),
            "wrong_account": optional(form, "wrong_account"),
            "missing_service_principal": integer(form, "missing_service_principal"),
            "opaque_access_tokens": boolean(form, "opaque_access_tokens"),
            "access_token_seconds": integer(form, "access_token_seconds"),
            "graph_page_size": integer(form, "graph_page_size"),
        }
        self._sandbox.directory.behaviour = Behaviour.model_validate(values)
        return "The behaviour was changed."

    def _rotate_keys(self, form: FormData) -> str:
        self._sandbox.keys.rotate(keep_previous=boolean(form, "keep_previous"))
        return "Tokens are signed with the next key."

    def _forget_requests(self, form: FormData) -> str:
        del form
        self._sandbox.requests.clear()
        return "The log is empty."

    def _reset(self, form: FormData) -> str:
        del form
        self._sandbox.reset()
        return "Everything is as at the first start."


def _back(path: str, kind: str, message: str) -> Response:
    # Whatever the page showed before is not shown again.
    return RedirectResponse(f"{urlsplit(path).path}?{kind}={quote(message)}", status_code=303)
