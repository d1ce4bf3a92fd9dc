"""The active catalogue version: a document that only grows, and the one catalogue that all replicas work with.

The collection holds ``v{n}``, the content of each version ever brought, and ``active``: the version, the moment up to
which planned versions count (``as_of``), and ``edition``, which grows whenever either of them does. What a replica
works with is a function of that document, so all of them agree, whatever their files and clocks say.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import Gauge
from pymongo.errors import DuplicateKeyError, PyMongoError

from consent_gateway.catalog.file import CatalogContent, load_catalog, read_catalog
from consent_gateway.catalog.model import ActiveCatalog, Catalog
from consent_gateway.errors import CatalogError
from consent_gateway.settings import CatalogSettings, Settings
from shared import mongo

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document, Session

log = structlog.get_logger(__name__)

VERSION = Gauge("catalog_version", "Version of the catalogue that this process works with.")

ACTIVE = "active"
SOON_SECONDS = 2.0


class CatalogVersions:
    """Brings this replica's file in, and follows what is active."""

    def __init__(
        self, database: "Database", own: CatalogContent, active: ActiveCatalog, client_ids: Mapping[str, str]
    ) -> None:
        self._documents: Collection = database["catalog"]
        self._own = own
        self._active = active
        self._client_ids = client_ids
        self._version = 0
        self._unusable: str | None = None

    async def check(self) -> None:
        """Readiness: raise while the active version can't be used here."""
        if self._unusable is not None:
            raise RuntimeError(self._unusable)

    @property
    def leads(self) -> bool:
        """Whether this replica's own file is the active version: only then it re-evaluates anything."""
        return self._own.version == self._version

    async def bring(self, *, now: datetime) -> None:
        """Keep this replica's version, and make it the active one unless a newer one is.

        Raises:
            CatalogError: another file of the same version was brought before; one readable line.
        """
        own = {"_id": f"v{self._own.version}", "version": self._own.version, "digest": self._own.digest}
        try:
            await self._documents.insert_one(own | {"text": self._own.text, "brought_at": now})
        except DuplicateKeyError:
            known = await self._documents.find_one({"_id": own["_id"]})
            if known is not None and known["digest"] != own["digest"]:
                raise CatalogError(
                    f"the catalogue's version {self._own.version} is known with another content; "
                    "a changed file needs a higher version"
                ) from None
        await self._raise_active(now)

    async def _raise_active(self, now: datetime) -> None:
        first: dict[str, Any] = {"_id": ACTIVE, "version": self._own.version, "as_of": now, "edition": 1}
        try:
            await self._documents.insert_one(first | {"activated_at": now})
        except DuplicateKeyError:
            await self._documents.update_one(
                {"_id": ACTIVE, "version": {"$lt": self._own.version}},
                [
                    {
                        "$set": {
                            "version": self._own.version,
                            # A clock that is behind must not undo a planned version whose date has come.
                            "as_of": {"$max": ["$as_of", now]},
                            "activated_at": now,
                            "edition": {"$add": ["$edition", 1]},
                        }
                    }
                ],
            )

    async def follow(self) -> bool:
        """Work with what is active from now on; False when it was so before, or can't be."""
        document = await self._documents.find_one({"_id": ACTIVE})
        if document is None or document["edition"] == self._active.edition:
            return False
        content = await self._content(document)
        try:
            catalog = content.catalog(self._client_ids, at=document["as_of"], edition=document["edition"])
        except CatalogError as error:
            # The one before goes on serving: consents of what it names are as good as ever.
            if self._unusable is None:
                log.exception("catalog.unusable", version=content.version, reason=str(error))
            self._unusable = f"the active catalogue, version {content.version}, can't be used: {error}"
            return False
        self._unusable = None
        self._version = content.version
        self._active.activate(catalog)
        VERSION.set(content.version)
        log.info("catalog.active", version=content.version, edition=catalog.edition, own=self._own.version)
        return True

    async def _content(self, active: "Document") -> CatalogContent:
        if active["version"] == self._own.version:
            return self._own
        kept = await self._documents.find_one({"_id": f"v{active['version']}"})
        if kept is None:
            raise CatalogError(f"the active catalogue, version {active['version']}, is not in the database")
        return CatalogContent(version=kept["version"], text=kept["text"])

    async def bring_due(self, *, now: datetime) -> bool:
        """Let planned versions whose date has come take their place; False when there is none."""
        dates = [plan.effective_from for one in self._active.sets.values() for plan in one.planned[:1]]
        if not any(date <= now for date in dates):
            return False
        result = await self._documents.update_one(
            {"_id": ACTIVE, "edition": self._active.edition}, {"$set": {"as_of": now}, "$inc": {"edition": 1}}
        )
        return bool(result.modified_count)

    async def edition(self, session: "Session") -> int:
        """The edition that is active, as the transaction sees it."""
        document = await self._documents.find_one({"_id": ACTIVE}, projection={"edition": 1}, session=session)
        return int(document["edition"]) if document is not None else 0


async def active_catalog(database: "Database", settings: CatalogSettings) -> Catalog:
    """The catalogue that is active now, for a command; before the first one is, that of the settings.

    Raises:
        CatalogError: it can't be used with these settings.
    """
    documents: Collection = database["catalog"]
    active = await documents.find_one({"_id": ACTIVE})
    kept = await documents.find_one({"_id": f"v{active['version']}"}) if active is not None else None
    if active is None or kept is None:
        return load_catalog(settings.path, settings.client_ids)
    content = CatalogContent(version=kept["version"], text=kept["text"])
    return content.catalog(settings.client_ids, at=active["as_of"], edition=active["edition"])


async def bring(settings: Settings) -> None:
    """Bring the catalogue of the settings in before the service starts, if the database answers soon.

    Where it doesn't, the service starts all the same, and does this when the database is there.

    Raises:
        CatalogError: another file of the same version was brought before; one readable line.
    """
    own = read_catalog(settings.catalog.path)
    catalog = ActiveCatalog(own.catalog(settings.catalog.client_ids))
    database = mongo.connect(settings.mongo)
    try:
        async with asyncio.timeout(SOON_SECONDS):
            await CatalogVersions(database, own, catalog, settings.catalog.client_ids).bring(now=datetime.now(UTC))
    except (PyMongoError, TimeoutError) as error:
        log.warning("catalog.not_brought_yet", error=type(error).__name__)
    finally:
        await mongo.close(database)
