"""The JSON API of runs that failed, and of Reset."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ConfigDict, Field

from consent_gateway.consent.failures import Failure, Failures
from consent_gateway.web.api_models import TENANT, Shown, problem_responses
from shared.auth import Principal, Role, require
from shared.problems import Problem

Caller = Callable[[Request], Awaitable[Principal]]


class FailureShown(Shown):
    """A run through Entra's consent that failed, and stands for the earlier ones that asked for the same."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "0b9c6f0f3f5c4f0f8a6c1d2e3f405162",
                "reason": "not_administrator",
                "next_step": "use_administrator",
                "permission_set_ids": ["read-directory-data"],
                "tenant_id": TENANT,
                "tenant_name": "Contoso Ltd",
                "error_code": "AADSTS90094",
                "reference": "0b9c6f0f3f5c",
                "created_at": "2026-11-23T12:00:00Z",
            }
        }
    )

    id: str = Field(description="The consent's id.")
    reason: str = Field(description="Why it failed; an open string.")
    next_step: str = Field(description="What helps; an open string.")
    permission_set_ids: list[str] = Field(description="The sets that were not granted.")
    tenant_id: str | None = Field(description="The tenant that was named or proven, if any.")
    tenant_name: str | None = Field(description="Its name, where it is connected to the account and known.")
    error_code: str | None = Field(description="Entra's code, for example AADSTS90094.")
    reference: str = Field(description="What to quote to support.")
    created_at: datetime = Field(description="When the run began.")

    @classmethod
    def of(cls, one: Failure) -> "FailureShown":
        """From the failure."""
        return cls(
            id=one.id,
            reason=str(one.kind),
            next_step=str(one.next_step),
            permission_set_ids=list(one.permission_set_ids),
            tenant_id=one.tenant_id,
            tenant_name=one.tenant_name,
            error_code=one.error_code,
            reference=one.reference,
            created_at=one.at,
        )


class FailurePage(Shown):
    """Failures, newest first: those of the last seven days that nobody has put right or reset."""

    items: list[FailureShown]
    next_cursor: None = None


def router(caller: Caller, failures: Failures, *, clock: Callable[[], datetime]) -> APIRouter:
    """The routes; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1/failures", tags=["consents"], responses=problem_responses())
    who = Annotated[Principal, Depends(caller)]

    @routes.get("")
    async def list_failures(principal: who) -> FailurePage:
        """What failed lately and still waits for somebody."""
        found = await failures.of_account(_account(principal, "viewer"), now=clock())
        return FailurePage(items=[FailureShown.of(one) for one in found])

    @routes.delete("/{failure_id}", status_code=204, responses=problem_responses(404))
    async def reset_failure(principal: who, failure_id: str) -> Response:
        """Reset: show the failure no more, nor earlier ones that asked for the same. The history keeps them."""
        await failures.reset(failure_id, _account(principal, "operator"), now=clock())
        return Response(status_code=204)

    return routes


def _account(principal: Principal, role: Role) -> str:
    require(principal, role)
    if principal.account_id is None:
        raise Problem(403, "forbidden", "The access token names no account.")
    return principal.account_id
