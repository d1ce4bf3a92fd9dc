"""What a new catalogue file would do, before it is rolled out. Pure: two catalogues and the grants in, a report out."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from consent_gateway.catalog.change import apps_differ, reevaluate
from consent_gateway.catalog.model import Catalog, CatalogPermission, PermissionSet
from consent_gateway.grants.grants import Grant, Status
from shared.events import Permission


@dataclass(frozen=True, kw_only=True)
class SetChange:
    """How a permission set differs from the active one. Permissions are told by name, apps by id."""

    permission_set_id: str
    from_version: int | None
    to_version: int | None
    adds: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    apps_added: tuple[str, ...] = ()
    apps_removed: tuple[str, ...] = ()
    planned: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Effect:
    """What happens to the grants of one set that were accepted at one version."""

    permission_set_id: str
    version: int
    grants: int = 0
    update_available: int = 0
    no_longer_partial: int = 0
    no_update_needed: int = 0
    more_extra: int = 0
    apps_changed: int = 0
    planned_told: int = 0

    @property
    def changes(self) -> bool:
        """Whether any grant changes."""
        values = asdict(self)
        return any(values[name] for name in values if name not in {"permission_set_id", "version", "grants"})


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """An app that comes to be limited to one tenant, and how many accounts would use more than one."""

    app_id: str
    accounts: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """The answer. With ``faults`` the file must not be rolled out."""

    from_version: int
    to_version: int
    faults: tuple[str, ...]
    sets: tuple[SetChange, ...]
    effects: tuple[Effect, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: no grant changes; 1: grants change; 2: not to be rolled out."""
        if self.faults:
            return 2
        return int(bool(self.conflicts) or any(effect.changes for effect in self.effects))

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {**asdict(self), "exit_code": self.exit_code}


@dataclass
class Impact:
    """Counts what happens to the grants, one by one."""

    active: Catalog
    new: Catalog
    _effects: dict[tuple[str, int], Effect] = field(default_factory=dict)
    _tenants: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, grant: Grant) -> None:
        """Look at a grant that is live."""
        key = (grant.permission_set_id, grant.version)
        effect = self._effects.setdefault(key, Effect(permission_set_id=key[0], version=key[1]))
        # As the active catalogue sees it now: what a running job has yet to do isn't the new file's doing.
        before, after = reevaluate(grant, self.active), reevaluate(grant, self.new)
        effect.grants += 1
        effect.update_available += after.asks_more and set(after.additional) != set(before.additional)
        effect.no_update_needed += before.asks_more and not after.asks_more
        effect.no_longer_partial += before.status is Status.PARTIAL and after.status is not Status.PARTIAL
        effect.more_extra += not set(after.extra) <= set(before.extra)
        effect.planned_told += after.planned != before.planned
        effect.apps_changed += not apps_differ(grant, self.active) and apps_differ(grant, self.new)
        for app_id in self._newly_limited(grant.permission_set_id):
            self._tenants[app_id, grant.account_id].add(grant.tenant_id)

    def report(self, faults: Iterable[str], sets: Iterable[SetChange]) -> Report:
        """What was counted."""
        accounts: dict[str, int] = defaultdict(int)
        for (app_id, _), tenants in self._tenants.items():
            accounts[app_id] += len(tenants) > 1
        return Report(
            from_version=self.active.version,
            to_version=self.new.version,
            faults=tuple(faults),
            sets=tuple(sets),
            effects=tuple(self._effects[key] for key in sorted(self._effects)),
            conflicts=tuple(Conflict(app_id=key, accounts=n) for key, n in sorted(accounts.items()) if n),
        )

    def _newly_limited(self, permission_set_id: str) -> Iterator[str]:
        wanted = self.new.sets.get(permission_set_id)
        before = self.active.sets.get(permission_set_id)
        for app_id in self.new.limited_apps(wanted.apps if wanted else ()):
            if before is None or app_id not in self.active.limited_apps(before.apps):
                yield app_id


def faults(active: Catalog, new: Catalog, *, same_content: bool) -> Iterator[str]:
    """Why the new file must not take the place of the active one."""
    if new.version < active.version:
        yield f"version {new.version} is lower than the active version {active.version}: it would never be used"
    if new.version == active.version and not same_content:
        yield f"version {new.version} is active with another content: a changed file needs a higher version"
    for name, wanted in new.sets.items():
        before = active.sets.get(name)
        if before is None:
            continue
        if wanted.version < before.version:
            yield f"permission set {name}: version {wanted.version} is lower than the active {before.version}"
        elif wanted.version == before.version and set(wanted.required) != set(before.required):
            yield f"permission set {name}: asks for something else, but its version is still {wanted.version}"
        if wanted.client_id != before.client_id:
            yield (
                f"permission set {name}: another client registration; grants of the one before can't be checked with it"
            )


def set_changes(active: Catalog, new: Catalog) -> Iterator[SetChange]:
    """How the sets differ, those that do."""
    for name in dict.fromkeys((*new.sets, *active.sets)):
        before, after = active.sets.get(name), new.sets.get(name)
        change = SetChange(
            permission_set_id=name,
            from_version=before.version if before else None,
            to_version=after.version if after else None,
            adds=_names(after, _keys(before)),
            removes=_names(before, _keys(after)),
            apps_added=_more(after, before),
            apps_removed=_more(before, after),
            planned=_planned(after) if _planned(after) != _planned(before) else (),
        )
        unchanged = SetChange(permission_set_id=name, from_version=change.from_version, to_version=change.from_version)
        if change != unchanged:
            yield change


def as_text(report: Report) -> str:
    """The report for people."""
    lines = [f"catalogue version {report.from_version} -> {report.to_version}"]
    lines += [f"fault: {fault}" for fault in report.faults]
    for change in report.sets:
        lines.append(f"{change.permission_set_id}: version {change.from_version or '-'} -> {change.to_version or '-'}")
        lines += [f"  + {name}" for name in change.adds]
        lines += [f"  - {name}" for name in change.removes]
        lines += [f"  + app {name}" for name in change.apps_added]
        lines += [f"  - app {name}" for name in change.apps_removed]
        lines += [f"  planned {text}" for text in change.planned]
    for effect in report.effects:
        said = [f"{number} {text}" for number, text in _said(effect) if number]
        name = f"{effect.permission_set_id} version {effect.version}"
        lines.append(f"{name}: {effect.grants} grants: {', '.join(said) or 'nothing changes'}")
    lines += [
        f"app {one.app_id}: limited to one tenant, and {one.accounts} accounts would use more; the first keeps it"
        for one in report.conflicts
    ]
    if not report.effects:
        lines.append("no grants")
    return "\n".join(lines) + "\n"


def _said(effect: Effect) -> Iterator[tuple[int, str]]:
    yield effect.update_available, "become update_available"
    yield effect.no_update_needed, "need no update any more"
    yield effect.no_longer_partial, "are no longer partial"
    yield effect.more_extra, "keep a permission that becomes extra"
    yield effect.apps_changed, "change their apps"
    yield effect.planned_told, "are told another plan"


def _keys(one: PermissionSet | None) -> set[Permission]:
    return set(one.required) if one is not None else set()


def _names(one: PermissionSet | None, without: set[Permission]) -> tuple[str, ...]:
    return tuple(_name(p) for p in one.permissions if p.key not in without) if one is not None else ()


def _name(permission: CatalogPermission) -> str:
    return f"{permission.resource.name} {permission.value} ({permission.type})"


def _more(one: PermissionSet | None, other: PermissionSet | None) -> tuple[str, ...]:
    has = other.apps if other is not None else ()
    return tuple(app_id for app_id in one.apps if app_id not in has) if one is not None else ()


def _planned(one: PermissionSet | None) -> tuple[str, ...]:
    return tuple(
        f"version {plan.version} from {plan.effective_from.date().isoformat()}: {plan.reason}"
        for plan in (one.planned if one is not None else ())
    )
