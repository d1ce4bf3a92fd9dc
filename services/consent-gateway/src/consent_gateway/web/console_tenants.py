"""The console's page of one tenant: check it now, move limited apps to it, disconnect it; and Reset of failed runs."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.catalog.needs import held_on, stops
from consent_gateway.consent.failures import Failures
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Tenant
from consent_gateway.grants.operations import Operations
from consent_gateway.web.guard import SCREEN, Gate, Posted, person_of
from consent_gateway.web.pages import Pages
from consent_gateway.web.sessions import Session
from shared.events import Actor, canonical_tenant_id

PATH = f"{SCREEN}/tenants/{{tenant_id}}"


class Grants(Protocol):
    """Where tenants are read, and their grants made due for a check."""

    async def tenant(self, account_id: str, tenant_id: str) -> Tenant | None:
        """One tenant of the account with its grants."""

    async def check_many(
        self, account_id: str, tenant_ids: Collection[str], set_ids: Collection[str] | None = None, *, now: datetime
    ) -> int:
        """Make the grants on these tenants due; how many could be checked."""
        raise NotImplementedError


def router(
    *,
    gate: Gate,
    pages: Pages,
    catalog: Catalog,
    grants: Grants,
    failures: Failures,
    operations: Operations,
    committed: Callable[[], None],
    clock: Callable[[], datetime],
) -> APIRouter:
    """The page and its forms; ``committed`` wakes the relay."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type
    Form = Annotated[Posted, Depends(gate.posted)]  # noqa: N806 - a type

    async def tenant_of(account_id: str, tenant_id: str) -> Tenant:
        tenant = await grants.tenant(account_id, canonical_tenant_id(tenant_id) or "")
        if tenant is None or tenant.removed_at is not None:
            raise Refused(Kind.NOT_FOUND)
        return tenant

    @routes.get(PATH)
    async def show(tenant_id: str, session: SignedIn) -> Response:
        person = person_of(session)
        tenant = await tenant_of(person.account_id, tenant_id)
        others = {held.tenant_id for grant in tenant.grants for held in grant.held_apps}
        found = [await grants.tenant(person.account_id, other) for other in sorted(others)]
        known = [one for one in found if one is not None]
        values = {
            "tenant": tenant,
            "held": held_on(catalog, (one for grant in tenant.grants for one in grant.held_apps), known),
            "limited": [app for app in catalog.apps.values() if app.tenant_limit and _uses(tenant, app.id)],
            "stops": stops(catalog, tenant),
            "may_consent": person.may_consent,
            "may_administer": person.may_administer,
        }
        return await pages.render("tenant.html", values, session=session)

    @routes.post(f"{PATH}/verify")
    async def verify(tenant_id: str, form: Form) -> Response:
        person = person_of(form.session)
        if not person.may_consent:
            raise Refused(Kind.FORBIDDEN)
        tenant = await tenant_of(person.account_id, tenant_id)
        await grants.check_many(person.account_id, [tenant.tenant_id], now=clock())
        return RedirectResponse(f"{SCREEN}#tenant-{tenant.tenant_id}", 303)

    @routes.post(f"{PATH}/apps/{{app_id}}/move")
    async def move(tenant_id: str, app_id: str, form: Form) -> Response:
        person = person_of(form.session)
        tenant = await tenant_of(person.account_id, tenant_id)
        if not person.may_administer:
            raise Refused(Kind.FORBIDDEN)
        actor = Actor(kind="user", id=person.subject)
        await operations.move_app(person.account_id, app_id, tenant.tenant_id, actor=actor)
        committed()
        return RedirectResponse(f"{SCREEN}#tenant-{tenant.tenant_id}", 303)

    @routes.post(f"{PATH}/disconnect")
    async def disconnect(tenant_id: str, form: Form) -> Response:
        person = person_of(form.session)
        tenant = await tenant_of(person.account_id, tenant_id)
        if not person.may_administer:
            raise Refused(Kind.FORBIDDEN)
        actor = Actor(kind="user", id=person.subject)
        await operations.disconnect(person.account_id, tenant.tenant_id, actor=actor)
        committed()
        return RedirectResponse(SCREEN, 303)

    @routes.post(f"{SCREEN}/attempts/{{attempt_id}}/reset")
    async def reset(attempt_id: str, form: Form) -> Response:
        person = person_of(form.session)
        if not person.may_consent:
            raise Refused(Kind.FORBIDDEN)
        await failures.reset(attempt_id, person.account_id, now=clock())
        return RedirectResponse(SCREEN, 303)

    return routes


def _uses(tenant: Tenant, app_id: str) -> bool:
    return any(app_id in grant.apps for grant in tenant.grants)
