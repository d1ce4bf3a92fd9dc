"""What the Microsoft Entra ID screen shows: catalogue and grants in, sections and rows out. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from consent_gateway.catalog.model import Catalog, PermissionSet
from consent_gateway.catalog.needs import Action, Affected, FromApp, action, affected, from_app, tenant_name
from consent_gateway.grants.grants import Grant, Reason, Tenant
from consent_gateway.web.details import Details, details_of
from consent_gateway.web.location import Location
from consent_gateway.web.texts import listed, plain

_ICONS = {
    None: "none",
    "verifying": "verifying",
    "granted": "granted",
    "update_available": "update",
    "partial": "partial",
    "blocked": "blocked",
    "revoked": "revoked",
}
_BREAKING = frozenset({"partial", "blocked", "revoked"})
_SETTINGS = frozenset({"directory_role", "licence", "resource"})
_NEEDS_ATTENTION = frozenset({"update_available", "partial", "revoked"})

# Tenants on one page of the screen.
TENANTS_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class AppChip:
    """An associated app; ``held_on`` names the tenant that a limited app uses instead of this one."""

    name: str
    held_on: str | None = None


@dataclass(frozen=True, kw_only=True)
class Why:
    """The reason under a status: a text's key with what fills it, its time, and the apps that it holds back."""

    key: str
    values: dict[str, object] = field(default_factory=dict)
    at: datetime | None = None
    affected: str = ""


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something to know beside the status: a missing setting in Entra, an announced version, checks without an answer.

    ``at`` is when the last check was good, ``again`` when the next one is made.
    """

    key: str
    values: dict[str, object] = field(default_factory=dict)
    day: datetime | None = None
    at: datetime | None = None
    again: datetime | None = None


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
    notes: tuple[Note, ...]
    toggle: str
    target: str
    details: Details | None
    manage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A connected tenant."""

    tenant_id: str
    name: str | None
    domain: str | None
    cloud: str
    checked_at: datetime | None
    checkable: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class Screen:
    """The whole screen. ``offers`` are the rows of the first visit, when no tenant is connected yet."""

    sections: tuple[Section, ...]
    offers: tuple[Row, ...]
    sets_in_use: int
    attention: int
    from_app: FromApp | None
    location: Location
    next_page: str | None


def screen(catalog: Catalog, tenants: Sequence[Tenant], *, location: Location, page: int = TENANTS_SHOWN) -> Screen:
    """The screen of an account: ``page`` of the tenants that were read, by name, and where to find those after them.

    ``tenants`` come by id, from ``location.after`` on. Those beyond the page count for what an app has.
    """
    connected = sorted(
        filter(_connected, tenants[:page]), key=lambda each: (tenant_name(each).casefold(), each.tenant_id)
    )
    view = _View(catalog, {tenant.tenant_id: tenant_name(tenant) for tenant in connected}, location)
    grants = [grant for tenant in connected for grant in tenant.grants]
    app = catalog.apps.get(location.app_id or "")
    return Screen(
        sections=tuple(view.section(tenant) for tenant in connected),
        offers=() if connected or location.after else tuple(view.row(each, None) for each in catalog.sets.values()),
        sets_in_use=sum(grant.usable for grant in grants),
        attention=sum(grant.status in _NEEDS_ATTENTION for grant in grants),
        from_app=from_app(catalog, app, list(filter(_connected, tenants))) if app else None,
        location=location,
        next_page=location.page_after(tenants[page - 1].tenant_id) if len(tenants) > page else None,
    )


def _connected(tenant: Tenant) -> bool:
    return tenant.removed_at is None and any(
        grant.status != "revoked" or grant.reason != "disconnected" for grant in tenant.grants
    )


@dataclass(frozen=True)
class _View:
    """What all rows of a screen have in common."""

    catalog: Catalog
    names: dict[str, str]
    location: Location

    def section(self, tenant: Tenant) -> Section:
        return Section(
            tenant_id=tenant.tenant_id,
            name=tenant.tenant_name,
            domain=tenant.primary_domain,
            cloud=tenant.cloud,
            checkable=any(grant.live for grant in tenant.grants),
            checked_at=max((grant.health.last_at for grant in tenant.grants if grant.health.last_at), default=None),
            rows=tuple(self.row(each, tenant) for each in self.catalog.sets.values()),
        )

    def row(self, wanted: PermissionSet, tenant: Tenant | None) -> Row:
        key = f"{tenant.tenant_id if tenant else 'new'}.{wanted.id}"
        grants = tenant.grants if tenant else ()
        grant = next((each for each in grants if each.permission_set_id == wanted.id), None)
        status = str(grant.status) if grant else None
        people = tenant.people if tenant else {}
        broken = affected(self.catalog, wanted, tenant) if tenant and status in _BREAKING else ()
        return Row(
            id=key,
            title=wanted.title,
            description=wanted.description,
            apps=self._chips(wanted, grant),
            permission_count=len(wanted.permissions),
            status=status,
            icon=_ICONS.get(status, "unverified"),
            action=action(wanted, tenant, status),
            why=_why(wanted, grant, people, broken) if grant else None,
            notes=tuple(self._notes(wanted, grant)) if grant else (),
            toggle=self.location.toggling(key),
            target=plain("action.target", set=wanted.title, tenant=tenant_name(tenant)) if tenant else wanted.title,
            manage=f"{self.location.path}/tenants/{tenant.tenant_id}/permission-sets/{wanted.id}"
            if tenant is not None and grant is not None
            else None,
            details=details_of(wanted, grant, people, broken) if key in self.location.open_details else None,
        )

    def _notes(self, wanted: PermissionSet, grant: Grant) -> Iterator[Note]:
        health = grant.health
        # What waits for its first good answer says so by its status.
        if grant.live and grant.status != "verifying" and health.error and health.next_at:
            yield Note(key="note.unanswered", at=health.last_good_at, again=health.next_at)
        for setting in grant.settings:
            key = f"note.{setting.kind}" if setting.kind in _SETTINGS else "note.setting"
            functions = listed([self._function(name) for name in setting.functions])
            yield Note(key=key, values={"name": setting.name, "functions": functions})
        if grant.live:
            for plan in wanted.planned:
                more = listed([permission.value for permission in plan.adds])
                key = "note.planned" if more else "note.planned.less"
                values: dict[str, object] = {"version": plan.version, "permissions": more, "reason": plan.reason}
                yield Note(key=key, values=values, day=plan.effective_from)

    def _function(self, name: str) -> str:
        """The title of a function with its app's name; events name it by ids."""
        app_id, _, function_id = name.partition("/")
        app = self.catalog.apps.get(app_id)
        found = next((one.title for one in app.functions if one.id == function_id), None) if app else None
        return plain("details.affected.function", app=app.name, function=found) if app and found else name

    def _chips(self, wanted: PermissionSet, grant: Grant | None) -> tuple[AppChip, ...]:
        held = {each.app_id: each.tenant_id for each in grant.held_apps} if grant else {}
        chips = []
        for app_id in wanted.apps:
            app = self.catalog.apps.get(app_id)
            held_on = self.names.get(held[app_id], plain("app.other_tenant")) if app_id in held else None
            chips.append(AppChip(name=app.name if app else app_id, held_on=held_on))
        return tuple(sorted(chips, key=lambda chip: chip.held_on is not None))


def _why(wanted: PermissionSet, grant: Grant, people: dict[str, str], broken: Sequence[Affected]) -> Why | None:
    apps = listed(list(dict.fromkeys(each.app for each in broken)))
    if grant.status == "granted":
        name = people.get(grant.granted_by or "")
        values: dict[str, object] = {"version": grant.version, "name": name}
        return Why(key="why.granted_by" if name else "why.granted", values=values, at=grant.granted_at)
    if grant.status == "verifying":
        return Why(key="why.verifying", at=grant.accepted_at)
    if grant.status == "update_available":
        added = [permission for permission in wanted.permissions if permission.key not in grant.accepted]
        key = "why.update_available" if added else "why.update_available.plain"
        # One reason reads as a sentence; of several, each stands beside its permission in the details.
        key = "why.update_available.reason" if len(added) == 1 else key
        more = listed([permission.value for permission in added])
        reason = added[0].reason if added else ""
        return Why(key=key, values={"version": wanted.version, "permissions": more, "reason": reason})
    if grant.status == "partial":
        missing = listed([permission.value for permission in grant.missing])
        key = "why.partial" if missing else "why.partial.plain"
        return Why(key=key, values={"permissions": missing}, affected=apps)
    if grant.status == "revoked":
        key = f"why.revoked.{grant.reason}" if grant.reason in set(Reason) else "why.revoked"
        return Why(key=key, at=grant.health.last_at, affected=apps)
    return Why(key="why.blocked", affected=apps) if grant.status == "blocked" else None
