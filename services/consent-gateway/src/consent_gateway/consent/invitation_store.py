"""Invitations in MongoDB: a link is kept as a hash, and each step from one status to the next happens once."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pymongo import ASCENDING, DESCENDING

from consent_gateway.consent.attempts import Proven
from consent_gateway.consent.invited import Invitation, InvitationStatus
from shared.mongo import transaction

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document, Session

# What became of an invitation can be read for so long.
KEEP = timedelta(days=90)


class InvitationStore:
    """The invitations."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._invitations: Collection = database["invitations"]

    async def create_indexes(self) -> None:
        """A token leads to one invitation; an account's are read newest first."""
        await self._invitations.create_index([("token_hash", ASCENDING)], unique=True)
        await self._invitations.create_index([("account_id", ASCENDING), ("_id", DESCENDING)])
        await self._invitations.create_index("purge_at", expireAfterSeconds=0)

    async def insert(self, invitations: Sequence[tuple[Invitation, str]]) -> None:
        """Keep new invitations, each with the hash of its token: all of them, or none."""
        documents = [_document(invitation, token_hash) for invitation, token_hash in invitations]
        if len(documents) == 1:
            await self._invitations.insert_one(documents[0])
            return

        async def work(session: "Session") -> None:
            await self._invitations.insert_many(documents, session=session)

        await transaction(self._database, work)

    async def open_of(self, account_id: str, *, now: datetime) -> int:
        """How many of the account's invitations wait to be opened."""
        waiting = {"status": str(InvitationStatus.PENDING), "expires_at": {"$gt": now}}
        return await self._invitations.count_documents({"account_id": account_id, **waiting})

    async def of_token(self, token_hash: str) -> Invitation | None:
        """The invitation of a link."""
        return _of(await self._invitations.find_one({"token_hash": token_hash}))

    async def get(self, account_id: str, invitation_id: str) -> Invitation | None:
        """An invitation of the account."""
        return _of(await self._invitations.find_one({"_id": invitation_id, "account_id": account_id}))

    async def of_account(self, account_id: str, *, limit: int, before: str | None) -> list[Invitation]:
        """The account's invitations, newest first; ``before`` is the last id of the page before."""
        query: Document = {"account_id": account_id}
        if before is not None:
            query["_id"] = {"$lt": before}
        found = await self._invitations.find(query).sort("_id", DESCENDING).to_list(limit)
        return [invitation for document in found if (invitation := _of(document)) is not None]

    async def consume(self, invitation_id: str, *, attempt_id: str, now: datetime, session: "Session") -> bool:
        """Let this run, and no other one, use the link; False when that is over."""
        return await self._step(
            {"_id": invitation_id, "status": str(InvitationStatus.PENDING), "expires_at": {"$gt": now}},
            {"status": str(InvitationStatus.OPENED), "attempt_id": attempt_id},
            session,
        )

    async def advance(
        self,
        invitation_id: str,
        *,
        attempt_id: str,
        status: InvitationStatus,
        session: "Session",
        proven: Proven | None = None,
        reason: str | None = None,
        expires_at: datetime | None = None,
        came_from: tuple[InvitationStatus, ...] = (InvitationStatus.OPENED,),
    ) -> bool:
        """Note how far the run has come that uses the link; False when it doesn't (any more)."""
        fields: Document = {"status": str(status), "reason": reason}
        if proven is not None:
            fields["proven"] = asdict(proven)
        if expires_at is not None:
            fields["expires_at"] = expires_at
        where = {"_id": invitation_id, "attempt_id": attempt_id, "status": {"$in": [str(one) for one in came_from]}}
        return await self._step(where, fields, session)

    async def revoke(self, account_id: str, invitation_id: str, *, session: "Session") -> bool:
        """Let nobody use or finish it any more; False when there is nothing to take back."""
        open_ = (InvitationStatus.PENDING, InvitationStatus.OPENED, InvitationStatus.AWAITING_CONFIRMATION)
        where = {"_id": invitation_id, "account_id": account_id, "status": {"$in": [str(one) for one in open_]}}
        return await self._step(where, {"status": str(InvitationStatus.REVOKED)}, session)

    async def _step(self, where: "Document", fields: "Document", session: "Session") -> bool:
        # Also where nothing differs it is written: a revocation at the same moment then conflicts.
        change = {"$set": fields, "$inc": {"counter": 1}}
        return bool((await self._invitations.update_one(where, change, session=session)).matched_count)


def _document(invitation: Invitation, token_hash: str) -> "Document":
    document = asdict(invitation)
    document["_id"] = document.pop("id")
    document["status"] = str(invitation.status)
    document["permission_set_ids"] = list(invitation.permission_set_ids)
    return document | {"token_hash": token_hash, "purge_at": invitation.expires_at + KEEP}


def _of(document: "Document | None") -> Invitation | None:
    if document is None:
        return None
    proven: Document | None = document.get("proven")
    return Invitation(
        id=document["_id"],
        account_id=document["account_id"],
        account_name=document.get("account_name"),
        created_by=document["created_by"],
        permission_set_ids=tuple(document["permission_set_ids"]),
        tenant_id=document.get("tenant_id"),
        status=InvitationStatus(document["status"]),
        attempt_id=document.get("attempt_id"),
        proven=Proven(**proven) if proven else None,
        reason=document.get("reason"),
        created_at=document["created_at"],
        expires_at=document["expires_at"],
    )
