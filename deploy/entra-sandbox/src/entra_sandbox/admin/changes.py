"""Takes the forms of the sandbox's pages: checks where they come from, does what they ask for, leads back."""

from urllib.parse import quote, urlsplit

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError
from starlette.datastructures import FormData

from entra_sandbox.admin.app_forms import AppForms
from entra_sandbox.admin.forms import Change
from entra_sandbox.admin.operations import Operations
from entra_sandbox.admin.origin import is_own
from entra_sandbox.admin.refusals import OperationError
from entra_sandbox.admin.registration_forms import RegistrationForms
from entra_sandbox.admin.tenant_forms import TenantForms
from entra_sandbox.admin.trouble_forms import TroubleForms
from entra_sandbox.sandbox import Sandbox


class AdminForms:
    """Takes the forms of the pages, and sends the browser back to the page that it came from."""

    def __init__(self, sandbox: Sandbox, operations: Operations) -> None:
        kinds = (TenantForms, AppForms, RegistrationForms, TroubleForms)
        self._changes: dict[str, Change] = {}
        for kind in kinds:
            self._changes |= kind(sandbox, operations).changes

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
        except (OperationError, ValueError, OverflowError) as error:
            return _back(back, "problem", str(error))
        except KeyError as error:
            return _back(back, "problem", f"The form has no field {error}.")


def _back(path: str, kind: str, message: str) -> Response:
    # Whatever the page showed before is not shown again.
    return RedirectResponse(f"{urlsplit(path).path}?{kind}={quote(message)}", status_code=303)
