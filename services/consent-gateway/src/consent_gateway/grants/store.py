"""Reading grants, and handing out those that are due for a check."""

from collections.abc import Collection as Ids
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pymongo import ASCENDING, DESCENDING, UpdateOne

from consent_gateway.checks.checks import Judgement
from consent_gateway.grants.documents import grant_id, grant_of, health_fields, tenant_doc_id, tenant_of
from consent_gateway.grants.grants import Grant, Tenant
from consent_gateway.grants.health_notes import Notes
from consent_gateway.people import People, administrator_id

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document


# MongoDB takes a partial index only for a query that says as much as the index does, and reads everything otherwise.
DUE = {"$type": "date"}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to check a grant until the lease ends; ``token`` fences whoever held it before."""

    grant: Grant
    token: int


class GrantStore:
    """Grants and tenants as they are. Changes go through the ledger."""

    def __init__(self, database: "Database") -> None:
        self._grants: Collection = database["grants"]
        self._tenants: Collection = database["tenants"]
        self._people = People(database)
        self._notes: Notes[UpdateOne] = Notes(lambda notes: self._grants.bulk_write(notes, ordered=False))

    async def create_indexes(self) -> None:
        """What is looked up by something else than its id."""
        await self._grants.create_index([("account_id", ASCENDING), ("tenant_id", ASCENDING)])
        await self._grants.create_index([("account_id", ASCENDING), ("accepted_at", DESCENDING)])
        await self._grants.create_index([("tenant_id", ASCENDING), ("permission_set_id", ASCENDING)])
        await self._grants.create_index([("account_id", ASCENDING), ("held_apps.app_id", ASCENDING)])
        await self._grants.create_index(
            [("check.next_at", ASCENDING)], partialFilterExpression={"check.next_at": DUE}, name="due"
        )
        await self._grants.create_index(
            [("client_id", ASCENDING)], partialFilterExpression={"check.negatives": {"$gt": 0}}, name="doubted"
        )
        await self._tenants.create_index([("account_id", ASCENDING), ("tenant_id", ASCENDING)])

    async def grants_of(self, account_id: str, *, limit: int = 200, after: str | None = None) -> list[Tenant]:
        """Tenants of the account with all of their grants, by tenant id; ``after`` is the last id of the page before.

        Tenants whose grants are all revoked are among them: the screen still says what happened to them.
        """
        query: dict[str, Any] = {"account_id": account_id}
        if after is not None:
            query["tenant_id"] = {"$gt": after}
        tenants = await self._tenants.find(query).sort("tenant_id", ASCENDING).limit(limit).to_list(limit)
        ids = [tenant["tenant_id"] for tenant in tenants]
        found = self._grants.find({"account_id": account_id, "tenant_id": {"$in": ids}})
        grants = [grant_of(document) for document in await found.to_list(None)]
        return await self._with_people(tenants, grants)

    async def tenant(self, account_id: str, tenant_id: str) -> Tenant | None:
        """One tenant of the account with its grants."""
        document = await self._tenants.find_one({"_id": tenant_doc_id(account_id, tenant_id)})
        if document is None:
            return None
        return (await self._with_people([document], await self.grants_on(account_id, tenant_id)))[0]

    async def grants_on(self, account_id: str, tenant_id: str) -> list[Grant]:
        """The account's grants on a tenant, gone ones included."""
        found = self._grants.find({"account_id": account_id, "tenant_id": tenant_id})
        return [grant_of(document) for document in await found.to_list(None)]

    async def accepted_since(self, account_id: str, set_ids: Ids[str], *, since: datetime) -> list[Grant]:
        """Grants of these sets, on any tenant of the account, that somebody accepted after that: the latest 1,000."""
        accepted: dict[str, Any] = {"account_id": account_id, "accepted_at": {"$gt": since}}
        found = self._grants.find({**accepted, "permission_set_id": {"$in": sorted(set_ids)}})
        return [grant_of(document) for document in await found.sort("accepted_at", DESCENDING).to_list(1_000)]

    async def names(self, account_id: str, tenant_ids: Ids[str]) -> dict[str, str]:
        """What tenants of the account are called, as far as it is known."""
        wanted = [tenant_doc_id(account_id, tenant_id) for tenant_id in tenant_ids]
        found = await self._tenants.find({"_id": {"$in": wanted}}).to_list(None) if wanted else []
        return {one["tenant_id"]: one["tenant_name"] for one in found if one["tenant_name"] is not None}

    async def label(self, account_id: str, tenant_id: str) -> tuple[str | None, str | None]:
        """The tenant's name and primary domain, as far as they are known."""
        document = await self._tenants.find_one({"_id": tenant_doc_id(account_id, tenant_id)})
        return (document["tenant_name"], document["primary_domain"]) if document is not None else (None, None)

    async def _with_people(self, tenants: "list[Document]", grants: list[Grant]) -> list[Tenant]:
        ids = {administrator_id(g.tenant_id, g.granted_by): g.granted_by for g in grants if g.granted_by is not None}
        names = {ids[key]: name for key, name in (await self._people.names(ids)).items()}
        return [
            tenant_of(
                document,
                [grant for grant in grants if grant.tenant_id == document["tenant_id"]],
                {g.granted_by: names[g.granted_by] for g in grants if g.granted_by in names},
            )
            for document in tenants
        ]

    async def claim_due(
        self,
        *,
        now: datetime,
        owner: str,
        seconds: float,
        most: int,
        busy_tenants: Ids[str] = (),
        resting: Ids[str] = (),
        troubled: bool | None = None,
    ) -> list[Claim]:
        """Take grants that are due for longest and that nobody else is checking, at most so many.

        ``resting`` are client ids that aren't to be used now; ``troubled`` chooses grants by whether their last check
        failed.
        """
        due: dict[str, Any] = {
            "check.next_at": {"$lte": now, **DUE},
            "tenant_id": {"$nin": sorted(busy_tenants)},
            "client_id": {"$nin": sorted(resting)},
            "$or": [{"check.lease": None}, {"$expr": {"$lt": ["$check.lease.until", "$$NOW"]}}],
        }
        if troubled is not None:
            due["check.failures"] = {"$gt": 0} if troubled else {"$not": {"$gt": 0}}
        found = self._grants.find(due, {"_id": 1}).sort("check.next_at", ASCENDING).limit(most)
        ids = [document["_id"] for document in await found.to_list(None)]
        if not ids:
            return []
        claim = uuid4().hex
        await self._grants.update_many(
            {**due, "_id": {"$in": ids}},
            [
                {
                    "$set": {
                        "check.token": {"$add": [{"$ifNull": ["$check.token", 0]}, 1]},
                        "check.lease": {
                            "owner": owner,
                            "claim": claim,
                            "until": {"$add": ["$$NOW", int(seconds * 1000)]},
                        },
                    }
                }
            ],
        )
        taken = self._grants.find({"_id": {"$in": ids}, "check.lease.claim": claim}).sort("check.next_at", ASCENDING)
        grants = [grant_of(document) for document in await taken.to_list(None)]
        return [Claim(grant=grant, token=grant.health.token) for grant in grants]

    async def next_due(self, *, after: datetime, resting: Ids[str] = ()) -> datetime | None:
        """When the next grant becomes due, whoever checks it."""
        document = await self._grants.find_one(
            {"check.next_at": {"$gt": after, **DUE}, "client_id": {"$nin": sorted(resting)}},
            sort=[("check.next_at", ASCENDING)],
            projection={"check.next_at": 1},
        )
        return document["check"]["next_at"] if document is not None else None

    async def note_health(self, judged: Judgement, *, token: int | None) -> None:
        """Keep what a check that changed nothing said; only while the grant is the one that was checked.

        A token also gives the lease back; a holder whose lease went to somebody else writes nothing, and neither does
        one who was overtaken by another check.
        """
        await self._notes.add(_note(judged, token))

    async def release(self, claims: Sequence[Claim], *, now: datetime, not_before: datetime) -> None:
        """Give leases back whose check wrote something else than a grant's health, or nothing at all.

        What is still due is due again no sooner than ``not_before``: a check that can't be made holds nobody up.
        """
        overdue = {"$and": [{"$eq": [{"$type": "$check.next_at"}, "date"]}, {"$lte": ["$check.next_at", now]}]}
        next_at = {"$cond": [overdue, not_before, "$check.next_at"]}
        writes = [
            UpdateOne(
                {
                    "_id": grant_id(one.grant.account_id, one.grant.tenant_id, one.grant.permission_set_id),
                    "check.token": one.token,
                },
                [{"$set": {"check.lease": None, "check.next_at": next_at}}],
            )
            for one in claims
        ]
        if writes:
            await self._grants.bulk_write(writes, ordered=False)

    async def check_now(
        self, account_id: str, tenant_id: str, permission_set_id: str, *, now: datetime, removed: bool = False
    ) -> bool:
        """Make a grant due; False when there is none that could be checked.

        ``removed`` says that it was taken away in Entra: it is looked at again and again for a while, see ``schedule``.
        """
        change = [*_due_by(now), _ASKED]
        if removed:
            change.append({"$set": {"check.removal_said_at": now}})
        result = await self._grants.update_one(
            {"_id": grant_id(account_id, tenant_id, permission_set_id), "check.next_at": {"$type": "date"}}, change
        )
        # Whoever asks has perhaps just given the service principal a role.
        await self._tenants.update_one(
            {"_id": tenant_doc_id(account_id, tenant_id), "connected": True}, {"$min": {"settings.next_at": now}}
        )
        return bool(result.matched_count)

    async def check_many(
        self, account_id: str, tenant_ids: Ids[str], set_ids: Ids[str] | None = None, *, now: datetime
    ) -> int:
        """Make the account's grants on these tenants due, of all sets or of some; how many could be checked.

        They are checked no faster than any others that are due.
        """
        tenants: dict[str, Any] = {"account_id": account_id, "tenant_id": {"$in": sorted(tenant_ids)}}
        due = {**tenants, "check.next_at": {"$type": "date"}}
        if set_ids is not None:
            due["permission_set_id"] = {"$in": sorted(set_ids)}
        result = await self._grants.update_many(due, [*_due_by(now), _ASKED])
        await self._tenants.update_many({**tenants, "connected": True}, {"$min": {"settings.next_at": now}})
        return int(result.matched_count)

    async def check_soon(self, tenant_id: str, set_ids: Ids[str], *, by: datetime) -> None:
        """Make the grants of these sets on the tenant, of whatever account, due by then."""
        if set_ids:
            await self._grants.update_many(
                {
                    "tenant_id": tenant_id,
                    "permission_set_id": {"$in": sorted(set_ids)},
                    "check.next_at": {"$type": "date"},
                },
                _due_by(by),
            )


# Somebody waits for the check: whoever looks at the account is told when it is done, even if it changed nothing.
_ASKED: "Document" = {"$set": {"check.asked": True}}


def _due_by(moment: datetime) -> "list[Document]":
    """Due then at the latest, but never while Entra asked to be left alone."""
    earliest = {"$max": [moment, "$check.not_before"]}
    return [{"$set": {"check.next_at": {"$min": ["$check.next_at", earliest]}}}]


def _note(judged: Judgement, token: int | None) -> "UpdateOne":
    before, after = judged.before, judged.grant
    where: dict[str, Any] = {
        "_id": grant_id(after.account_id, after.tenant_id, after.permission_set_id),
        "revision": before.revision,
        "check.last_at": before.health.last_at,
        "check.negatives": before.health.negatives,
    }
    fields = health_fields(after.health)
    fields |= {"client_id": after.client_id, "service_principal_id": after.service_principal_id}
    if token is not None:
        where["check.token"] = token
        fields["check.lease"] = None
    # Whoever asked for a check while this one was under way is to get it.
    found, next_at = "$check.next_at", fields.pop("check.next_at")
    undisturbed = {"$eq": [found, before.health.next_at]}
    sooner = {"$cond": [undisturbed, next_at, {"$min": [found, next_at]}]}
    asked = {"$cond": [undisturbed, "$$REMOVE", "$check.asked"]}
    written = {name: {"$literal": value} for name, value in fields.items()}
    return UpdateOne(where, [{"$set": written | {"check.next_at": sooner, "check.asked": asked}}])
