"""``republish``: the state of every tenant goes through the outbox again, for readers that lost theirs."""

from typing import TYPE_CHECKING

from pymongo import ASCENDING

from consent_gateway.catalog.versions import active_catalog
from consent_gateway.checks.verification import SYSTEM
from consent_gateway.grants.change import Change
from consent_gateway.grants.ledger import Books, Ledger
from consent_gateway.settings import Settings
from shared import mongo

if TYPE_CHECKING:
    from shared.mongo import Database, Document

CAUSE = "snapshot"
PAGE = 500


async def republish(settings: Settings) -> int:
    """Add an event for every grant, each with a new revision, tenant by tenant; returns the number of tenants.

    It may be interrupted and run again. The running service's relay sends the rows.

    Raises:
        PyMongoError: MongoDB can't be reached.
    """
    database = mongo.connect(settings.mongo)
    try:
        catalog = await active_catalog(database, settings.catalog)
        ledger = Ledger(database, catalog, cloud=settings.entra.cloud, exclusive=settings.tenant_sharing == "exclusive")
        return await _send_all(database, ledger)
    finally:
        await mongo.close(database)


async def _send_all(database: "Database", ledger: Ledger) -> int:
    count, after = 0, ""
    # Page by page: one cursor over all of them would end with its session long before the last tenant.
    while page := await _page(database, after):
        for document in page:
            await _send(ledger, document["account_id"], document["tenant_id"])
        count, after = count + len(page), page[-1]["_id"]
    return count


async def _page(database: "Database", after: str) -> "list[Document]":
    found = database["tenants"].find({"_id": {"$gt": after}}, projection={"account_id": 1, "tenant_id": 1})
    return await found.sort("_id", ASCENDING).to_list(PAGE)


async def _send(ledger: Ledger, account_id: str, tenant_id: str) -> None:
    async def work(books: Books) -> None:
        turn = await books.open(account_id, tenant_id)
        await books.write(turn, Change(grants=list(turn.grants.values()), cause=CAUSE, actor=SYSTEM))

    await ledger.transact(account_id, work)
