"""Forms about troubles and the whole. Each reads its fields, calls an operation and says what was done."""

from starlette.datastructures import FormData

from entra_sandbox.admin.forms import Change, boolean, integer, optional
from entra_sandbox.admin.operations import Operations
from entra_sandbox.faults import NewFault
from entra_sandbox.flaws import Flaw
from entra_sandbox.model import Behaviour
from entra_sandbox.sandbox import Sandbox


class TroubleForms:
    """Forms about troubles, behaviour, keys, the request log and the reset."""

    def __init__(self, sandbox: Sandbox, operations: Operations) -> None:
        self._sandbox, self._operations = sandbox, operations

    @property
    def changes(self) -> dict[str, Change]:
        """What each form does, by the last part of its action."""
        return {
            "add-fault": self._add_fault,
            "delete-fault": self._delete_fault,
            "arm-flaw": self._arm_flaw,
            "disarm-flaws": self._disarm_flaws,
            "change-behaviour": self._change_behaviour,
            "rotate-keys": self._rotate_keys,
            "forget-requests": self._forget_requests,
            "reset": self._reset,
        }

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
