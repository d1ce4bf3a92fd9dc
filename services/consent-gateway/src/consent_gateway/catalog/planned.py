"""What announced versions will ask, before their dates come. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from consent_gateway.catalog.model import Catalog, CatalogPermission, PermissionSet
from shared.events import Permission


@dataclass(frozen=True, kw_only=True)
class Planned:
    """An announced version of a permission set, and the set as it is from that date on."""

    permission_set: PermissionSet
    version: int
    effective_from: datetime
    reason: str
    adds: tuple[CatalogPermission, ...]
    removes: tuple[Permission, ...]

    @property
    def required(self) -> tuple[Permission, ...]:
        """All that is asked for then: who has not accepted all of it is asked."""
        return self.permission_set.at(self.effective_from).required


def planned(catalog: Catalog) -> Iterator[Planned]:
    """All announced versions, the next one first."""
    found = [
        Planned(
            permission_set=one,
            version=plan.version,
            effective_from=plan.effective_from,
            reason=plan.reason,
            adds=plan.adds,
            removes=plan.removes,
        )
        for one in catalog.sets.values()
        for plan in one.planned
    ]
    yield from sorted(found, key=lambda each: (each.effective_from, each.permission_set.id))


def planned_version(catalog: Catalog, permission_set_id: str, version: int) -> Planned | None:
    """One of them, if it is announced."""
    of_set = (each for each in planned(catalog) if each.permission_set.id == permission_set_id)
    return next((each for each in of_set if each.version == version), None)
