"""``catalog check FILE``: reads the file, the active catalogue and the grants, and prints what would happen."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from consent_gateway.catalog.check import Impact, Report, as_text, faults, set_changes
from consent_gateway.catalog.file import read_catalog
from consent_gateway.catalog.versions import ACTIVE, active_catalog
from consent_gateway.errors import CatalogError
from consent_gateway.grants.documents import grant_of
from consent_gateway.grants.grants import Entra
from consent_gateway.settings import Settings
from shared import mongo

if TYPE_CHECKING:
    from shared.mongo import Database

UNUSABLE = 2


async def check(settings: Settings, file: Path) -> Report:
    """What the file would do to the grants that are in the database now. Nothing is written.

    Raises:
        CatalogError: the file can't be used; one readable line.
        PyMongoError: MongoDB can't be reached.
    """
    content = read_catalog(file)
    try:
        new = content.catalog(settings.catalog.client_ids, at=datetime.now(UTC))
    except CatalogError as error:
        raise CatalogError(f"{file}: {error}") from None
    database = mongo.connect(settings.mongo)
    try:
        active = await active_catalog(database, settings.catalog)
        digest = await _digest(database) or read_catalog(settings.catalog.path).digest
        impact = Impact(active, new)
        async for document in database["grants"].find({"entra": {"$ne": str(Entra.GONE)}}):
            impact.add(grant_of(document))
    finally:
        await mongo.close(database)
    found = faults(active, new, same_content=digest == content.digest)
    return impact.report(found, set_changes(active, new))


async def _digest(database: "Database") -> str | None:
    active = await database["catalog"].find_one({"_id": ACTIVE})
    kept = await database["catalog"].find_one({"_id": f"v{active['version']}"}) if active is not None else None
    return str(kept["digest"]) if kept is not None else None


def shown(report: Report, *, as_json: bool) -> str:
    """The report as it is printed."""
    return json.dumps(report.as_json(), indent=2) + "\n" if as_json else as_text(report)
