"""Steps of attempts that are written together with something else: each is part of its caller's transaction."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from consent_gateway.consent.attempts import Attempt, Leg, Phase, Proven
from consent_gateway.errors import Kind
from consent_gateway.grants.documents import leg_document

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document, Session


class AttemptRecords:
    """Moves attempts on and ends them, each where it was left by whoever read it."""

    def __init__(self, database: "Database") -> None:
        self._attempts: Collection = database["attempts"]

    async def go_on(
        self, attempt: Attempt, *, leg: Leg, expires_at: datetime, session: "Session", now: datetime
    ) -> bool:
        """Send the invited person on after the yes; False when it isn't waited for any more."""
        result = await self._attempts.update_one(
            {"_id": attempt.id, "phase": str(Phase.CONFIRM), "expires_at": {"$gt": now}},
            {
                "$set": {"phase": str(Phase.CONSENT), "leg": leg_document(leg), "expires_at": expires_at},
                "$push": {"states": leg.state_hash},
            },
            session=session,
        )
        return bool(result.matched_count)

    async def progress(
        self,
        attempt: Attempt,
        *,
        remaining: tuple[str, ...],
        proven: Proven,
        session: "Session",
        now: datetime,
        held_until: datetime | None = None,
    ) -> bool:
        """Note that some sets were accepted; the last ones end the run.

        The end is the attempt's, or the wait for an operator where there is a ``held_until``.
        """
        fields: Document = {
            "remaining": list(remaining),
            "tenant_id": proven.tenant_id,
            "proven": asdict(proven),
        }
        if not remaining and held_until is not None:
            fields |= {"phase": str(Phase.AWAITING), "leg": None, "run": None, "expires_at": held_until}
        elif not remaining:
            fields |= {"phase": str(Phase.CLOSED), "leg": None, "run": None, "closed_at": now}
        result = await self._attempts.update_one(
            {"_id": attempt.id, "phase": str(Phase.TAKEN), "run": attempt.run}, {"$set": fields}, session=session
        )
        return bool(result.matched_count)

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
        detail: str | None = None,
        proven: Proven | None = None,
    ) -> bool:
        """End a taken attempt; False when it isn't ours any more."""
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
                    "detail": detail,
                    "proven": asdict(proven) if proven is not None else None,
                    "closed_at": now,
                }
            },
            session=session,
        )
        return bool(result.matched_count)

    async def withdraw(self, attempt: Attempt, *, session: "Session", now: datetime) -> bool:
        """End a waiting attempt, because its invitation was taken back."""
        return await self._end_waiting(attempt, Kind.WITHDRAWN, session=session, now=now)

    async def expire(self, attempt: Attempt, *, session: "Session", now: datetime) -> bool:
        """End an overdue attempt; False when it moved on meanwhile."""
        return await self._end_waiting(attempt, Kind.EXPIRED, session=session, now=now)

    async def _end_waiting(self, attempt: Attempt, kind: Kind, *, session: "Session", now: datetime) -> bool:
        if attempt.phase is Phase.CLOSED or (attempt.phase is Phase.TAKEN and kind is not Kind.EXPIRED):
            return False
        result = await self._attempts.update_one(
            {"_id": attempt.id, "phase": str(attempt.phase), "run": attempt.run, "expires_at": attempt.expires_at},
            {
                "$set": {
                    "phase": str(Phase.CLOSED),
                    "leg": None,
                    "run": None,
                    "failure": str(kind),
                    "stage": str(attempt.phase),
                    "closed_at": now,
                }
            },
            session=session,
        )
        return bool(result.matched_count)
