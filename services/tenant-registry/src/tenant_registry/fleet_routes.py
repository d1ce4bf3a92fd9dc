"""The read API over whole fleets: counts, accounts, and lists as streams. For people; apps have their own lists."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from shared import spreadsheets
from shared.auth import Principal, require
from shared.cursors import cursor_of, position_of
from shared.events import Slug
from shared.problems import Problem
from tenant_registry.access import Scope, scope_of
from tenant_registry.exports import history_csv, history_jsonl, tenants_csv
from tenant_registry.fleet import Fleet
from tenant_registry.parameters import Cursor, HistoryExport, TenantFilters
from tenant_registry.queries import HistoryQuery, Queries
from tenant_registry.routes import PROBLEMS, history_wanted, tenants_wanted
from tenant_registry.views import AccountPage, AccountShown, FleetShown, entry_of

Caller = Callable[[Request], Awaitable[Principal]]

_JSON_LINES = "application/jsonl"
_CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}}, "description": "Streamed, with a head line"}
}
_LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {_JSON_LINES: {}}, "description": "Streamed, one object of the history a line"}
}


def router(queries: Queries, fleet: Fleet, caller: Caller) -> APIRouter:
    """The routes; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1", responses=PROBLEMS)
    who = Annotated[Principal, Depends(caller)]

    @routes.get("/fleet", tags=["fleet"])
    async def read_fleet(
        principal: who,
        account_id: Annotated[Slug | None, Query(description="The account, for staff, who read across them.")] = None,
    ) -> FleetShown:
        """How the tenants of the account stand, counted; for staff over all accounts unless one is named."""
        scope = _of_people(scope_of(principal, account_id=account_id))
        return FleetShown.model_validate(asdict(await fleet.counts_of(scope.account_id)))

    @routes.get("/accounts", tags=["fleet"])
    async def list_accounts(
        principal: who,
        limit: Annotated[int, Query(ge=1, le=50, description="Most items on the page.")] = 20,
        cursor: Annotated[Cursor | None, Query(description="`next_cursor` of the page before.")] = None,
    ) -> AccountPage:
        """The accounts that have tenants, by id. For the suite's own staff."""
        require(principal, "staff")
        found = await fleet.accounts(after=position_of(cursor, str), limit=limit + 1)
        items = [AccountShown.model_validate(asdict(one)) for one in found[:limit]]
        return AccountPage(items=items, next_cursor=cursor_of(items[-1].account_id) if len(found) > limit else None)

    @routes.get("/tenants.csv", tags=["fleet"], response_class=StreamingResponse, responses=_CSV)
    async def export_tenants(principal: who, filters: Annotated[TenantFilters, Query()]) -> StreamingResponse:
        """The list of tenants as CSV, one line for each grant. Filters are those of `GET /v1/tenants`."""
        query = tenants_wanted(principal, filters)
        _of_people(query.scope)
        return await _streamed(tenants_csv(queries, query), spreadsheets.MEDIA_TYPE)

    @routes.get("/history.csv", tags=["history"], response_class=StreamingResponse, responses=_CSV)
    async def export_history_csv(principal: who, filters: Annotated[HistoryExport, Query()]) -> StreamingResponse:
        """What happened as CSV, newest first: in the account, or to one tenant."""
        return await _streamed(history_csv(queries, _entries(principal, filters)), spreadsheets.MEDIA_TYPE)

    @routes.get("/history.jsonl", tags=["history"], response_class=StreamingResponse, responses=_LINES)
    async def export_history_jsonl(principal: who, filters: Annotated[HistoryExport, Query()]) -> StreamingResponse:
        """What happened as JSON lines, newest first: each is an item of `GET /v1/history`."""
        query = _entries(principal, filters)
        lines = history_jsonl(queries, query, lambda row: entry_of(row).model_dump(mode="json", exclude_unset=True))
        return await _streamed(lines, _JSON_LINES)

    return routes


def _of_people(scope: Scope) -> Scope:
    if scope.app_id is not None:
        raise Problem(403, "forbidden", "This is for people. An app reads /v1/apps/{app_id}/tenants.")
    return scope


def _entries(principal: Principal, filters: HistoryExport) -> HistoryQuery:
    scope = _of_people(scope_of(principal, account_id=filters.account_id))
    if filters.tenant_id is not None and scope.account_id is None:
        raise Problem(422, "account_needed", "A tenant's history belongs to an account: name it with account_id.")
    query = history_wanted(scope.account_id, filters)
    return replace(query, tenant_id=filters.tenant_id, permission_set_id=filters.permission_set_id)


async def _streamed(parts: AsyncIterator[str], media_type: str) -> StreamingResponse:
    """The answer, once its first part is there: until then, trouble still has a status of its own."""
    first = await anext(parts, "")

    async def everything() -> AsyncIterator[str]:
        yield first
        async for part in parts:
            yield part

    return StreamingResponse(everything(), media_type=media_type, headers={"Cache-Control": "no-store"})
