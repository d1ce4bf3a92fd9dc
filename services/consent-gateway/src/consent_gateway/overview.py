"""What the Microsoft Entra ID screen shows: catalogue and grants in, sections and rows out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from consent_gateway.catalog import App, Catalog, CatalogPermission, Function, Need, PermissionSet
from consent_gateway.grants import Grant, Tenant
from consent_gateway.texts import alternatives, listed, plain

_ACTIONS = {None: "grant", "update_available": "update", "partial": "again", "revoked": "again"}
_ICONS = {
    None: "none",
    "verifying": "verifying",
    "granted": "granted",
    "update_available": "update",
    "partial": "partial",
    "blocked": "blocked",
    "revoked": "revoked",
}
# An app's notice offers a grant on this many tenants at most; the sections below hold the rest.
TENANTS_OFFERED = 3
_NEEDS_ATTENTION = frozenset({"update_available", "partial", "revoked"})


@dataclass(frozen=True, kw_only=True)
class Location:
    """The state of the screen that its address holds: where one came from, which details are open."""

    path: str
    app_id: str | None = None
    open_details: tuple[str, ...] = ()
    adding: bool = False

    def toggling(self, row: str) -> str:
        """The address with the details of one row opened, or closed, and the row in view."""
        still = tuple(key for key in self.open_details if key != row)
        return self._url(still if row in self.open_details else (*still, row), adding=self.adding) + f"#row-{row}"

    @property
    def add(self) -> str:
        """The address with the form of Add Tenant."""
        return self._url(self.open_details, adding=True) + "#add-tenant"

    @property
    def plain(self) -> str:
        """The address without that form."""
        return self._url(self.open_details, adding=False)

    def _url(self, open_details: Sequence[str], *, adding: bool) -> str:
        query = [("app", self.app_id)] if self.app_id else []
        query += [("details", key) for key in open_details]
        query += [("add", "tenant")] if adding else []
        return f"{self.path}?{urlencode(query)}" if query else self.path


@dataclass(frozen=True, kw_only=True)
class AppChip:
    """An associated app; ``held_on`` names the tenant that a limited app uses instead of this one."""

    name: str
    held_on: str | None = None


@dataclass(frozen=True, kw_only=True)
class PermissionLine:
    """One permission with its state: granted, missing, new, unverified, required or extra."""

    value: str
    resource: str
    type: str
    reason: str
    state: str


@dataclass(frozen=True, kw_only=True)
class Details:
    """Everything behind a row."""

    lines: tuple[PermissionLine, ...]
    client_id: str
    current_version: int
    accepted_version: int | None = None
    accepted_at: datetime | None = None
    accepted_by: str | None = None
    verified_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Action:
    """The one next step of a row: a form that starts a consent for a set, on a tenant or on any."""

    label: str
    permission_set_id: str
    tenant_id: str | None
    target: str


@dataclass(frozen=True, kw_only=True)
class Why:
    """The reason under a status: a text's key with what fills it; ``at`` is its time, if it has one."""

    key: str
    values: dict[str, object] = field(default_factory=dict)
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A permission set on a tenant."""

    id: str
    title: str
    description: str
    apps: tuple[AppChip, ...]
    permission_count: int
    status: str | None
    icon: str
    action: Action | None
    why: Why | None
    toggle: str
    details: Details | None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A connected tenant."""

    tenant_id: str
    name: str | None
    domain: str | None
    checked_at: datetime | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class FunctionState:
    """A function of an app: where it works, or the texts of what it lacks and the grants that would close it."""

    title: str
    works_on: str | None
    lacks: str | None
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
class Screen:
    """The whole screen. ``offers`` are the rows of the first visit, when no tenant is connected yet."""

    sections: tuple[Section, ...]
    offers: tuple[Row, ...]
    sets_in_use: int
    attention: int
    from_app: FromApp | None
    location: Location


def screen(catalog: Catalog, tenants: Sequence[Tenant], *, location: Location) -> Screen:
    """The screen of an account."""
    connected = sorted(
        filter(_connected, tenants), key=lambda tenant: ((tenant.tenant_name or "~").casefold(), tenant.tenant_id)
    )
    names = {tenant.tenant_id: tenant_name(tenant) for tenant in connected}
    sections = tuple(_section(catalog, tenant, names=names, location=location) for tenant in connected)
    offers = (
        () if sections else tuple(_row(catalog, each, None, None, names, location) for each in catalog.sets.values())
    )
    grants = [grant for tenant in connected for grant in tenant.grants]
    app = catalog.apps.get(location.app_id or "")
    return Screen(
        sections=sections,
        offers=offers,
        sets_in_use=sum(grant.usable for grant in grants),
        attention=sum(grant.status in _NEEDS_ATTENTION for grant in grants),
        from_app=_from_app(catalog, app, connected) if app else None,
        location=location,
    )


def tenant_name(tenant: Tenant) -> str:
    """What to call a tenant: its name, else its domain, else its id."""
    return tenant.tenant_name or tenant.primary_domain or tenant.tenant_id


def _connected(tenant: Tenant) -> bool:
    return any(grant.status != "revoked" or grant.reason != "disconnected" for grant in tenant.grants)


def _section(catalog: Catalog, tenant: Tenant, *, names: dict[str, str], location: Location) -> Section:
    grants = {grant.permission_set_id: grant for grant in tenant.grants}
    rows = [_row(catalog, each, tenant, grants.get(each.id), names, location) for each in catalog.sets.values()]
    return Section(
        tenant_id=tenant.tenant_id,
        name=tenant.tenant_name,
        domain=tenant.primary_domain,
        checked_at=max((grant.verified_at for grant in tenant.grants if grant.verified_at), default=None),
        rows=tuple(rows),
    )


def _row(
    catalog: Catalog,
    wanted: PermissionSet,
    tenant: Tenant | None,
    grant: Grant | None,
    names: dict[str, str],
    location: Location,
) -> Row:
    row = f"{tenant.tenant_id if tenant else 'new'}.{wanted.id}"
    status = grant.status if grant else None
    people = tenant.people if tenant else {}
    return Row(
        id=row,
        title=wanted.title,
        description=wanted.description,
        apps=_chips(catalog, wanted, grant, names),
        permission_count=len(wanted.permissions),
        status=status,
        icon=_ICONS.get(status, "unverified"),
        action=_action(wanted, tenant, status),
        why=_why(wanted, grant, people) if grant else None,
        toggle=location.toggling(row),
        details=_details(wanted, grant, people) if row in location.open_details else None,
    )


def _chips(catalog: Catalog, wanted: PermissionSet, grant: Grant | None, names: dict[str, str]) -> tuple[AppChip, ...]:
    held = {each.app_id: each.tenant_id for each in grant.held_apps} if grant else {}
    chips = []
    for app_id in wanted.apps:
        app = catalog.apps.get(app_id)
        elsewhere = held.get(app_id)
        held_on = names.get(elsewhere, plain("app.other_tenant")) if elsewhere else None
        chips.append(AppChip(name=app.name if app else app_id, held_on=held_on))
    return tuple(sorted(chips, key=lambda chip: chip.held_on is not None))


def _action(wanted: PermissionSet, tenant: Tenant | None, status: str | None) -> Action | None:
    name = _ACTIONS.get(status)
    if name is None:
        return None
    target = plain("action.target", set=wanted.title, tenant=tenant_name(tenant)) if tenant else wanted.title
    tenant_id = tenant.tenant_id if tenant else None
    return Action(label=f"action.{name}", permission_set_id=wanted.id, tenant_id=tenant_id, target=target)


def _why(wanted: PermissionSet, grant: Grant, people: dict[str, str]) -> Why | None:
    missing = listed([permission.value for permission in grant.missing])
    if grant.status == "granted":
        name = people.get(grant.granted_by or "")
        values: dict[str, object] = {"version": grant.version, "name": name}
        return Why(key="why.granted_by" if name else "why.granted", values=values, at=grant.granted_at)
    if grant.status == "verifying":
        return Why(key="why.verifying" if grant.granted_at else "why.verifying.undated", at=grant.granted_at)
    if grant.status == "update_available":
        key = "why.update_available" if missing else "why.update_available.plain"
        return Why(key=key, values={"version": wanted.version, "permissions": missing})
    if grant.status == "partial":
        return Why(key="why.partial" if missing else "why.partial.plain", values={"permissions": missing})
    if grant.status == "revoked":
        known = grant.reason in {"removed", "disabled", "tenant_deleted", "not_granted", "disconnected"}
        return Why(key=f"why.revoked.{grant.reason}" if known else "why.revoked", at=grant.verified_at)
    return Why(key="why.blocked") if grant.status == "blocked" else None


def _details(wanted: PermissionSet, grant: Grant | None, people: dict[str, str]) -> Details:
    lines = [_line(permission, _state(permission, grant)) for permission in wanted.permissions]
    resources = {permission.resource.app_id: permission.resource.name for permission in wanted.permissions}
    extra = [
        PermissionLine(
            value=permission.value,
            resource=resources.get(permission.resource_app_id, permission.resource_app_id),
            type=permission.type,
            reason=plain("permission.extra.reason"),
            state="extra",
        )
        for permission in (grant.extra if grant else ())
    ]
    return Details(
        lines=(*lines, *extra),
        client_id=wanted.client_id,
        current_version=wanted.version,
        accepted_version=grant.version if grant else None,
        accepted_at=grant.granted_at if grant else None,
        accepted_by=people.get(grant.granted_by or "") if grant else None,
        verified_at=grant.verified_at if grant else None,
    )


def _line(permission: CatalogPermission, state: str) -> PermissionLine:
    return PermissionLine(
        value=permission.value,
        resource=permission.resource.name,
        type=permission.type,
        reason=permission.reason,
        state=state,
    )


def _state(permission: CatalogPermission, grant: Grant | None) -> str:
    if grant is None:
        return "required"
    if permission.key in grant.unverified:
        return "unverified"
    if permission.key in grant.permissions:
        return "granted"
    return "new" if grant.status == "update_available" else "missing"


def _from_app(catalog: Catalog, app: App, tenants: Sequence[Tenant]) -> FromApp:
    functions = tuple(_function_state(catalog, app, function, tenants) for function in app.functions)
    limited_to = None
    if app.tenant_limit is not None:
        limited_to = listed(
            [tenant_name(each) for each in tenants if any(app.id in grant.apps for grant in each.grants)]
        )
    lacking = any(function.lacks for function in functions)
    headline = "from_app.ready" if not lacking else "from_app.lacks" if tenants else "from_app.unconnected"
    return FromApp(
        app=app,
        headline=headline,
        functions=functions,
        limited_to=limited_to,
        return_url=app.return_urls[0] if app.return_urls else None,
    )


def _function_state(catalog: Catalog, app: App, function: Function, tenants: Sequence[Tenant]) -> FunctionState:
    works = [tenant for tenant in tenants if any(_satisfied(need, app, tenant) for need in function.any_of)]
    if works:
        return FunctionState(title=function.title, works_on=listed([tenant_name(each) for each in works]), lacks=None)
    sets = list(dict.fromkeys(found for need in function.any_of if (found := _set_for(need, app, catalog))))
    where: list[Tenant | None] = [*tenants[:TENANTS_OFFERED]] or [None]
    actions = [_action(wanted, tenant, _status_on(tenant, wanted)) for tenant in where for wanted in sets[:1]]
    return FunctionState(
        title=function.title,
        works_on=None,
        lacks=alternatives([plain("quoted", text=wanted.title) for wanted in sets]),
        actions=tuple(filter(None, actions)),
    )


def _satisfied(need: Need, app: App, tenant: Tenant) -> bool:
    """Whether the app may use, on this tenant, what the need asks for."""
    mine = [grant for grant in tenant.grants if grant.usable and app.id in grant.apps]
    if need.permission_set_id is not None:
        return any(grant.permission_set_id == need.permission_set_id for grant in mine)
    return set(need.permissions) <= {permission for grant in mine for permission in grant.permissions}


def _set_for(need: Need, app: App, catalog: Catalog) -> PermissionSet | None:
    """The set that brings what the need asks for: itself, or the app's first one with all its permissions."""
    if need.permission_set_id is not None:
        return catalog.sets.get(need.permission_set_id)
    mine = (catalog.sets[each] for each in app.sets)
    return next((each for each in mine if set(need.permissions) <= set(each.required)), None)


def _status_on(tenant: Tenant | None, wanted: PermissionSet) -> str | None:
    grants = tenant.grants if tenant else ()
    return next((grant.status for grant in grants if grant.permission_set_id == wanted.id), None)
