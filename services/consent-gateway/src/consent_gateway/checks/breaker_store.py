"""The breakers of our client registrations in MongoDB: what one replica opens, all of them see, and apps are told."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pymongo.errors import DuplicateKeyError, PyMongoError

from consent_gateway.catalog.model import Catalog
from consent_gateway.checks.registrations import Breaker, Why
from consent_gateway.grants.store import DUE
from shared.events import GATEWAY, RegistrationStatusChanged, new_event
from shared.mongo import transaction
from shared.outbox import Outbox
from shared.topics import CONSENT_EVENTS

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document, Session

LEAST_SPREAD_SECONDS = 30.0
WORKING = "working"
# What readers are told of an open breaker, by why it is open.
_STATUS = {str(Why.REFUSED): "failing", str(Why.MASS_REMOVAL): "held"}


class BreakerStore:
    """One document for each client registration that ever had trouble; ``token`` counts its changes.

    A change and its event are one transaction: whoever makes it, over all replicas, it is told once.
    """

    def __init__(
        self,
        database: "Database",
        catalog: Catalog,
        *,
        per_second: float,
        most_seconds: float,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._outbox = Outbox(database)
        self._committed = committed
        self._registrations: Collection = database["registrations"]
        self._grants: Collection = database["grants"]
        self._per_second = per_second
        self._most_seconds = most_seconds
        self._clock = clock

    async def open(
        self, client_id: str, *, why: str, next_try_at: datetime | None, error_code: str | None = None
    ) -> bool:
        """Open it; True for the one caller that did."""
        fields = {"state": "open", "why": why, "next_try_at": next_try_at}
        status = _STATUS.get(why, why)
        return await self._change(client_id, "open", fields, status=status, error_code=error_code)

    async def close(self, client_id: str, *, why: str | None = None) -> bool:
        """Close it, and let what became due meanwhile be due little by little; True for the one caller that did.

        With ``why``, only if that is why it is open.
        """
        found = await self._registrations.find_one({"_id": client_id, "state": "open"})
        if found is None or why not in {None, found["why"]}:
            return False
        # Nothing of it is claimed before it is closed. What can't be spread out is only claimed sooner.
        with suppress(PyMongoError):
            await self._spread(client_id)
        return await self._change(
            client_id, "closed", {"state": "closed", "next_try_at": None}, status=WORKING, why=why
        )

    async def _change(
        self,
        client_id: str,
        state: str,
        fields: "Document",
        *,
        status: str,
        why: str | None = None,
        error_code: str | None = None,
    ) -> bool:
        """Bring it into another state, and tell so; False where it is in that state, or was never out of `closed`.

        With ``why``, also False where it is in the other state for another reason.
        """
        now = self._clock()

        async def work(session: "Session") -> bool:
            before = await self._registrations.find_one({"_id": client_id}, session=session) or {"state": "closed"}
            if before["state"] == state or why not in {None, before.get("why")}:
                return False
            told = status_of(before)
            # The one key of the platform has no revision of its own: the clock orders its events, and this one's own.
            revision = max(int(now.timestamp() * 1000), before.get("revision", 0) + 1)
            await self._registrations.update_one(
                {"_id": client_id},
                {"$set": {**fields, "since": now, "revision": revision}, "$inc": {"token": 1}},
                upsert=True,
                session=session,
            )
            event = RegistrationStatusChanged(
                registration=self._registration(client_id),
                client_id=client_id,
                status=status,
                previous_status=told,
                error_code=error_code,
                occurred_at=now,
            )
            await self._outbox.add(session, CONSENT_EVENTS, new_event(GATEWAY, event), revision=revision)
            return True

        try:
            changed = await transaction(self._database, work)
        except DuplicateKeyError:
            # Somebody made it meanwhile: it is there, and open.
            return False
        if changed:
            self._committed()
        return changed

    def _registration(self, client_id: str) -> str:
        names = (one.registration for one in self._catalog.sets.values() if one.client_id == client_id)
        return next(names, client_id)

    async def confirm(self, client_id: str, *, until: datetime) -> bool:
        """Close it on an operator's word, and believe removals until then; False where none is open.

        Where they are not believed, what was counted against grants before counts no more: it may have been our fault,
        and if it still is, it holds the registration again instead of taking them away.
        """
        if until <= self._clock() and await self._registrations.find_one({"_id": client_id, "state": "open"}):
            doubted = {"client_id": client_id, "check.negatives": {"$gt": 0}}
            anew = {"check.negatives": 0, "check.negatives_since": None}
            await self._grants.update_many(doubted, {"$set": anew})
        closed = await self.close(client_id)
        if closed:
            await self._registrations.update_one({"_id": client_id}, {"$set": {"confirmed_until": until}})
        return closed

    async def standings(self) -> "dict[str, Document]":
        """`status`, `since` and `confirmed_until` of every registration that ever had trouble, by client id."""
        now = self._clock()
        return {
            one["_id"]: {
                "status": status_of(one),
                "since": one["since"],
                "confirmed_until": until if (until := one.get("confirmed_until")) is not None and until > now else None,
            }
            for one in await self._registrations.find({}).to_list(None)
        }

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


def status_of(document: "Document") -> str:
    """What readers are told of a registration: failing, held or working."""
    return _STATUS.get(document["why"], str(document["why"])) if document["state"] == "open" else WORKING
