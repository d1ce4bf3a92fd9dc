"""The console's fleet view: how all tenants stand, who has not consented to what, and the list as a file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated

import httpx
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.web.fleet import STATUSES, Asked, Filters, cursor_in, fleet_view
from consent_gateway.web.fleet_reader import AccountPage, Counts, FleetReader, TenantPage
from consent_gateway.web.guard import SCREEN, Gate, person_of
from consent_gateway.web.many import MOST_CHECKED
from consent_gateway.web.pages import Pages
from consent_gateway.web.registry import RegistryAway
from consent_gateway.web.sessions import Session

PATH = f"{SCREEN}/fleet"
# Spreadsheets take a CSV for UTF-8 by this alone.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def router(*, gate: Gate, pages: Pages, catalog: Catalog, reader: FleetReader) -> APIRouter:
    """The routes of the page."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type

    @routes.get(PATH)
    async def fleet(request: Request, session: SignedIn) -> Response:
        staff = is_staff(session)
        filters = Filters.of(request.query_params, catalog, staff=staff)
        cursor = cursor_in(request.query_params)
        try:
            counts, found = await _asked(reader, session, filters, cursor)
            available = True
        except RegistryAway:
            counts, found, available = None, TenantPage(items=()), False
        values = {
            "view": fleet_view(catalog, filters, counts=counts, tenants=found.items, path=PATH),
            "counts": counts,
            "available": available,
            "staff": staff,
            "catalog": catalog,
            "statuses": STATUSES,
            # What is done here is done for one's own account alone.
            "may_consent": person_of(session).may_consent
            and filters.account_id in {None, person_of(session).account_id},
            "own": person_of(session).account_id,
            "asked": Asked.of(request.query_params),
            "most": MOST_CHECKED,
            "first_page": filters.address(PATH) if cursor else None,
            "next_page": filters.address(PATH, cursor=found.next_cursor) if found.next_cursor else None,
            "export": filters.address(f"{PATH}.csv"),
        }
        return await pages.render("fleet.html", values, session=session)

    @routes.get(f"{PATH}/accounts")
    async def accounts(request: Request, session: SignedIn) -> Response:
        found: AccountPage | None = None
        cursor = cursor_in(request.query_params)
        if is_staff(session):
            try:
                found = await reader.accounts(access_token=session.identity.access_token, cursor=cursor)
            except RegistryAway:
                found = None
        values = {
            "staff": is_staff(session),
            "found": found,
            "first_page": f"{PATH}/accounts" if cursor else None,
            "next_page": f"{PATH}/accounts?cursor={found.next_cursor}" if found and found.next_cursor else None,
        }
        return await pages.render("accounts.html", values, status=200 if is_staff(session) else 403, session=session)

    @routes.get(f"{PATH}.csv")
    async def export(request: Request, session: SignedIn) -> Response:
        filters = Filters.of(request.query_params, catalog, staff=is_staff(session))
        return await exported(pages, reader, session, "/v1/tenants.csv", filters.asked, name="tenants.csv")

    return routes


def is_staff(session: Session) -> bool:
    """Whether the person is of the suite's own staff, who read across accounts."""
    return session.identity.principal.may("staff")


async def exported(
    pages: Pages, reader: FleetReader, session: Session, path: str, params: dict[str, str], *, name: str
) -> Response:
    """An export of the registry as a file; a page that says so where the registry is away."""
    stack = AsyncExitStack()
    opened = reader.export(path, params, access_token=session.identity.access_token)
    try:
        found = await stack.enter_async_context(opened)
    except RegistryAway:
        return await pages.problem("registry_unavailable", status=503, session=session)

    async def parts() -> AsyncIterator[bytes]:
        async with stack:
            if name.endswith(".csv"):
                yield BYTE_ORDER_MARK
            try:
                async for part in found.parts:
                    yield part
            except httpx.HTTPError as error:
                # The file ends in the middle: a broken connection says so, a good end would not.
                raise ConnectionError("the registry's export broke off") from error

    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(parts(), media_type=found.media_type, headers=headers)


async def _asked(
    reader: FleetReader, session: Session, filters: Filters, cursor: str | None
) -> tuple[Counts, TenantPage]:
    token = session.identity.access_token
    return await asyncio.gather(
        reader.counts(access_token=token, account_id=filters.account_id),
        reader.tenants(filters.asked, access_token=token, cursor=cursor),
    )
