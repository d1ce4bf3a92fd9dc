"""The console's page of announced versions: what each will ask, why and from when on, and of which tenants."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Request, Response

from consent_gateway.catalog.model import Catalog
from consent_gateway.catalog.planned import Planned, planned, planned_version
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.asked_store import COUNTED_UP_TO, AskedTenant
from consent_gateway.web.guard import SCREEN, Gate, person_of
from consent_gateway.web.pages import Pages
from consent_gateway.web.sessions import Session
from shared.events import canonical_tenant_id

PATH = f"{SCREEN}/planned"
SHOWN = 50


class Asked(Protocol):
    """Reads whom a planned version will ask."""

    async def count(self, account_id: str, plan: Planned) -> int:
        """How many tenants, up to a bound."""
        raise NotImplementedError

    async def tenants(self, account_id: str, plan: Planned, *, after: str | None, limit: int) -> Sequence[AskedTenant]:
        """The next ones by tenant id."""
        raise NotImplementedError


def router(*, gate: Gate, pages: Pages, catalog: Catalog, asked: Asked) -> APIRouter:
    """The list of planned versions, and the tenants of one of them."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type

    @routes.get(PATH)
    async def show(session: SignedIn) -> Response:
        account_id, plans = person_of(session).account_id, list(planned(catalog))
        counts = await asyncio.gather(*(asked.count(account_id, plan) for plan in plans))
        values = {"plans": list(zip(plans, counts, strict=True)), "most": COUNTED_UP_TO, "path": PATH}
        return await pages.render("planned.html", values, session=session)

    @routes.get(f"{PATH}/{{permission_set_id}}/{{version}}")
    async def tenants(permission_set_id: str, version: str, request: Request, session: SignedIn) -> Response:
        number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else -1
        plan = planned_version(catalog, permission_set_id, number)
        if plan is None:
            raise Refused(Kind.NOT_FOUND)
        after = canonical_tenant_id(request.query_params.get("after", ""))
        found = await asked.tenants(person_of(session).account_id, plan, after=after, limit=SHOWN + 1)
        here = f"{PATH}/{permission_set_id}/{number}"
        values = {
            "plan": plan,
            "tenants": found[:SHOWN],
            "first_page": here if after else None,
            "next_page": f"{here}?after={found[SHOWN - 1].tenant_id}" if len(found) > SHOWN else None,
        }
        return await pages.render("planned_tenants.html", values, session=session)

    return routes
