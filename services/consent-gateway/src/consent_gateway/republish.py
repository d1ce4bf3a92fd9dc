"""``republish``: the state of every tenant goes through the outbox again, for readers that lost theirs."""

from typing import TYPE_CHECKING

from consent_gateway.catalog_versions import active_catalog
from consent_gateway.ledger import Books, Change, Ledger
from consent_gateway.settings import Settings
from consent_gateway.verification import SYSTEM
from shared import mongo

if TYPE_CHECKING:
    from shared.mongo import Database

CAUSE = "snapshot"


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
    count = 0
    async for document in database["tenants"].find({}, projection={"account_id": 1, "tenant_id": 1}).sort("_id", 1):
        account_id, tenant_id = document["account_id"], document["tenant_id"]

        async def work(books: Books, account_id: str = account_id, tenant_id: str = tenant_id) -> None:
            turn = await books.open(account_id, tenant_id)
            grants = list(turn.grants.values())
            await books.write(turn, Change(grants=grants, cause=CAUSE, actor=SYSTEM))

        await ledger.transact(account_id, work)
        count += 1
    return count
