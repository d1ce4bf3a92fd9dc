"""One holder at a time, over any number of processes, with a fencing token that only grows."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

if TYPE_CHECKING:
    from shared.mongo import Collection, Document


class Lease:
    """A named lease in a collection. Time is the server's, so clocks of processes don't matter.

    A holder that was paused can't know that it lost the lease until it asks: whatever must not be done twice carries
    the token, and the world it touches refuses an older one.
    """

    def __init__(self, collection: "Collection", name: str, *, owner: str, seconds: float = 10.0) -> None:
        self._collection = collection
        self._name = name
        self._owner = owner
        self._milliseconds = int(seconds * 1000)

    async def acquire(self) -> int | None:
        """A new token, greater than all before, or None while somebody else holds the lease."""
        document = await self._take()
        if document is None and await self._create():
            document = await self._take()
        return None if document is None else int(document["token"])

    async def _take(self) -> "Document | None":
        until = {"$add": ["$$NOW", self._milliseconds]}
        taken: Document | None = await self._collection.find_one_and_update(
            {"_id": self._name, "$expr": {"$lt": ["$until", "$$NOW"]}},
            [{"$set": {"owner": self._owner, "until": until, "token": {"$add": ["$token", 1]}}}],
            return_document=ReturnDocument.AFTER,
        )
        return taken

    async def _create(self) -> bool:
        """Make the document, ended long ago; an upsert can't compare with the server's clock."""
        try:
            await self._collection.insert_one({"_id": self._name, "until": datetime.fromtimestamp(0, UTC), "token": 0})
        except DuplicateKeyError:
            return False
        return True

    async def renew(self, token: int) -> bool:
        """Hold on for another period; False when the lease was lost."""
        result = await self._collection.update_one(
            {"_id": self._name, "token": token, "$expr": {"$gte": ["$until", "$$NOW"]}},
            [{"$set": {"until": {"$add": ["$$NOW", self._milliseconds]}}}],
        )
        return bool(result.matched_count)

    async def release(self, token: int) -> None:
        """Let the next one take it at once."""
        await self._collection.update_one(
            {"_id": self._name, "token": token}, [{"$set": {"until": {"$subtract": ["$$NOW", 1]}}}]
        )
