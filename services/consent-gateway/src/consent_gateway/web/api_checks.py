"""The JSON API of checks of many tenants at once."""

from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from consent_gateway.web.api_models import TENANT, Shown, problem_responses
from consent_gateway.web.many import MOST_CHECKED
from shared.auth import Principal, require
from shared.events import Slug, canonical_tenant_id
from shared.problems import Problem

Caller = Callable[[Request], Awaitable[Principal]]


class Grants(Protocol):
    """Makes grants due for a check."""

    async def check_many(
        self, account_id: str, tenant_ids: Collection[str], set_ids: Collection[str] | None = None, *, now: datetime
    ) -> int:
        """How many could be checked."""
        raise NotImplementedError


class ChecksWanted(BaseModel):
    """Tenants whose grants are to be checked."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"tenant_ids": [TENANT]}})

    tenant_ids: list[str] = Field(min_length=1, max_length=MOST_CHECKED, description="GUIDs of the account's tenants.")
    permission_set_ids: list[Slug] | None = Field(
        None, min_length=1, max_length=50, description="Only the grants of these sets; otherwise all."
    )


class ChecksAccepted(Shown):
    """The grants are due now. They are checked as fast as Entra is asked at all; their health says when."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "accepted", "grants": 3}})

    status: str = "accepted"
    grants: int = Field(
        description="How many there are to check. Tenants of other accounts, and unknown ones, have none."
    )


def router(caller: Caller, *, grants: Grants, clock: Callable[[], datetime]) -> APIRouter:
    """The route; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1", tags=["grants"], responses=problem_responses())
    who = Annotated[Principal, Depends(caller)]

    @routes.post("/checks", status_code=202, responses=problem_responses(422))
    async def check_tenants(principal: who, wanted: ChecksWanted) -> ChecksAccepted:
        """Check many tenants in Entra now."""
        require(principal, "operator")
        if principal.account_id is None:
            raise Problem(403, "forbidden", "The access token names no account.")
        ids = [canonical_tenant_id(one) for one in wanted.tenant_ids]
        known = [one for one in ids if one is not None]
        if len(known) < len(ids):
            raise Problem(422, "invalid_tenant_id", "Each tenant id must be a GUID.")
        count = await grants.check_many(principal.account_id, known, wanted.permission_set_ids, now=clock())
        return ChecksAccepted(grants=count)

    return routes
