"""What apps can do on a tenant, and what would stop: the JSON API of functions and additional settings."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Query, Request
from pydantic import ConfigDict, Field

from consent_gateway.catalog.functions import FunctionOnTenant, functions_of
from consent_gateway.catalog.model import Catalog
from consent_gateway.catalog.needs import stops
from consent_gateway.grants.grants import Tenant
from consent_gateway.web.api_models import TENANT, Shown, problem_responses
from shared.auth import Principal, require
from shared.events import AccountId, Slug, canonical_tenant_id
from shared.problems import Problem, not_found

Caller = Callable[[Request], Awaitable[Principal]]


class Tenants(Protocol):
    """Where tenants are read."""

    async def tenant(self, account_id: str, tenant_id: str) -> Tenant | None:
        """One tenant of the account with its grants."""
        raise NotImplementedError


class SettingShown(Shown):
    """A setting in Entra that a function needs and no consent gives."""

    kind: str = Field(
        description="`directory_role` of the service principal, `licence`, `resource` (an API); an open string."
    )
    name: str
    presence: str = Field(description="`there`, `missing`, or `unknown` where no grant allows to read it.")
    client_ids: list[str] = Field(description="Client ids, one of whose service principals needs the role.")


class FunctionShown(Shown):
    """A function of the app on the tenant."""

    id: str
    title: str
    state: str = Field(description="`works`, `held_back` by a setting, `verifying` or `lacks`; an open string.")
    permission_set_ids: list[str] = Field(description="Where it lacks something: any of these sets would bring it.")
    settings: list[SettingShown]

    @classmethod
    def of(cls, one: FunctionOnTenant) -> "FunctionShown":
        """From the core."""
        return cls(
            id=one.function.id,
            title=one.function.title,
            state=str(one.state),
            permission_set_ids=list(one.sets),
            settings=[
                SettingShown(
                    kind=setting.kind,
                    name=setting.name,
                    presence=str(setting.presence),
                    client_ids=list(setting.client_ids),
                )
                for setting in one.settings
            ],
        )


class FunctionsShown(Shown):
    """The functions of an app on a tenant."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "account_id": "northwind",
                "tenant_id": TENANT,
                "app_id": "zero-trust-secure-access",
                "settings_read_at": "2026-11-23T13:00:00Z",
                "items": [
                    {
                        "id": "reset-password",
                        "title": "Force a password reset",
                        "state": "held_back",
                        "permission_set_ids": [],
                        "settings": [
                            {
                                "kind": "directory_role",
                                "name": "Password Administrator",
                                "presence": "missing",
                                "client_ids": ["5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a03"],
                            }
                        ],
                    }
                ],
                "next_cursor": None,
            }
        }
    )

    account_id: str
    tenant_id: str
    app_id: str
    settings_read_at: datetime | None = Field(description="When roles and licences were last read in Entra.")
    items: list[FunctionShown]
    next_cursor: str | None = None


class StoppedFunction(Shown):
    """A function of an app, by their names."""

    app: str
    function: str


class Impact(Shown):
    """What works on the tenant now and would not any more."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "tenant_id": TENANT,
                "permission_set_ids": ["manage-accounts"],
                "items": [
                    {"app": "Identity Security", "function": "Respond on identities, such as disabling an account"}
                ],
                "next_cursor": None,
            }
        }
    )

    tenant_id: str
    permission_set_ids: list[str] = Field(description="The grants that would be blocked or gone.")
    items: list[StoppedFunction]
    next_cursor: None = None


def router(caller: Caller, *, catalog: Catalog, tenants: Tenants) -> APIRouter:
    """The route; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1", responses=problem_responses())
    who = Annotated[Principal, Depends(caller)]

    @routes.get("/apps/{app_id}/functions", tags=["catalogue"], responses=problem_responses(404, 422))
    async def list_functions(
        principal: who,
        app_id: str,
        tenant_id: Annotated[str, Query(description="GUID of the tenant.")],
        account_id: Annotated[
            AccountId | None, Query(description="The account, where the token names none (apps, staff).")
        ] = None,
    ) -> FunctionsShown:
        """What the app can do on the tenant now, and what it lacks for the rest."""
        account = _account(principal, app_id, account_id)
        canonical = canonical_tenant_id(tenant_id)
        if canonical is None:
            raise Problem(422, "invalid_tenant_id", "The tenant id must be a GUID, as Entra's overview page shows it.")
        tenant = await tenants.tenant(account, canonical)
        if app_id not in catalog.apps or tenant is None:
            raise not_found("app or tenant")
        return FunctionsShown(
            account_id=account,
            tenant_id=canonical,
            app_id=app_id,
            settings_read_at=tenant.facts.read_at,
            items=[FunctionShown.of(one) for one in functions_of(catalog, catalog.apps[app_id], tenant)],
        )

    @routes.get("/tenants/{tenant_id}/impact", tags=["grants"], responses=problem_responses(404, 422))
    async def show_impact(
        principal: who,
        tenant_id: str,
        permission_set_id: Annotated[
            list[Slug] | None, Query(max_length=50, description="Only these grants; otherwise all of the tenant.")
        ] = None,
    ) -> Impact:
        """What stops working when grants are blocked or revoked, or the tenant is disconnected. Changes nothing."""
        require(principal, "viewer")
        tenant = await tenants.tenant(principal.account_id or "", canonical_tenant_id(tenant_id) or "")
        if tenant is None:
            raise not_found("tenant")
        wanted = [one.permission_set_id for one in tenant.grants]
        if permission_set_id is not None:
            wanted = [one for one in wanted if one in permission_set_id]
        return Impact(
            tenant_id=tenant.tenant_id,
            permission_set_ids=wanted,
            items=[StoppedFunction(app=one.app, function=one.function) for one in stops(catalog, tenant, wanted)],
        )

    return routes


def _account(principal: Principal, app_id: str, wanted: str | None) -> str:
    """The account to look at: the token's own; an app, about itself, and staff name any."""
    require(principal, "viewer", "app", "staff")
    by_app = principal.may("app") and not principal.may("viewer") and not principal.may("staff")
    if by_app and principal.app_id != app_id:
        raise not_found("app or tenant")
    if wanted is not None and wanted != principal.account_id:
        if not principal.may("staff") and not (by_app and principal.account_id is None):
            raise not_found("app or tenant")
        return wanted
    if principal.account_id is None:
        raise Problem(422, "account_missing", "The access token names no account: say which one with `account_id`.")
    return principal.account_id
