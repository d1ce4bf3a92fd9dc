"""The JSON API: catalogue, consents, and what operators do to grants. Parse, check the role, call, render."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Requester
from consent_gateway.consent.consent import Consent
from consent_gateway.entra.links import enterprise_application
from consent_gateway.errors import Refused
from consent_gateway.grants.grants import Grant
from consent_gateway.grants.operations import Operations
from consent_gateway.web.api_catalog import AppPage, AppShown, PermissionSetPage, PermissionSetShown, apps_of, sets_of
from consent_gateway.web.api_models import (
    Accepted,
    AppTenant,
    CheckShown,
    ConsentShown,
    ConsentWanted,
    problem_responses,
)
from shared.auth import Principal, require
from shared.events import Actor, canonical_tenant_id
from shared.problems import Problem, not_found, response

Caller = Callable[[Request], Awaitable[Principal]]


class Checks(Protocol):
    """Where a check is asked for."""

    async def check_now(
        self, account_id: str, tenant_id: str, permission_set_id: str, *, now: datetime, removed: bool = False
    ) -> bool:
        """Make a grant due for a check; False when there is none that could be checked."""
        raise NotImplementedError

    async def grants_on(self, account_id: str, tenant_id: str) -> list[Grant]:
        """The account's grants on a tenant."""
        raise NotImplementedError


async def on_refused(_: Request, error: Exception) -> JSONResponse:
    """A refusal of a use case, as a problem; pages have their own answer to it."""
    if not isinstance(error, Refused):
        raise error
    detail = error.detail or "The request was refused; its code says why."
    headers = {"Retry-After": "5"} if error.status == 503 else None
    return response(Problem(error.status, str(error.kind), detail, headers=headers))


def _tenant_id(tenant_id: Annotated[str, Path(description="GUID of the Entra tenant.")]) -> str:
    canonical = canonical_tenant_id(tenant_id)
    if canonical is None:
        raise Problem(422, "invalid_tenant_id", "The tenant id must be a GUID, for example from Entra's overview page.")
    return canonical


TenantIdPath = Annotated[str, Depends(_tenant_id)]


def router(
    caller: Caller,
    *,
    catalog: Catalog,
    consent: Consent,
    operations: Operations,
    grants: Checks,
    committed: Callable[[], None],
    clock: Callable[[], datetime],
    cloud: str = "global",
) -> APIRouter:
    """The routes; ``caller`` names who asks, ``committed`` wakes the relay."""
    routes = APIRouter(prefix="/v1", responses=problem_responses())
    _add_catalogue(routes, caller, catalog)
    _add_consents(routes, caller, consent)
    _add_operations(routes, caller, operations, grants, committed=committed, clock=clock, cloud=cloud)
    return routes


def _add_catalogue(routes: APIRouter, caller: Caller, catalog: Catalog) -> None:
    known = [Depends(caller)]

    @routes.get("/permission-sets", tags=["catalogue"], dependencies=known)
    async def list_permission_sets() -> PermissionSetPage:
        """The permission sets: what each asks for, why, and for which apps."""
        return sets_of(catalog)

    @routes.get(
        "/permission-sets/{permission_set_id}", tags=["catalogue"], dependencies=known, responses=problem_responses(404)
    )
    async def get_permission_set(permission_set_id: str) -> PermissionSetShown:
        """One permission set."""
        if permission_set_id not in catalog.sets:
            raise not_found("permission set")
        return PermissionSetShown.of(catalog.sets[permission_set_id])

    @routes.get("/apps", tags=["catalogue"], dependencies=known)
    async def list_apps() -> AppPage:
        """The suite's apps, and what each of their functions needs."""
        return apps_of(catalog)

    @routes.get("/apps/{app_id}", tags=["catalogue"], dependencies=known, responses=problem_responses(404))
    async def get_app(app_id: str) -> AppShown:
        """One app."""
        if app_id not in catalog.apps:
            raise not_found("app")
        return AppShown.of(catalog.apps[app_id])


def _add_consents(routes: APIRouter, caller: Caller, consent: Consent) -> None:
    who = Annotated[Principal, Depends(caller)]

    @routes.post("/consents", tags=["consents"], status_code=201, responses=problem_responses(422))
    async def create_consent(principal: who, wanted: ConsentWanted, answer: Response) -> ConsentShown:
        """Ask for a consent: an app's own "connect" button. Send a browser to `consent_url`, then read how it went.

        The person signs in to the console of the token's account there, and to Entra as an administrator.
        """
        view, _ = await consent.create_link(
            _requester(principal),
            permission_set_ids=wanted.permission_set_ids,
            tenant_id=_tenant_id(wanted.tenant_id) if wanted.tenant_id else None,
            return_url=wanted.return_url,
        )
        answer.headers["Location"] = f"/v1/consents/{view.id}"
        answer.headers["Cache-Control"] = "no-store"
        return ConsentShown.of(view)

    @routes.get("/consents/{consent_id}", tags=["consents"], responses=problem_responses(404))
    async def get_consent(principal: who, consent_id: str) -> ConsentShown:
        """How a consent stands. What counts is this, never the parameters of a redirect."""
        require(principal, "viewer", "app", "staff")
        reads_all = principal.may("staff")
        view = await consent.consent_of(
            consent_id,
            account_id=None if reads_all or _is_app(principal) else principal.account_id,
            app_id=principal.app_id if _is_app(principal) else None,
        )
        return ConsentShown.of(view, audit=not _is_app(principal))


def _add_operations(
    routes: APIRouter,
    caller: Caller,
    operations: Operations,
    grants: Checks,
    *,
    committed: Callable[[], None],
    clock: Callable[[], datetime],
    cloud: str,
) -> None:
    who = Annotated[Principal, Depends(caller)]
    one_set = "/tenants/{tenant_id}/permission-sets/{permission_set_id}"

    @routes.post(f"{one_set}/verify", tags=["grants"], status_code=202, responses=problem_responses(404))
    async def verify(principal: who, tenant_id: TenantIdPath, permission_set_id: str) -> Accepted:
        """Check the grant in Entra now."""
        account_id = _account(principal, "operator")
        if not await grants.check_now(account_id, tenant_id, permission_set_id, now=clock()):
            raise not_found("grant to check")
        return Accepted()

    @routes.post(f"{one_set}/removed", tags=["grants"], status_code=202, responses=problem_responses(404))
    async def removed(principal: who, tenant_id: TenantIdPath, permission_set_id: str) -> Accepted:
        """Say that the grant was taken away in Entra: it is checked every few seconds until that is certain.

        That goes on for ten minutes at most; `GET .../check` tells how far it is.
        """
        account_id = _account(principal, "operator")
        if not await grants.check_now(account_id, tenant_id, permission_set_id, now=clock(), removed=True):
            raise not_found("grant to check")
        return Accepted()

    @routes.get(f"{one_set}/check", tags=["grants"], responses=problem_responses(404))
    async def get_check(principal: who, tenant_id: TenantIdPath, permission_set_id: str) -> CheckShown:
        """When the grant was and will be checked in Entra, and what the last check said."""
        account_id = _account(principal, "viewer")
        for grant in await grants.grants_on(account_id, tenant_id):
            if grant.permission_set_id == permission_set_id:
                return CheckShown.of(grant, now=clock())
        raise not_found("grant")

    @routes.post(f"{one_set}/block", tags=["grants"], status_code=202, responses=problem_responses(404, 409))
    async def block(principal: who, tenant_id: TenantIdPath, permission_set_id: str) -> Accepted:
        """Stop using the grant. Nothing changes in Entra."""
        return await _block(principal, tenant_id, permission_set_id, blocked=True)

    @routes.post(f"{one_set}/unblock", tags=["grants"], status_code=202, responses=problem_responses(404, 409))
    async def unblock(principal: who, tenant_id: TenantIdPath, permission_set_id: str) -> Accepted:
        """Use the grant again."""
        return await _block(principal, tenant_id, permission_set_id, blocked=False)

    async def _block(principal: Principal, tenant_id: str, permission_set_id: str, *, blocked: bool) -> Accepted:
        account_id = _account(principal, "operator")
        grant = await operations.block(
            account_id, tenant_id, permission_set_id, blocked=blocked, actor=_actor(principal), now=clock()
        )
        committed()
        url = None
        if grant.client_id is not None:
            url = enterprise_application(cloud, grant.client_id, object_id=grant.service_principal_id)
        return Accepted(entra_url=url)

    @routes.delete("/tenants/{tenant_id}", tags=["grants"], status_code=202, responses=problem_responses(404))
    async def disconnect(principal: who, tenant_id: TenantIdPath) -> Accepted:
        """Disconnect the tenant: all of its grants end; apps that may use one tenant only are free for another."""
        await operations.disconnect(_account(principal, "admin"), tenant_id, actor=_actor(principal))
        committed()
        return Accepted()

    @routes.put("/apps/{app_id}/tenant", tags=["grants"], status_code=202, responses=problem_responses(404, 409, 422))
    async def move_app(principal: who, app_id: str, wanted: AppTenant) -> Accepted:
        """Move an app that may use one tenant only."""
        account_id = _account(principal, "admin")
        await operations.move_app(account_id, app_id, _tenant_id(wanted.tenant_id), actor=_actor(principal))
        committed()
        return Accepted()


def _is_app(principal: Principal) -> bool:
    return principal.may("app") and principal.app_id is not None


def _account(principal: Principal, role: Literal["viewer", "operator", "admin"]) -> str:
    """The caller's account, if the role (or one above it) is theirs."""
    require(principal, role)
    if principal.account_id is None:
        raise Problem(403, "forbidden", "The access token names no account.")
    return principal.account_id


def _requester(principal: Principal) -> Requester:
    require(principal, "operator", "app")
    if principal.account_id is None:
        raise Problem(403, "forbidden", "Consents need an access token that names the account.")
    by_app = _is_app(principal) and not principal.may("operator")
    return Requester(
        account_id=principal.account_id,
        account_name=principal.account_name,
        subject=principal.subject,
        app_id=principal.app_id if by_app else None,
    )


def _actor(principal: Principal) -> Actor:
    return Actor(kind="user", id=principal.subject)
