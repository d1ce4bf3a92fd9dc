"""The JSON API of announced versions: what each will ask, and of which tenants."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ConfigDict, Field

from consent_gateway.catalog.model import Catalog
from consent_gateway.catalog.planned import planned, planned_version
from consent_gateway.web.api_catalog import GRAPH, PermissionShown
from consent_gateway.web.api_models import TENANT, Shown, problem_responses
from consent_gateway.web.console_planned import Asked
from shared.auth import Principal, require
from shared.cursors import MAX_CURSOR_LENGTH, cursor_of, position_of
from shared.events import AccountId, Permission
from shared.problems import Problem, not_found

Caller = Callable[[Request], Awaitable[Principal]]
AccountFilter = Annotated[AccountId | None, Query(description="The account, for staff, who read across them.")]

_PERMISSION = {"resource_app_id": GRAPH, "value": "Place.Read.All", "type": "application"}
_CHANGE: dict[str, Any] = {
    "permission_set_id": "read-directory-data",
    "title": "Read directory data",
    "version": 2,
    "effective_from": "2027-02-01T00:00:00Z",
    "reason": "Rooms are shown beside the people who use them.",
    "adds": [{**_PERMISSION, "resource": "Microsoft Graph", "reason": "Read the names of rooms."}],
    "removes": [],
    "tenants": 12,
}
_ASKED: dict[str, Any] = {
    "tenant_id": TENANT,
    "tenant_name": "Contoso Ltd",
    "primary_domain": "contoso.com",
    "lacks": [_PERMISSION],
}


class PlannedChangeShown(Shown):
    """An announced version. Until its date nothing changes; from then on the tenants are asked to update."""

    model_config = ConfigDict(json_schema_extra={"example": _CHANGE})

    permission_set_id: str
    title: str
    version: int
    effective_from: datetime
    reason: str
    adds: list[PermissionShown]
    removes: list[Permission]
    tenants: int = Field(description="How many tenants will be asked; 1001 stands for more than 1000.")


class PlannedChanges(Shown):
    """All announced versions, the next one first."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_CHANGE], "next_cursor": None}})

    items: list[PlannedChangeShown]
    next_cursor: str | None = None


class AskedTenantShown(Shown):
    """A tenant that will be asked."""

    model_config = ConfigDict(json_schema_extra={"example": _ASKED})

    tenant_id: str
    tenant_name: str | None
    primary_domain: str | None
    lacks: list[Permission] = Field(description="What the version needs and the tenant has not accepted.")


class AskedTenantPage(Shown):
    """Some tenants by id, and where the next ones begin."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_ASKED], "next_cursor": None}})

    items: list[AskedTenantShown]
    next_cursor: str | None


def router(caller: Caller, *, catalog: Catalog, asked: Asked) -> APIRouter:
    """The routes; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1/planned-changes", tags=["catalogue"], responses=problem_responses())
    who = Annotated[Principal, Depends(caller)]

    @routes.get("", responses=problem_responses(404, 422))
    async def list_planned_changes(principal: who, account_id: AccountFilter = None) -> PlannedChanges:
        """What announced versions will ask, and of how many tenants of the account."""
        account, plans = _account(principal, account_id), list(planned(catalog))
        counts = await asyncio.gather(*(asked.count(account, plan) for plan in plans))
        return PlannedChanges(
            items=[
                PlannedChangeShown(
                    permission_set_id=plan.permission_set.id,
                    title=plan.permission_set.title,
                    version=plan.version,
                    effective_from=plan.effective_from,
                    reason=plan.reason,
                    adds=[PermissionShown.of(one) for one in plan.adds],
                    removes=list(plan.removes),
                    tenants=count,
                )
                for plan, count in zip(plans, counts, strict=True)
            ]
        )

    @routes.get("/{permission_set_id}/{version}/tenants", responses=problem_responses(404, 422))
    async def list_asked_tenants(
        principal: who,
        permission_set_id: str,
        version: int,
        *,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=MAX_CURSOR_LENGTH, description="`next_cursor`.")] = None,
        account_id: AccountFilter = None,
    ) -> AskedTenantPage:
        """The tenants of the account that an announced version will ask."""
        account = _account(principal, account_id)
        plan = planned_version(catalog, permission_set_id, version)
        if plan is None:
            raise not_found("planned version")
        found = await asked.tenants(account, plan, after=position_of(cursor, str), limit=limit + 1)
        items = [
            AskedTenantShown(
                tenant_id=one.tenant_id,
                tenant_name=one.tenant_name,
                primary_domain=one.primary_domain,
                lacks=list(one.lacks),
            )
            for one in found[:limit]
        ]
        return AskedTenantPage(items=items, next_cursor=cursor_of(items[-1].tenant_id) if len(found) > limit else None)

    return routes


def _account(principal: Principal, wanted: str | None) -> str:
    """The token's account; staff name any."""
    require(principal, "viewer", "staff")
    if wanted is not None and wanted != principal.account_id:
        if not principal.may("staff"):
            raise not_found("account")
        return wanted
    if principal.account_id is None:
        raise Problem(422, "account_missing", "The access token names no account: say which one with `account_id`.")
    return principal.account_id
