"""Transfers in MongoDB. The loser's end and the winner's beginning are one transaction, over both accounts."""

import secrets
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pymongo import ASCENDING, DESCENDING

from consent_gateway.consent.attempts import Attempt, Person
from consent_gateway.consent.transfers import LIFE, Transfer, TransferStatus
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.change import Change
from consent_gateway.grants.grants import Grant, Reason, accept, gone
from consent_gateway.grants.ledger import Books
from shared.events import Actor

if TYPE_CHECKING:
    from consent_gateway.catalog.model import Catalog
    from consent_gateway.grants.ledger import Ledger
    from shared.mongo import Collection, Database, Document, Session

KEEP = timedelta(days=90)
CAUSE = "transfer"


class TransferRecords:
    """The transfers. One account asks for one tenant at most once at a time."""

    def __init__(self, database: "Database", catalog: "Catalog", ledger: "Ledger") -> None:
        self._transfers: Collection = database["transfers"]
        self._catalog = catalog
        self._ledger = ledger

    async def create_indexes(self) -> None:
        """The uniqueness rule, and the two lists."""
        await self._transfers.create_index(
            [("tenant_id", ASCENDING), ("to_account", ASCENDING)],
            unique=True,
            partialFilterExpression={"status": str(TransferStatus.PENDING)},
            name="one_pending",
        )
        await self._transfers.create_index([("from_account", ASCENDING), ("_id", DESCENDING)])
        await self._transfers.create_index([("to_account", ASCENDING), ("_id", DESCENDING)])
        await self._transfers.create_index([("attempt_id", ASCENDING)])
        await self._transfers.create_index("purge_at", expireAfterSeconds=0)

    async def of_attempt(self, attempt_id: str) -> Transfer | None:
        """The transfer that an attempt asked for."""
        return _of(await self._transfers.find_one({"attempt_id": attempt_id}))

    async def of_account(self, account_id: str, *, limit: int) -> list[Transfer]:
        """Those from and to the account, newest first."""
        mine = {"$or": [{"from_account": account_id}, {"to_account": account_id}]}
        found = await self._transfers.find(mine).sort("_id", DESCENDING).to_list(limit)
        return [transfer for document in found if (transfer := _of(document)) is not None]

    async def request(self, attempt: Attempt, *, person: Person, claimant: str | None, now: datetime) -> Transfer:
        """Ask the tenant's holder; the same one again where that was done.

        Raises:
            Refused: conflict, nobody holds the tenant any more.
        """
        proven = attempt.proven
        if proven is None:
            raise Refused(Kind.CONFLICT)

        async def work(books: Books) -> Transfer:
            mine = {"tenant_id": proven.tenant_id, "to_account": attempt.account_id}
            pending = {**mine, "status": str(TransferStatus.PENDING)}
            known = _of(await self._transfers.find_one(pending, session=books.session))
            if known is not None and now < known.expires_at:
                return known
            if known is not None:
                over = {"$set": {"status": str(TransferStatus.EXPIRED)}}
                await self._transfers.update_one({"_id": known.id}, over, session=books.session)
            holders = [one for one in await books.holders(proven.tenant_id) if one != attempt.account_id]
            if len(holders) != 1:
                raise Refused(Kind.CONFLICT, "The tenant is free now: start again.")
            transfer = Transfer(
                id=f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(10)}",
                tenant_id=proven.tenant_id,
                from_account=holders[0],
                to_account=attempt.account_id,
                claimant=claimant,
                permission_set_ids=tuple(one.id for one in self._catalog.next_accepted(attempt.remaining)),
                administrator=proven.object_id,
                attempt_id=attempt.id,
                requested_by=person.subject,
                status=TransferStatus.PENDING,
                created_at=now,
                expires_at=now + LIFE,
            )
            await self._transfers.insert_one(_document(transfer), session=books.session)
            return transfer

        return await self._ledger.transact(attempt.account_id, work)

    async def accept(
        self, transfer_id: str, account_id: str, *, actor: Actor, now: datetime, verify_until: datetime
    ) -> tuple[Transfer, tuple[Grant, ...]]:
        """End what this account has on the tenant, and begin what the other one was proven to be allowed to have.

        Raises:
            Refused: not_found, expired, conflict; nothing was written.
        """
        known = _of(await self._transfers.find_one({"_id": transfer_id, "from_account": account_id}))
        if known is None:
            raise Refused(Kind.NOT_FOUND, "There is no such transfer.")

        async def work(books: Books) -> tuple[Transfer, tuple[Grant, ...]]:
            transfer = await self._take(transfer_id, now, books.session)
            if await books.holders(transfer.tenant_id) != [account_id]:
                raise Refused(Kind.CONFLICT, "Your account does not hold the tenant any more.")
            losing = await books.open(account_id, transfer.tenant_id)
            ended = [gone(grant, Reason.DISCONNECTED) for grant in losing.grants.values() if grant.live]
            await books.write(losing, Change(grants=ended, removed=str(Reason.DISCONNECTED), cause=CAUSE, actor=actor))
            return transfer, await self._begin(books, transfer, now=now, verify_until=verify_until)

        return await self._ledger.transact(account_id, work, also=known.to_account)

    async def _take(self, transfer_id: str, now: datetime, session: "Session") -> Transfer:
        transfer = _of(await self._transfers.find_one({"_id": transfer_id}, session=session))
        if transfer is None or transfer.status is not TransferStatus.PENDING:
            raise Refused(Kind.CONFLICT, "The tenant was given away already.")
        if now >= transfer.expires_at:
            raise Refused(Kind.EXPIRED, "The request is older than seven days; it would have to be made again.")
        accepted = {"$set": {"status": str(TransferStatus.ACCEPTED), "accepted_at": now}}
        await self._transfers.update_one({"_id": transfer_id}, accepted, session=session)
        return replace(transfer, status=TransferStatus.ACCEPTED)

    async def _begin(
        self, books: Books, transfer: Transfer, *, now: datetime, verify_until: datetime
    ) -> tuple[Grant, ...]:
        gaining = await books.open(transfer.to_account, transfer.tenant_id)
        sets = [self._catalog.sets[one] for one in transfer.permission_set_ids if one in self._catalog.sets]
        if not sets:
            raise Refused(Kind.CONFLICT, "What was asked for is no longer in the catalogue.")
        grants = [
            accept(
                gaining.grants.get(one.id),
                one,
                account_id=transfer.to_account,
                tenant_id=transfer.tenant_id,
                administrator=transfer.administrator,
                attempt_id=transfer.attempt_id,
                now=now,
                verify_until=verify_until,
                first_check_at=now,
            )
            for one in sets
        ]
        change = Change(
            grants=grants,
            accepted=frozenset(one.id for one in sets),
            cause=CAUSE,
            actor=Actor(kind="administrator", id=transfer.administrator),
        )
        return await books.write(gaining, change)


def _document(transfer: Transfer) -> "Document":
    document: Document = asdict(transfer)
    document["_id"] = document.pop("id")
    document["status"] = str(transfer.status)
    document["permission_set_ids"] = list(transfer.permission_set_ids)
    return document | {"purge_at": transfer.expires_at + KEEP}


def _of(document: "Document | None") -> Transfer | None:
    if document is None:
        return None
    fields = {name: document[name] for name in Transfer.__dataclass_fields__ if name in document}
    return Transfer(
        **fields
        | {
            "id": document["_id"],
            "status": TransferStatus(document["status"]),
            "permission_set_ids": tuple(document["permission_set_ids"]),
        }
    )
