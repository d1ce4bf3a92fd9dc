"""The console's page of one grant: check it now, stop and resume using it, and take it away in Entra."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.catalog.needs import stops
from consent_gateway.checks.schedule import removal_is_watched, removal_watched_until
from consent_gateway.consent.attempts import Person
from consent_gateway.entra.links import enterprise_application
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Grant, Tenant
from consent_gateway.grants.operations import Operations
from consent_gateway.web.guard import SCREEN, Gate, Posted, person_of
from consent_gateway.web.pages import Pages
from consent_gateway.web.sessions import Session
from shared.events import Actor, canonical_tenant_id

PATH = f"{SCREEN}/tenants/{{tenant_id}}/permission-sets/{{permission_set_id}}"


class Grants(Protocol):
    """Where grants are read, and made due for a check."""

    async def tenant(self, account_id: str, tenant_id: str) -> Tenant | None:
        """One tenant of the account with its grants."""

    async def check_now(
        self, account_id: str, tenant_id: str, permission_set_id: str, *, now: datetime, removed: bool = False
    ) -> bool:
        """Make a grant due; False when there is none that could be checked."""
        raise NotImplementedError


def router(
    *,
    gate: Gate,
    pages: Pages,
    catalog: Catalog,
    grants: Grants,
    operations: Operations,
    committed: Callable[[], None],
    clock: Callable[[], datetime],
) -> APIRouter:
    """The page and its forms; ``committed`` wakes the relay."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type
    Form = Annotated[Posted, Depends(gate.posted)]  # noqa: N806 - a type

    @routes.get(PATH)
    async def show(tenant_id: str, permission_set_id: str, session: SignedIn) -> Response:
        person = person_of(session)
        tenant = await grants.tenant(person.account_id, canonical_tenant_id(tenant_id) or "")
        wanted = catalog.sets.get(permission_set_id)
        grant = _of(tenant, permission_set_id)
        if tenant is None or wanted is None or grant is None:
            raise Refused(Kind.NOT_FOUND)
        values = {
            "tenant": tenant,
            "wanted": wanted,
            "grant": grant,
            "stops": stops(catalog, tenant, [wanted.id]),
            "remove_url": enterprise_application(
                tenant.cloud, grant.client_id or wanted.client_id, object_id=grant.service_principal_id
            ),
            "watched": removal_watched_until(grant) if removal_is_watched(grant, clock()) else None,
            "may_consent": person.may_consent,
        }
        return await pages.render("grant.html", values, session=session)

    @routes.post(f"{PATH}/{{action}}")
    async def act(tenant_id: str, permission_set_id: str, action: str, form: Form) -> Response:
        person = _operator(form)
        canonical = canonical_tenant_id(tenant_id) or ""
        if action in {"verify", "removed"}:
            removed = action == "removed"
            if not await grants.check_now(
                person.account_id, canonical, permission_set_id, now=clock(), removed=removed
            ):
                raise Refused(Kind.NOT_FOUND)
        elif action in {"block", "unblock"}:
            await operations.block(
                person.account_id,
                canonical,
                permission_set_id,
                blocked=action == "block",
                actor=Actor(kind="user", id=person.subject),
                now=clock(),
            )
            committed()
        else:
            raise Refused(Kind.NOT_FOUND)
        here = PATH.format(tenant_id=canonical, permission_set_id=permission_set_id)
        back = f"{SCREEN}#row-{canonical}.{permission_set_id}" if form.one("back") == "screen" else here
        return RedirectResponse(back, 303)

    return routes


def _of(tenant: Tenant | None, permission_set_id: str) -> Grant | None:
    grants = tenant.grants if tenant is not None else ()
    return next((one for one in grants if one.permission_set_id == permission_set_id), None)


def _operator(form: Posted) -> Person:
    person = person_of(form.session)
    if not person.may_consent:
        raise Refused(Kind.FORBIDDEN)
    return person
