"""The read API: parse, ask, render."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from shared.auth import Principal
from shared.cursors import cursor_of, position_of
from shared.events import Slug, TenantState, canonical_tenant_id
from shared.problems import Problem, not_found
from tenant_registry.access import Scope, require_app, scope_of
from tenant_registry.parameters import (
    HistoryFilters,
    HistoryParameters,
    PageParameters,
    TenantFilters,
    TenantHistoryParameters,
    TenantParameters,
)
from tenant_registry.queries import HistoryPosition, HistoryQuery, Queries, TenantQuery
from tenant_registry.views import TENANT_EXAMPLE, HistoryPage, ProblemDetails, TenantPage, entry_of

Caller = Callable[[Request], Awaitable[Principal]]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDetails, "content": {"application/problem+json": {}}, "description": text}
    for status, text in {
        401: "No valid access token",
        403: "The token's role doesn't allow it",
        404: "Not there, or of another account",
        422: "A parameter doesn't have the documented form",
        503: "The database or the issuer's keys can't be reached",
    }.items()
}


def _tenant_id(tenant_id: Annotated[str, Path(description="GUID of the Entra tenant.")]) -> str:
    canonical = canonical_tenant_id(tenant_id)
    if canonical is None:
        raise Problem(422, "invalid_tenant_id", "The tenant id must be a GUID, for example from Entra's overview page.")
    return canonical


TenantIdPath = Annotated[str, Depends(_tenant_id)]
AccountFilter = Annotated[Slug | None, Query(description="The account, for staff and apps, who read across them.")]


def router(queries: Queries, caller: Caller) -> APIRouter:
    """The routes; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1", responses=PROBLEMS)
    who = Annotated[Principal, Depends(caller)]

    @routes.get("/tenants", tags=["tenants"])
    async def list_tenants(principal: who, parameters: Annotated[TenantParameters, Query()]) -> TenantPage:
        """Tenants, each with its grants. Conditions on set, app and status hold for one and the same grant."""
        query = tenants_wanted(principal, parameters)
        after = position_of(parameters.cursor, str)
        return await _tenant_page(queries, replace(query, after=after), parameters.limit)

    @routes.get(
        "/tenants/{tenant_id}",
        tags=["tenants"],
        response_model=TenantState,
        responses={
            200: {"content": {"application/json": {"example": TENANT_EXAMPLE}}},
            304: {"description": "Not changed since the ETag of `If-None-Match`"},
            409: {"model": ProblemDetails, "description": "Several accounts hold this tenant: name one"},
        },
    )
    async def get_tenant(
        principal: who,
        tenant_id: TenantIdPath,
        account_id: AccountFilter = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        """One tenant with its grants. The `ETag` changes with every change of the answer."""
        tenant = await _one(queries, scope_of(principal, account_id=account_id), tenant_id)
        return _conditional(tenant, if_none_match)

    @routes.get("/tenants/{tenant_id}/history", tags=["history"], response_model_exclude_unset=True)
    async def tenant_history(
        principal: who, tenant_id: TenantIdPath, parameters: Annotated[TenantHistoryParameters, Query()]
    ) -> HistoryPage:
        """What happened to a tenant, newest first; for an app, what concerned that app. Outlives a removal."""
        scope = scope_of(principal, account_id=parameters.account_id)
        account_id = scope.account_id
        if account_id is None or scope.app_id is not None:
            account_id = (await _one(queries, scope, tenant_id)).account_id
        query = replace(
            history_wanted(account_id, parameters),
            tenant_id=tenant_id,
            app_id=scope.app_id,
            permission_set_id=parameters.permission_set_id,
            before=position_of(parameters.cursor, HistoryPosition),
        )
        page = await _history_page(queries, query, parameters.limit)
        if not page.items and query.before is None:
            await _one(queries, scope, tenant_id)
        return page

    @routes.get("/history", tags=["history"], response_model_exclude_unset=True)
    async def history(principal: who, parameters: Annotated[HistoryParameters, Query()]) -> HistoryPage:
        """What happened in an account, newest first, failed attempts included. For people, not for apps."""
        scope = scope_of(principal, account_id=parameters.account_id)
        if scope.app_id is not None:
            raise Problem(403, "forbidden", "An app reads /v1/tenants/{tenant_id}/history of the tenants that name it.")
        before = position_of(parameters.cursor, HistoryPosition)
        query = replace(history_wanted(scope.account_id, parameters), before=before)
        return await _history_page(queries, query, parameters.limit)

    @routes.get("/apps/{app_id}/tenants", tags=["apps"])
    async def app_tenants(
        principal: who,
        app_id: Annotated[Slug, Path(description="Id of an app of the suite.", examples=["search"])],
        parameters: Annotated[PageParameters, Query()],
    ) -> TenantPage:
        """The tenants that an app may read now: some grant that names it is usable."""
        scope = scope_of(principal, account_id=parameters.account_id)
        require_app(scope, app_id)
        after = position_of(parameters.cursor, str)
        query = TenantQuery(scope=scope, app_id=app_id, usable=True, after=after)
        return await _tenant_page(queries, query, parameters.limit)

    return routes


def tenants_wanted(principal: Principal, filters: TenantFilters) -> TenantQuery:
    """The query of these filters, within what the caller may read.

    Raises:
        Problem: 403 without a role that reads, or for another app; 404 for another account.
    """
    scope = scope_of(principal, account_id=filters.account_id)
    if filters.app_id is not None:
        require_app(scope, filters.app_id)
    return TenantQuery(
        scope=scope,
        app_id=filters.app_id,
        permission_set_id=filters.permission_set_id,
        status=filters.status,
        version=filters.version,
        not_consented=filters.not_consented,
        text=filters.q,
    )


def history_wanted(account_id: str | None, filters: HistoryFilters) -> HistoryQuery:
    """The query of these filters in an account."""
    return HistoryQuery(account_id=account_id, type=filters.type, since=filters.since, until=filters.until)


async def _tenant_page(queries: Queries, query: TenantQuery, limit: int) -> TenantPage:
    found = await queries.find_tenants(query, limit=limit + 1)
    items = found[:limit]
    return TenantPage(items=items, next_cursor=cursor_of(items[-1].key()) if len(found) > limit else None)


async def _history_page(queries: Queries, query: HistoryQuery, limit: int) -> HistoryPage:
    found = await queries.find_history(query, limit=limit + 1)
    rows = found[:limit]
    items = [entry_of(row) for row in rows]
    return HistoryPage(items=items, next_cursor=cursor_of(HistoryPosition.of(rows[-1])) if len(found) > limit else None)


async def _one(queries: Queries, scope: Scope, tenant_id: str) -> TenantState:
    found = await queries.tenants_with_id(scope, tenant_id)
    if not found:
        raise not_found("tenant")
    if len(found) > 1:
        accounts = [tenant.account_id for tenant in found]
        detail = "Several accounts hold this tenant. Name one with account_id."
        raise Problem(409, "several_accounts", detail, account_ids=accounts)
    return found[0]


def _conditional(tenant: TenantState, if_none_match: str | None) -> Response:
    body = tenant.model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    # A validator, never a cache's own decision: what may be read can change from one moment to the next.
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Authorization"}
    if if_none_match is not None and _matches(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _matches(etag: str, if_none_match: str) -> bool:
    """Weak comparison (RFC 9110, section 13.1.2)."""
    candidates = {candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")}
    return bool(candidates & {etag, "*"})
