"""What the replicas counted of tenants that seem to leave, in MongoDB."""

from datetime import datetime
from typing import TYPE_CHECKING

from pymongo import ASCENDING

from consent_gateway.checks.mass import WINDOW

if TYPE_CHECKING:
    from shared.mongo import Collection, Database


class MassStore:
    """One document for each tenant that seems to leave a registration, and one for what each replica has checked."""

    def __init__(self, database: "Database") -> None:
        self._leaving: Collection = database["leaving_tenants"]
        self._checked: Collection = database["checked_tenants"]

    async def create_indexes(self) -> None:
        """What is counted, and the end of what counts no more."""
        await self._leaving.create_index([("client_id", ASCENDING), ("at", ASCENDING)])
        for each in (self._leaving, self._checked):
            await each.create_index("at", expireAfterSeconds=int(2 * WINDOW.total_seconds()), name="over")

    async def leaves(self, client_id: str, tenant_id: str, *, at: datetime) -> None:
        """Note that a tenant seems to leave."""
        key = f"{client_id}:{tenant_id}"
        await self._leaving.update_one(
            {"_id": key}, {"$set": {"client_id": client_id}, "$max": {"at": at}}, upsert=True
        )

    async def tell(self, client_id: str, *, replica: str, tenants: int, at: datetime) -> None:
        """Say how many tenants this replica has checked of late."""
        said = {"client_id": client_id, "replica": replica, "tenants": tenants, "at": at}
        await self._checked.update_one({"_id": f"{client_id}:{replica}"}, {"$set": said}, upsert=True)

    async def counted(self, client_id: str, *, replica: str, since: datetime) -> tuple[int, int]:
        """How many tenants seem to have left since then, and how many the other replicas have checked.

        What a replica said counts for as long as the window, also of one that is no longer there.
        """
        recent = {"client_id": client_id, "at": {"$gte": since}}
        gone = await self._leaving.count_documents(recent)
        others = await self._checked.find({**recent, "replica": {"$ne": replica}}, {"tenants": 1}).to_list(None)
        return gone, sum(one["tenants"] for one in others)
