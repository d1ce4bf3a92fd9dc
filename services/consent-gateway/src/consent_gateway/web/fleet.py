"""What the fleet view shows: filters, counts and tenants in, a table of counts and a table of tenants out. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from consent_gateway.catalog.model import Catalog, PermissionSet
from consent_gateway.web.fleet_reader import Counts, FleetTenant, SetCounts

NOT_CONSENTED = "not_consented"
STATUSES = ("granted", "verifying", "update_available", "partial", "blocked", "revoked")
LONGEST_TEXT = 200
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,1000}")
_ICONS = {name: "update" if name == "update_available" else name for name in STATUSES}


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which tenants; what the address names and nobody knows is left out."""

    text: str = ""
    set_id: str | None = None
    status: str | None = None
    version: int | None = None
    app_id: str | None = None
    account_id: str | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], catalog: Catalog, *, staff: bool) -> "Filters":
        """From the address. Only staff choose an account; everybody else has one."""
        status, version, account_id = query.get("status"), query.get("version", ""), query.get("account", "")
        return cls(
            text=query.get("q", "").strip()[:LONGEST_TEXT],
            set_id=_known(query.get("set"), catalog.sets),
            status=status if status in {*STATUSES, NOT_CONSENTED} else None,
            version=int(version) if version.isascii() and version.isdigit() and len(version) < 10 else None,
            app_id=_known(query.get("app"), catalog.apps),
            account_id=account_id if staff and _SLUG.fullmatch(account_id) else None,
        )

    @property
    def lacks_set(self) -> bool:
        """Whether it asks who has not consented, or which version, but not to what."""
        return self.set_id is None and (self.status == NOT_CONSENTED or self.version is not None)

    @property
    def any(self) -> bool:
        """Whether anything is filtered, the account aside."""
        return self != Filters(account_id=self.account_id)

    @property
    def asked(self) -> dict[str, str]:
        """The registry's parameters."""
        asked: dict[str, str | None] = {"q": self.text, "app_id": self.app_id, "account_id": self.account_id}
        if self.status == NOT_CONSENTED:
            asked["not_consented"] = self.set_id
        else:
            asked |= {"permission_set_id": self.set_id, "status": self.status}
            if self.version is not None and self.set_id is not None:
                asked["version"] = str(self.version)
        return {name: value for name, value in asked.items() if value}

    @property
    def fields(self) -> dict[str, str]:
        """The address's parameters."""
        found = {
            "q": self.text,
            "set": self.set_id,
            "status": self.status,
            "version": str(self.version) if self.version is not None else None,
            "app": self.app_id,
            "account": self.account_id,
        }
        return {name: value for name, value in found.items() if value}

    def address(self, path: str, **more: str) -> str:
        """The address with these filters."""
        fields = self.fields | more
        return f"{path}?{urlencode(fields)}" if fields else path


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of tenants, and the address that lists them; nobody follows a link to nothing."""

    status: str
    tenants: int
    href: str | None


@dataclass(frozen=True, kw_only=True)
class SetLine:
    """A permission set over the fleet."""

    title: str
    counts: tuple[Count, ...]
    versions: tuple[Count, ...]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A set on a tenant. ``old`` is the accepted version where a newer one is current.

    ``held`` are the apps of the set that may use one tenant only, and use another one.
    """

    set_title: str
    status: str | None
    icon: str
    old: int | None = None
    held: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TenantLine:
    """A tenant of the fleet."""

    account_id: str
    tenant_id: str
    name: str | None
    domain: str | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """The whole page."""

    filters: Filters
    sets: tuple[SetLine, ...]
    columns: tuple[str, ...]
    tenants: tuple[TenantLine, ...]


def fleet_view(
    catalog: Catalog, filters: Filters, *, counts: Counts | None, tenants: Sequence[FleetTenant], path: str
) -> FleetView:
    """The page: all sets of the catalogue are counted, those that nobody ever consented to as well.

    Tenants show the set that is filtered for, or all of them.
    """
    wanted = [one for one in catalog.sets.values() if filters.set_id in {None, one.id}]
    return FleetView(
        filters=filters,
        sets=_set_lines(catalog, filters, counts, path) if counts is not None else (),
        columns=tuple(one.title for one in wanted),
        tenants=tuple(
            TenantLine(
                account_id=tenant.account_id,
                tenant_id=tenant.tenant_id,
                name=tenant.tenant_name,
                domain=tenant.primary_domain,
                cells=tuple(_cell(catalog, tenant, one) for one in wanted),
            )
            for tenant in tenants
        ),
    )


def _set_lines(catalog: Catalog, filters: Filters, counts: Counts, path: str) -> tuple[SetLine, ...]:
    known = {one.permission_set_id: one for one in counts.permission_sets}
    lines = []
    for one in catalog.sets.values():
        nobody = SetCounts(permission_set_id=one.id, statuses={}, versions={}, not_consented=counts.tenants)
        found = known.get(one.id, nobody)
        base = Filters(set_id=one.id, account_id=filters.account_id)
        numbers = {**{name: found.statuses.get(name, 0) for name in STATUSES}, NOT_CONSENTED: found.not_consented}
        lines.append(
            SetLine(
                title=one.title,
                counts=tuple(
                    Count(status=name, tenants=number, href=_link(replace(base, status=name), number, path))
                    for name, number in numbers.items()
                ),
                versions=tuple(
                    Count(status=str(version), tenants=number, href=_link(replace(base, version=version), number, path))
                    for version, number in sorted(found.versions.items())
                ),
            )
        )
    return tuple(lines)


def _link(filters: Filters, number: int, path: str) -> str | None:
    return f"{filters.address(path)}#tenants" if number else None


def _cell(catalog: Catalog, tenant: FleetTenant, wanted: PermissionSet) -> Cell:
    grant = next((one for one in tenant.grants if one.permission_set_id == wanted.id), None)
    if grant is None:
        return Cell(set_title=wanted.title, status=None, icon="none")
    return Cell(
        set_title=wanted.title,
        status=grant.status,
        icon=_ICONS.get(grant.status, "unverified"),
        old=grant.version if grant.version < wanted.version and grant.status != "revoked" else None,
        held=tuple(catalog.apps[held.app_id].name for held in grant.held_apps if held.app_id in catalog.apps),
    )


def cursor_in(query: Mapping[str, str]) -> str | None:
    """The cursor of the address, if it can be one."""
    cursor = query.get("cursor", "")
    return cursor if _CURSOR.fullmatch(cursor) else None


@dataclass(frozen=True)
class Asked:
    """What the address says of a check that was asked for: how many grants, and whether tenants were left out."""

    grants: int
    more: bool

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Asked | None":
        """From the address, if it says anything."""
        number = query.get("checked", "")
        if not (number.isascii() and number.isdigit() and len(number) < 7):
            return None
        return cls(int(number), more=query.get("more") == "yes")


def _known(value: str | None, among: Mapping[str, object]) -> str | None:
    return value if value in among else None
