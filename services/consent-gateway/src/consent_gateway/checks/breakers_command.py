"""``registrations status`` and ``registrations resume``: what stops the checks of a registration, and how they go on.

They work on the database alone: the running replicas see it within seconds.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from consent_gateway.catalog.versions import active_catalog
from consent_gateway.checks.breaker_store import WORKING, BreakerStore
from consent_gateway.errors import CatalogError
from consent_gateway.settings import Settings
from shared import mongo

if TYPE_CHECKING:
    from consent_gateway.catalog.model import Catalog
    from shared.mongo import Database

HELD = "held"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One registration of the catalogue."""

    registration: str
    client_id: str
    status: str
    since: datetime | None
    confirmed_until: datetime | None

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M} UTC" if self.since is not None else ""
        until = self.confirmed_until
        confirmed = f"; removals are believed until {until:%Y-%m-%d %H:%M} UTC" if until is not None else ""
        return f"{self.registration} ({self.client_id}): {self.status}{since}{confirmed}"


async def status(settings: Settings) -> list[Line]:
    """Every client registration of the active catalogue.

    Raises:
        CatalogError: the catalogue can't be used with these settings.
        PyMongoError: MongoDB can't be reached.
    """
    database = mongo.connect(settings.mongo)
    try:
        catalog = await active_catalog(database, settings.catalog)
        return await _lines(catalog, _store(database, catalog, settings))
    finally:
        await mongo.close(database)


async def resume(settings: Settings, registration: str, *, believe_hours: float) -> bool:
    """Let the checks of a held registration go on, and believe for so long that tenants that seem gone are gone.

    ``registration`` is its name in the catalogue, or its client id. False where it isn't held: one that our own tenant
    refuses goes on by itself as soon as that is put right.

    Raises:
        CatalogError: there is no such registration, or the catalogue can't be used with these settings.
        PyMongoError: MongoDB can't be reached.
    """
    database = mongo.connect(settings.mongo)
    try:
        catalog = await active_catalog(database, settings.catalog)
        breakers = _store(database, catalog, settings)
        named = [one for one in await _lines(catalog, breakers) if registration in {one.registration, one.client_id}]
        if not named:
            raise CatalogError(f"there is no client registration {registration!r} in the active catalogue")
        until = datetime.now(UTC) + timedelta(hours=believe_hours)
        return named[0].status == HELD and await breakers.confirm(named[0].client_id, until=until)
    finally:
        await mongo.close(database)


async def _lines(catalog: "Catalog", breakers: BreakerStore) -> list[Line]:
    found = await breakers.standings()
    names = {one.client_id: one.registration for one in catalog.sets.values()}
    return [
        Line(registration=name, client_id=client_id, **(found.get(client_id) or _NEVER_IN_TROUBLE))
        for client_id, name in sorted(names.items(), key=lambda each: each[1])
    ]


_NEVER_IN_TROUBLE = {"status": WORKING, "since": None, "confirmed_until": None}


def _store(database: "Database", catalog: "Catalog", settings: Settings) -> BreakerStore:
    return BreakerStore(
        database,
        catalog,
        per_second=settings.drift.per_second,
        most_seconds=settings.drift.interval_seconds,
        committed=lambda: None,
        clock=lambda: datetime.now(UTC),
    )


def shown(lines: Sequence[Line], *, as_json: bool) -> str:
    """The lines as they are printed."""
    if as_json:
        return json.dumps([asdict(line) for line in lines], indent=2, default=lambda one: one.isoformat()) + "\n"
    return "".join(f"{line}\n" for line in lines)


def exit_code(lines: Sequence[Line]) -> int:
    """0: checks go on; 1: those of some registration are stopped."""
    return int(any(line.status != WORKING for line in lines))
