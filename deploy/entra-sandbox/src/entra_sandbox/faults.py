"""Troubles on demand: throttling, outages, hanging, cut connections, AADSTS errors; by endpoint, tenant and client."""

import uuid
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator

from entra_sandbox.flaws import ArmedFlaw, Flaw
from entra_sandbox.model import Frozen, Guid
from entra_sandbox.store import Collection, Store

Endpoint = Literal["discovery", "keys", "authorize", "adminconsent", "token", "graph"]


class NewFault(Frozen):
    """A trouble to make. What is left out matches everything; without `remaining` it lasts until it is deleted."""

    kind: Literal["throttle", "unavailable", "hang", "reset", "error"] = Field(
        description="throttle: 429; unavailable: 503 or another status; hang: no answer for `seconds`, then the usual "
        "one; reset: the connection is cut; error: the AADSTS error `code`."
    )
    endpoint: Endpoint | None = None
    tenant_id: Guid | None = None
    client_id: Guid | None = None
    status: int | None = Field(None, ge=400, le=599, description="Instead of the usual status of the kind.")
    retry_after: int | None = Field(None, ge=0, description="Seconds in the Retry-After header.")
    seconds: float = Field(30, ge=0, le=86400, description="How long `hang` takes.")
    code: int | None = Field(None, description="AADSTS code of `error`.")
    error: str | None = Field(None, description="OAuth 2.0 error of `error`, where it is not the code's usual one.")
    body: Literal["json", "empty", "html"] = Field(
        "json", description="Form of the answer of throttle and unavailable."
    )
    remaining: int | None = Field(None, ge=1, description="How many requests it is for.")

    @model_validator(mode="after")
    def _error_has_code(self) -> Self:
        if self.kind == "error" and self.code is None:
            raise ValueError("a fault of kind error needs a code")
        return self


class Fault(NewFault):
    """A trouble that waits for requests."""

    id: str = Field(default_factory=lambda: str(uuid.uuid4()))


class Faults:
    """The troubles that are armed. They outlive a restart, and so do their counts."""

    def __init__(self, store: Store) -> None:
        self.faults = Collection(store, "fault", Fault)
        self.flaws = Collection(store, "flaw", ArmedFlaw)

    def reload(self) -> None:
        """Takes everything from the store again, as at a start."""
        self.faults.reload()
        self.flaws.reload()

    def add(self, wanted: NewFault) -> Fault:
        """Arms a trouble."""
        fault = Fault.model_validate(wanted.model_dump())
        return self.faults.put(fault.id, fault)

    def arm(
        self, flaw: Flaw, *, remaining: int | None = 1, tenant_id: str | None = None, client_id: str | None = None
    ) -> ArmedFlaw:
        """Spoils the next ID tokens."""
        armed = ArmedFlaw(
            id=str(uuid.uuid4()), flaw=flaw, remaining=remaining, tenant_id=tenant_id, client_id=client_id
        )
        return self.flaws.put(armed.id, armed)

    def disarm(self) -> None:
        """Makes ID tokens right again."""
        self.flaws.delete(*[key for key, _ in self.flaws.items()])

    def take(
        self, endpoint: Endpoint, *, tenant_id: str | None, client_id: str | None, kinds: frozenset[str]
    ) -> Fault | None:
        """The first trouble of these kinds that fits a request; counts it."""
        for fault in self._fitting(tenant_id, client_id):
            if fault.kind in kinds and fault.endpoint in {None, endpoint}:
                if fault.remaining is not None:
                    self._count(fault)
                return fault
        return None

    def take_flaw(self, *, tenant_id: str, client_id: str) -> Flaw | None:
        """The flaw of the ID token that is about to be made, if any; counts it."""
        for armed in self.flaws.values():
            if armed.tenant_id in {None, tenant_id} and armed.client_id in {None, client_id}:
                if armed.remaining == 1:
                    self.flaws.delete(armed.id)
                elif armed.remaining is not None:
                    self.flaws.put(armed.id, armed.model_copy(update={"remaining": armed.remaining - 1}))
                return armed.flaw
        return None

    def _fitting(self, tenant_id: str | None, client_id: str | None) -> Iterator[Fault]:
        for fault in self.faults.values():
            if fault.tenant_id in {None, tenant_id} and fault.client_id in {None, client_id}:
                yield fault

    def _count(self, fault: Fault) -> None:
        if fault.remaining == 1:
            self.faults.delete(fault.id)
        elif fault.remaining is not None:
            self.faults.put(fault.id, fault.model_copy(update={"remaining": fault.remaining - 1}))
