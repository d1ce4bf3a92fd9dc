"""What the functions of an app need, where they work, and the one grant that closes what is missing. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from consent_gateway.catalog.functions import Presence, State, brought_by, function_on, satisfied, sets_for
from consent_gateway.catalog.model import App, Catalog, Function, PermissionSet
from consent_gateway.grants.grants import Tenant
from consent_gateway.web.texts import alternatives, listed, plain
from shared.events import HeldApp

_ACTIONS = {None: "grant", "update_available": "update", "partial": "again", "revoked": "again"}
# An app's notice offers a grant on this many tenants at most; the sections below it hold the rest.
TENANTS_OFFERED = 3


@dataclass(frozen=True, kw_only=True)
class Action:
    """The one next step: a form that starts a consent for a set, on a tenant or on any."""

    label: str
    permission_set_id: str
    tenant_id: str | None
    tenant_name: str | None
    target: str


@dataclass(frozen=True, kw_only=True)
class Affected:
    """A function of an app that does not work on a tenant, by their names."""

    app: str
    function: str


@dataclass(frozen=True, kw_only=True)
class FunctionState:
    """A function of an app: where it works or soon will, or what it lacks and the grants that would close it.

    ``held_back`` names the settings in Entra without which it doesn't work although all is granted.
    """

    title: str
    works_on: str | None = None
    held_back: str | None = None
    verifying_on: str | None = None
    lacks: str | None = None
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FromApp:
    """What the app that sent the person here can do now, and what it lacks."""

    app: App
    headline: str
    functions: tuple[FunctionState, ...]
    limited_to: str | None
    return_url: str | None


@dataclass(frozen=True, kw_only=True)
class Held:
    """A limited app that could use a tenant, and the name of the one that it uses instead."""

    app: App
    tenant_name: str


def held_on(catalog: Catalog, held: Iterable[HeldApp], tenants: Iterable[Tenant]) -> tuple[Held, ...]:
    """The limited apps of a tenant's grants that use another one; ``tenants`` are where its name is looked up."""
    names = {tenant.tenant_id: tenant_name(tenant) for tenant in tenants}
    uses = {one.app_id: one.tenant_id for one in held}
    return tuple(
        Held(app=catalog.apps[app_id], tenant_name=names.get(tenant_id, tenant_id))
        for app_id, tenant_id in uses.items()
        if app_id in catalog.apps
    )


def tenant_name(tenant: Tenant) -> str:
    """What to call a tenant: its name, else its domain, else its id."""
    return tenant.tenant_name or tenant.primary_domain or tenant.tenant_id


def action(wanted: PermissionSet, tenant: Tenant | None, status: str | None) -> Action | None:
    """The next step for a set in this status on a tenant; without a tenant, on whichever the administrator has."""
    name = _ACTIONS.get(status)
    if name is None:
        return None
    where = tenant_name(tenant) if tenant else None
    return Action(
        label=f"action.{name}",
        permission_set_id=wanted.id,
        tenant_id=tenant.tenant_id if tenant else None,
        tenant_name=where,
        target=plain("action.target", set=wanted.title, tenant=where) if where else wanted.title,
    )


def affected(catalog: Catalog, lost: PermissionSet, tenant: Tenant) -> tuple[Affected, ...]:
    """The functions that rely on this set and have nothing else to rely on, on this tenant."""
    return tuple(
        Affected(app=app.name, function=function.title)
        for app in (catalog.apps[each] for each in lost.apps if each in catalog.apps)
        for function in app.functions
        if any(brought_by(lost, need) for need in function.any_of)
        and not any(satisfied(need, app, tenant) for need in function.any_of)
    )


def stops(catalog: Catalog, tenant: Tenant, set_ids: Collection[str] | None = None) -> tuple[Affected, ...]:
    """What works on the tenant now and would not without its grants of these sets, or without any of them."""
    gone = {one.permission_set_id for one in tenant.grants} if set_ids is None else set(set_ids)
    grants = tuple(replace(one, blocked=one.blocked or one.permission_set_id in gone) for one in tenant.grants)
    without = replace(tenant, grants=grants)
    lost = [catalog.sets[one] for one in gone if one in catalog.sets]
    before = {each for one in lost for each in affected(catalog, one, tenant)}
    after = sorted((each for one in lost for each in affected(catalog, one, without)), key=_by_name)
    return tuple(dict.fromkeys(each for each in after if each not in before))


def _by_name(one: Affected) -> tuple[str, str]:
    return one.app, one.function


def from_app(catalog: Catalog, app: App, tenants: Sequence[Tenant]) -> FromApp:
    """What to say to somebody who comes from this app."""
    using = [tenant for tenant in tenants if any(app.id in grant.apps for grant in tenant.grants)]
    # An app with a limit is offered more on the tenant that it uses already, and on no other.
    where = using if app.tenant_limit is not None and using else tenants
    functions = tuple(_function_state(catalog, app, function, where) for function in app.functions)
    headline = "from_app.ready"
    if any(function.lacks for function in functions):
        headline = "from_app.lacks" if using else "from_app.unconnected"
    elif any(function.held_back for function in functions):
        headline = "from_app.held_back"
    elif any(function.verifying_on for function in functions):
        headline = "from_app.verifying"
    return FromApp(
        app=app,
        headline=headline,
        functions=functions,
        limited_to=listed([tenant_name(each) for each in using]) if app.tenant_limit is not None else None,
        return_url=app.return_urls[0] if app.return_urls else None,
    )


def _function_state(catalog: Catalog, app: App, function: Function, tenants: Sequence[Tenant]) -> FunctionState:
    found = [(tenant, function_on(catalog, app, function, tenant)) for tenant in tenants]
    works = [tenant_name(tenant) for tenant, one in found if one.state is State.WORKS]
    if works:
        return FunctionState(title=function.title, works_on=listed(works))
    held = [one for _, one in found if one.state is State.HELD_BACK]
    if held:
        names = [setting.name for one in held for setting in one.settings if setting.presence is Presence.MISSING]
        return FunctionState(title=function.title, held_back=listed(list(dict.fromkeys(names))))
    sets = sets_for(function, app, catalog)
    soon = [each for each in tenants if any(_status_on(each, wanted) == "verifying" for wanted in sets)]
    if soon:
        return FunctionState(title=function.title, verifying_on=listed([tenant_name(each) for each in soon]))
    where: list[Tenant | None] = [*tenants[:TENANTS_OFFERED]] or [None]
    actions = [action(wanted, tenant, _status_on(tenant, wanted)) for tenant in where for wanted in sets[:1]]
    return FunctionState(
        title=function.title,
        lacks=alternatives([plain("quoted", text=wanted.title) for wanted in sets]),
        actions=tuple(filter(None, actions)),
    )


def _status_on(tenant: Tenant | None, wanted: PermissionSet) -> str | None:
    grants = tenant.grants if tenant else ()
    return next((str(grant.status) for grant in grants if grant.permission_set_id == wanted.id), None)
