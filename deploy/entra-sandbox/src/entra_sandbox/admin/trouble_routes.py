"""Behaviour, faults, flaws, keys, the request log and the reset over the admin API."""

from typing import Annotated

from fastapi import APIRouter, Query

from entra_sandbox.admin import inputs
from entra_sandbox.admin.views import Items
from entra_sandbox.faults import Fault, NewFault
from entra_sandbox.flaws import ArmedFlaw
from entra_sandbox.model import Behaviour
from entra_sandbox.request_log import LoggedRequest, RequestQuery
from entra_sandbox.sandbox import Sandbox


def trouble_routes(sandbox: Sandbox) -> APIRouter:
    """Routes of behaviour, faults and token flaws."""
    routes, troubles = APIRouter(), sandbox.faults

    @routes.get("/behaviour")
    async def behaviour() -> Behaviour:
        """How the sandbox answers where Entra has been seen to answer in several ways."""
        return sandbox.directory.behaviour

    @routes.patch("/behaviour")
    async def change_behaviour(change: inputs.BehaviourChange) -> Behaviour:
        """Changes the behaviour."""
        present = sandbox.directory.behaviour
        changed = Behaviour.model_validate({**present.model_dump(), **change.model_dump(exclude_unset=True)})
        sandbox.directory.behaviour = changed
        return changed

    @routes.get("/faults")
    async def faults() -> Items[Fault]:
        """Troubles that wait for requests."""
        return Items(items=troubles.faults.values())

    @routes.post("/faults", status_code=201)
    async def add_fault(wanted: NewFault) -> Fault:
        """Arms a trouble."""
        return troubles.add(wanted)

    @routes.delete("/faults", status_code=204)
    async def delete_faults() -> None:
        """Disarms all troubles."""
        troubles.faults.delete(*[key for key, _ in troubles.faults.items()])

    @routes.delete("/faults/{fault_id}", status_code=204)
    async def delete_fault(fault_id: str) -> None:
        """Disarms a trouble."""
        troubles.faults.delete(fault_id)

    @routes.get("/token-flaws")
    async def flaws() -> Items[ArmedFlaw]:
        """Flaws that wait for ID tokens."""
        return Items(items=troubles.flaws.values())

    @routes.post("/token-flaws", status_code=201)
    async def arm(wanted: inputs.NewFlaw) -> ArmedFlaw:
        """Spoils the next ID tokens."""
        return troubles.arm(
            wanted.flaw, remaining=wanted.remaining, tenant_id=wanted.tenant_id, client_id=wanted.client_id
        )

    @routes.delete("/token-flaws", status_code=204)
    async def disarm() -> None:
        """Makes ID tokens right again."""
        troubles.disarm()

    return routes


def whole_routes(sandbox: Sandbox) -> APIRouter:
    """Routes of signing keys, the request log and the reset."""
    routes = APIRouter()

    @routes.post("/signing-keys/rotate", status_code=204)
    async def rotate(wanted: inputs.Rotation) -> None:
        """Makes the next signing key the current one."""
        sandbox.keys.rotate(keep_previous=wanted.keep_previous)

    @routes.get("/requests")
    async def requests(query: Annotated[RequestQuery, Query()]) -> Items[LoggedRequest]:
        """What was asked of the sandbox since it started or the log was emptied, oldest first."""
        return Items(items=list(sandbox.requests.find(query)))

    @routes.delete("/requests", status_code=204)
    async def forget_requests() -> None:
        """Empties the request log."""
        sandbox.requests.clear()

    @routes.post("/reset", status_code=204)
    async def reset() -> None:
        """Back to the first start: the seed alone. Keys and CA stay."""
        sandbox.reset()

    return routes
