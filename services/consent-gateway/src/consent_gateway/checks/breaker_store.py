"""The breakers of our client registrations in MongoDB: what one replica opens, all of them see."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pymongo.errors import DuplicateKeyError, PyMongoError

from consent_gateway.checks.registrations import Breaker
from consent_gateway.grants.store import DUE

if TYPE_CHECKING:
    from shared.mongo import Collection, Database

LEAST_SPREAD_SECONDS = 30.0


class BreakerStore:
    """One document for each client registration that ever had trouble; ``token`` counts its changes."""

    def __init__(
        self, database: "Database", *, per_second: float, most_seconds: float, clock: Callable[[], datetime]
    ) -> None:
        self._registrations: Collection = database["registrations"]
        self._grants: Collection = database["grants"]
        self._per_second = per_second
        self._most_seconds = most_seconds
        self._clock = clock

    async def open(self, client_id: str, *, why: str, next_try_at: datetime | None) -> bool:
        """Open it; True for the one caller that did."""
        change = {"state": "open", "why": why, "since": self._clock(), "next_try_at": next_try_at}
        try:
            result = await self._registrations.update_one(
                {"_id": client_id, "state": {"$ne": "open"}}, {"$set": change, "$inc": {"token": 1}}, upsert=True
            )
        except DuplicateKeyError:
            # It is there, and open.
            return False
        return bool(result.matched_count or result.upserted_id is not None)

    async def close(self, client_id: str) -> bool:
        """Close it, and let what became due meanwhile be due little by little; True for the one caller that did."""
        if await self._registrations.find_one({"_id": client_id, "state": "open"}) is None:
            return False
        # Nothing of it is claimed before it is closed. What can't be spread out is only claimed sooner.
        with suppress(PyMongoError):
            await self._spread(client_id)
        change = {"state": "closed", "since": self._clock(), "next_try_at": None}
        result = await self._registrations.update_one(
            {"_id": client_id, "state": "open"}, {"$set": change, "$inc": {"token": 1}}
        )
        return bool(result.modified_count)

    async def confirm(self, client_id: str, *, until: datetime) -> bool:
        """Close it on an operator's word, and believe removals until then; False where none is open."""
        closed = await self.close(client_id)
        if closed:
            await self._registrations.update_one({"_id": client_id}, {"$set": {"confirmed_until": until}})
        return closed

    async def take_try(self, client_id: str, *, now: datetime, next_try_at: datetime) -> bool:
        """Whether it is the caller's turn to try."""
        result = await self._registrations.update_one(
            {"_id": client_id, "state": "open", "next_try_at": {"$lte": now}}, {"$set": {"next_try_at": next_try_at}}
        )
        return bool(result.modified_count)

    async def opened(self) -> tuple[list[Breaker], frozenset[str]]:
        """Those that are open, and the clients whose removals an operator has confirmed."""
        documents = await self._registrations.find({}).to_list(None)
        now = self._clock()
        found = [
            Breaker(client_id=one["_id"], why=one["why"], next_try_at=one["next_try_at"])
            for one in documents
            if one["state"] == "open"
        ]
        confirmed = (one["_id"] for one in documents if (one.get("confirmed_until") or now) > now)
        return found, frozenset(confirmed)

    async def _spread(self, client_id: str) -> None:
        now = self._clock()
        overdue = {"client_id": client_id, "check.next_at": {"$lte": now, **DUE}}
        waiting = await self._grants.count_documents(overdue)
        seconds = min(max(waiting / self._per_second, LEAST_SPREAD_SECONDS), self._most_seconds)
        later = {"$add": [now, {"$multiply": [{"$rand": {}}, timedelta(seconds=seconds) // timedelta(milliseconds=1)]}]}
        await self._grants.update_many(overdue, [{"$set": {"check.next_at": later}}])
