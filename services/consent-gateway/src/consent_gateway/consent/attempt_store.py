"""Attempts in MongoDB: every state is consumed by one atomic update, exactly once."""

from collections.abc import Collection as Ids
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pymongo import ASCENDING, DESCENDING, ReturnDocument

from consent_gateway.consent.attempts import Attempt, Browser, Leg, Phase, Proven
from consent_gateway.errors import Kind
from consent_gateway.grants.documents import attempt_document, attempt_of, leg_document

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

KEEP = timedelta(days=90)
# Phases in which an attempt waits for somebody.
WAITING = (Phase.LINK, Phase.CONSENT, Phase.PROOF, Phase.CONFIRM, Phase.AWAITING)


class AttemptStore:
    """The attempts. A closed attempt is kept for a while, for the page that shows it and for support."""

    def __init__(self, database: "Database") -> None:
        self._attempts: Collection = database["attempts"]

    async def create_indexes(self) -> None:
        """Every look-up by a secret goes over its hash."""
        await self._attempts.create_index([("states", ASCENDING)])
        await self._attempts.create_index([("link_hash", ASCENDING)], sparse=True)
        await self._attempts.create_index([("account_id", ASCENDING), ("created_at", ASCENDING)])
        await self._attempts.create_index([("phase", ASCENDING), ("expires_at", ASCENDING)])
        await self._attempts.create_index([("session_hash", ASCENDING), ("phase", ASCENDING)])
        await self._attempts.create_index(
            [("invitation_id", ASCENDING)], partialFilterExpression={"invitation_id": {"$type": "string"}}
        )
        await self._attempts.create_index("purge_at", expireAfterSeconds=0)

    async def insert(self, attempt: Attempt, *, link_hash: str | None = None) -> None:
        """Keep a new attempt."""
        document = attempt_document(attempt) | {"purge_at": attempt.created_at + KEEP}
        if link_hash is not None:
            document["link_hash"] = link_hash
        await self._attempts.insert_one(document)

    async def open_of_session(self, session_hash: str, *, now: datetime) -> int:
        """How many attempts of the browser session wait for something."""
        waiting = {"session_hash": session_hash, "phase": {"$in": [str(one) for one in WAITING]}}
        return await self._attempts.count_documents(waiting | {"expires_at": {"$gt": now}})

    async def open_of_invitation(self, invitation_id: str, *, now: datetime) -> int:
        """How many runs of an invitation wait for something."""
        waiting = {"invitation_id": invitation_id, "phase": {"$in": [str(one) for one in WAITING]}}
        return await self._attempts.count_documents(waiting | {"expires_at": {"$gt": now}})

    async def take(
        self,
        *,
        state_hash: str,
        session_hash: str,
        account_id: str | None,
        phase: Phase,
        now: datetime,
        browser: Browser | None = None,
    ) -> Attempt | None:
        """Consume the state: the attempt as it was, with its leg, or None. At most one caller ever gets it.

        ``account_id`` is that of the person who is signed in; None takes the attempt of an invitation.
        """
        run = uuid4().hex
        whose: Document = {"account_id": account_id, "invitation_id": None}
        # The drivers' types don't say that there may be none.
        document: Any = await self._attempts.find_one_and_update(
            {
                "leg.state_hash": state_hash,
                "states": state_hash,
                "session_hash": session_hash,
                "phase": str(phase),
                "expires_at": {"$gt": now},
                **(whose if account_id is not None else {"invitation_id": {"$type": "string"}}),
            },
            {
                "$set": {
                    "phase": str(Phase.TAKEN),
                    "run": run,
                    "leg": None,
                    "last_from": asdict(browser) if browser is not None else None,
                }
            },
            return_document=ReturnDocument.BEFORE,
        )
        return attempt_of(document | {"phase": str(Phase.TAKEN), "run": run}) if document is not None else None

    async def why_not(self, *, state_hash: str, bindings: Ids[str], phase: Phase, now: datetime) -> Kind | None:
        """Why ``take`` found nothing, None where the state itself is good; only reads."""
        document = await self._attempts.find_one({"states": state_hash})
        if document is None:
            return Kind.UNKNOWN
        if document.get("session_hash") not in bindings:
            return Kind.OTHER_BROWSER
        leg: Document | None = document.get("leg")
        if leg is None or leg["state_hash"] != state_hash:
            return Kind.USED
        if document["phase"] != phase:
            return Kind.UNKNOWN
        return Kind.EXPIRED if document["expires_at"] <= now else None

    async def send(self, attempt: Attempt, *, phase: Phase, leg: Leg, expires_at: datetime) -> bool:
        """Give a taken attempt its next leg; False when it isn't ours any more."""
        result = await self._attempts.update_one(
            {"_id": attempt.id, "phase": str(Phase.TAKEN), "run": attempt.run},
            {
                "$set": {"phase": str(phase), "leg": leg_document(leg), "run": None, "expires_at": expires_at},
                "$push": {"states": leg.state_hash},
            },
        )
        return bool(result.matched_count)

    async def identify(self, attempt: Attempt, *, proven: Proven) -> bool:
        """Have a taken attempt wait for the invited person's yes; False when it isn't ours any more."""
        result = await self._attempts.update_one(
            {"_id": attempt.id, "phase": str(Phase.TAKEN), "run": attempt.run},
            {
                "$set": {
                    "phase": str(Phase.CONFIRM),
                    "run": None,
                    "tenant_id": proven.tenant_id,
                    "proven": asdict(proven),
                }
            },
        )
        return bool(result.matched_count)

    async def awaiting_yes(self, session_hash: str, *, now: datetime) -> Attempt | None:
        """The attempt of an invited browser that waits for the person's yes."""
        document = await self._attempts.find_one(
            {"session_hash": session_hash, "phase": str(Phase.CONFIRM), "expires_at": {"$gt": now}}
        )
        return attempt_of(document) if document is not None else None

    async def take_awaiting(self, attempt_id: str, *, follower: str, now: datetime) -> Attempt | None:
        """Take an attempt that waits for an operator, for that operator; at most one caller ever gets it."""
        run = uuid4().hex
        document: Any = await self._attempts.find_one_and_update(
            {"_id": attempt_id, "phase": str(Phase.AWAITING), "expires_at": {"$gt": now}},
            {"$set": {"phase": str(Phase.TAKEN), "run": run, "follower": follower}},
            return_document=ReturnDocument.AFTER,
        )
        return attempt_of(document) if document is not None else None

    async def follow(
        self,
        *,
        link_hash: str,
        account_id: str,
        session_hash: str,
        subject: str,
        leg: Leg,
        expires_at: datetime,
        now: datetime,
        browser: Browser | None = None,
    ) -> bool:
        """Bind a link's attempt to a browser session, once; False when there is nothing to bind."""
        result = await self._attempts.update_one(
            {
                "link_hash": link_hash,
                "account_id": account_id,
                "phase": str(Phase.LINK),
                "expires_at": {"$gt": now},
            },
            {
                "$set": {
                    "phase": str(Phase.CONSENT),
                    "session_hash": session_hash,
                    "follower": subject,
                    "started_from": asdict(browser) if browser is not None else None,
                    "leg": leg_document(leg),
                    "expires_at": expires_at,
                },
                "$push": {"states": leg.state_hash},
            },
        )
        return bool(result.matched_count)

    async def of_link(self, link_hash: str) -> Attempt | None:
        """The attempt of a link."""
        document = await self._attempts.find_one({"link_hash": link_hash})
        return attempt_of(document) if document is not None else None

    async def get(self, attempt_id: str) -> Attempt | None:
        """The attempt."""
        document = await self._attempts.find_one({"_id": attempt_id})
        return attempt_of(document) if document is not None else None

    async def failed(self, account_id: str, *, kinds: Ids[str], since: datetime, limit: int = 50) -> list[Attempt]:
        """Runs of the account that ended for one of these reasons and were not cleared, newest first."""
        ended: Document = {"phase": str(Phase.CLOSED), "failure": {"$in": sorted(kinds)}, "cleared_at": None}
        query = {"account_id": account_id, "created_at": {"$gt": since}, **ended}
        found = await self._attempts.find(query).sort("created_at", DESCENDING).to_list(limit)
        return [attempt_of(document) for document in found]

    async def clear(self, attempt_id: str, account_id: str, *, now: datetime) -> bool:
        """Show the account a failed run no more, nor those before it that asked for the same; False without such a run.

        What happened stays in the attempt and in the history.
        """
        mine: Document = {"account_id": account_id, "phase": str(Phase.CLOSED), "failure": {"$type": "string"}}
        document = await self._attempts.find_one({"_id": attempt_id, **mine})
        if document is None:
            return False
        same = {name: document.get(name) for name in ("failure", "remaining", "tenant_id")}
        earlier = {**mine, **same, "created_at": {"$lte": document["created_at"]}, "cleared_at": None}
        await self._attempts.update_many(earlier, {"$set": {"cleared_at": now}})
        return True

    async def overdue(self, *, now: datetime, grace: timedelta, limit: int) -> list[Attempt]:
        """Attempts whose time is over: those that wait for somebody, and those that whoever took them left behind."""
        waiting = {"phase": {"$in": [str(one) for one in WAITING]}, "expires_at": {"$lte": now}}
        left = {"phase": str(Phase.TAKEN), "expires_at": {"$lte": now - grace}}
        found = await self._attempts.find({"$or": [waiting, left]}).sort("expires_at", ASCENDING).to_list(limit)
        return [attempt_of(document) for document in found]
