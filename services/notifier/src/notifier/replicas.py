"""How many processes of the notifier there are: an owner's bounds hold for all of them together."""

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from notifier.clock import ServerClock
from notifier.store import expire_after

if TYPE_CHECKING:
    from shared.mongo import Collection, Database

ALIVE = timedelta(seconds=15)


class Replicas:
    """This process among the others; each says now and then that it is there."""

    def __init__(self, database: "Database", clock: ServerClock) -> None:
        self._rows: Collection = database["processes"]
        self._clock = clock
        self._id = uuid4().hex

    async def create_indexes(self) -> None:
        """Make the index; idempotent."""
        await expire_after(self._rows, "seen_at", 3600)

    async def count(self) -> int:
        """Say that this process is there; how many have said so lately."""
        now = self._clock.now()
        await self._rows.update_one({"_id": self._id}, {"$set": {"seen_at": now}}, upsert=True)
        return max(1, await self._rows.count_documents({"seen_at": {"$gt": now - ALIVE}}))

    async def leave(self) -> None:
        """This process ends."""
        await self._rows.delete_one({"_id": self._id})
