"""Slots: an app that may use one tenant only, and the tenant it uses. Always inside a transaction."""

from typing import TYPE_CHECKING

from consent_gateway.grants.documents import slot_id
from shared.events import HeldApp

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Session


class Slots:
    """The slots of an account, seen and written through one transaction.

    Whoever decides on a slot writes it, also where it stays as it was: two transactions that decide on the same slot
    then conflict, and one of them looks again. ``epoch`` grows whenever the app starts to use another tenant.
    """

    def __init__(self, database: "Database", session: "Session", account_id: str) -> None:
        self._slots: Collection = database["slots"]
        self._session = session
        self._account_id = account_id

    async def take(self, app_id: str, tenant_id: str, *, move: bool = False) -> int | HeldApp:
        """The epoch since which the app uses this tenant, or the tenant that it uses instead."""
        key = slot_id(self._account_id, app_id)
        document = await self._slots.find_one({"_id": key}, session=self._session)
        if document is None:
            await self._slots.insert_one(
                {
                    "_id": key,
                    "account_id": self._account_id,
                    "app_id": app_id,
                    "tenant_id": tenant_id,
                    "epoch": 1,
                    "counter": 1,
                },
                session=self._session,
            )
            return 1
        holder, epoch = document["tenant_id"], int(document["epoch"])
        if holder not in {None, tenant_id} and not move:
            await self._touch(key, {})
            return HeldApp(app_id=app_id, tenant_id=holder, epoch=epoch)
        if holder != tenant_id:
            epoch += 1
        await self._touch(key, {"tenant_id": tenant_id, "epoch": epoch})
        return epoch

    async def holder(self, app_id: str) -> str | None:
        """The tenant that the app uses; relied on, so written."""
        key = slot_id(self._account_id, app_id)
        document = await self._slots.find_one({"_id": key}, session=self._session)
        if document is None:
            return None
        await self._touch(key, {})
        return str(document["tenant_id"]) if document["tenant_id"] is not None else None

    async def release(self, app_id: str, tenant_id: str) -> bool:
        """The tenant no longer has the app: another tenant may. False when the tenant did not have it."""
        result = await self._slots.update_one(
            {"_id": slot_id(self._account_id, app_id), "tenant_id": tenant_id},
            {"$set": {"tenant_id": None}, "$inc": {"counter": 1}},
            session=self._session,
        )
        return bool(result.matched_count)

    async def _touch(self, key: str, fields: dict[str, object]) -> None:
        change: dict[str, object] = {"$inc": {"counter": 1}}
        if fields:
            change["$set"] = fields
        await self._slots.update_one({"_id": key}, change, session=self._session)
