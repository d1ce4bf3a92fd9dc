"""Attempts in MongoDB: every state is consumed by one atomic update, exactly once."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pymongo import ASCENDING, ReturnDocument

from consent_gateway.attempts import Attempt, Leg, Phase
from consent_gateway.documents import attempt_document, attempt_of, leg_document
from consent_gateway.errors import Kind

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document, Session

KEEP = timedelta(days=90)


class AttemptStore:
    """The attempts. A closed attempt is kept for a while, for the page that shows it and for support."""

    def __init__(self, database: "Database") -> None:
        self._attempts: Collection = database["attempts"]

    async def create_indexes(self) -> None:
        """Every look-up by a secret goes over its hash."""
        await self._attempts.create_index([("states", ASCENDING)])
        await self._attempts.create_index([("link_hash", ASCENDING)], sparse=True)
        await self._attempts.create_index([("account_id", ASCENDING), ("created_at", ASCENDING)])
        await self._attempts.create_index("purge_at", expireAfterSeconds=0)

    async def insert(self, attempt: Attempt, *, link_hash: str | None = None) -> None:
        """Keep a new attempt."""
        document = attempt_document(attempt) | {"purge_at": attempt.created_at + KEEP}
        if link_hash is not None:
            document["link_hash"] = link_hash
        await self._attempts.insert_one(document)

    async def take(
        self, *, state_hash: str, session_hash: str, account_id: str, phase: Phase, now: datetime
    ) -> Attempt | None:
        """Consume the state: the attempt as it was, with its leg, or None. At most one caller ever gets it."""
        run = uuid4().hex
        # The drivers' types don't say that there may be none.
        document: Any = await self._attempts.find_one_and_update(
            {
                "leg.state_hash": state_hash,
                "states": state_hash,
                "session_hash": session_hash,
                "account_id": account_id,
                "phase": str(phase),
                "expires_at": {"$gt": now},
            },
            {"$set": {"phase": str(Phase.TAKEN), "run": run, "leg": None}},
            return_document=ReturnDocument.BEFORE,
        )
        return attempt_of(document | {"phase": str(Phase.TAKEN), "run": run}) if document is not None else None

    async def why_not(self, *, state_hash: str, session_hash: str | None, phase: Phase, now: datetime) -> Kind | None:
        """Why ``take`` found nothing, None where the state itself is good; only reads."""
        document = await self._attempts.find_one({"states": state_hash})
        if document is None:
            return Kind.UNKNOWN
        if session_hash is None or document.get("session_hash") != session_hash:
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

    async def follow(
        self, *, link_hash: str, account_id: str, session_hash: str, leg: Leg, expires_at: datetime, now: datetime
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

    async def close(
        self,
        attempt: Attempt,
        *,
        now: datetime,
        session: "Session",
        tenant_id: str | None,
        failure: Kind | None = None,
        stage: str | None = None,
        error_code: str | None = None,
    ) -> bool:
        """End a taken attempt inside a transaction; False when it isn't ours any more."""
        result = await self._attempts.update_one(
            {"_id": attempt.id, "phase": str(Phase.TAKEN), "run": attempt.run},
            {
                "$set": {
                    "phase": str(Phase.CLOSED),
                    "leg": None,
                    "run": None,
                    "tenant_id": tenant_id,
                    "failure": str(failure) if failure is not None else None,
                    "stage": stage,
                    "error_code": error_code,
                    "closed_at": now,
                }
            },
            session=session,
        )
        return bool(result.matched_count)

    async def progress(
        self, attempt: Attempt, *, remaining: tuple[str, ...], tenant_id: str, session: "Session", now: datetime
    ) -> bool:
        """Note inside a transaction that some sets were granted; the last ones close the attempt."""
        fields: Document = {"remaining": list(remaining), "tenant_id": tenant_id}
        if not remaining:
            fields |= {"phase": str(Phase.CLOSED), "leg": None, "run": None, "closed_at": now}
        result = await self._attempts.update_one(
            {"_id": attempt.id, "phase": str(Phase.TAKEN), "run": attempt.run}, {"$set": fields}, session=session
        )
        return bool(result.matched_count)
