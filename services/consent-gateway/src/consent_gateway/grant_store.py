"""Reading grants, and handing out those that are due for a check."""

from collections.abc import Collection as Ids
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pymongo import ASCENDING, ReturnDocument

from consent_gateway.documents import grant_id, grant_of, health_fields, tenant_doc_id, tenant_of
from consent_gateway.grants import Grant, Tenant
from consent_gateway.people import People, administrator_id

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document


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

    async def create_indexes(self) -> None:
        """What is looked up by something else than its id."""
        await self._grants.create_index([("account_id", ASCENDING), ("tenant_id", ASCENDING)])
        await self._grants.create_index([("tenant_id", ASCENDING), ("permission_set_id", ASCENDING)])
        await self._grants.create_index([("account_id", ASCENDING), ("held_apps.app_id", ASCENDING)])
        await self._grants.create_index(
            [("check.next_at", ASCENDING)], partialFilterExpression={"check.next_at": {"$type": "date"}}, name="due"
        )
        await self._tenants.create_index([("account_id", ASCENDING), ("tenant_id", ASCENDING)])

    async def grants_of(self, account_id: str, *, limit: int = 200, after: str | None = None) -> list[Tenant]:
        """Tenants of the account with all of their grants, by tenant id; ``after`` is the last id of the page before.

        Tenants whose grants are all revoked are among them: the screen still says what happened to them.
        """
        query: dict[str, Any] = {"account_id": account_id}
        if after is not None:
            query["tenant_id"] = {"$gt": after}
        tenants = await self._tenants.find(query).sort("tenant_id", ASCENDING).to_list(limit)
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

    async def claim_due(self, *, now: datetime, owner: str, seconds: float, busy_tenants: Ids[str]) -> Claim | None:
        """Take the grant that is due for longest and that nobody else is checking; None when there is none."""
        free = {"$lt": [{"$ifNull": ["$check.lease.until", "$$NOW"]}, "$$NOW"]}
        # The drivers' types don't say that there may be none.
        document: Any = await self._grants.find_one_and_update(
            {
                "check.next_at": {"$lte": now},
                "tenant_id": {"$nin": sorted(busy_tenants)},
                "$or": [{"check.lease": None}, {"$expr": free}],
            },
            [
                {
                    "$set": {
                        "check.token": {"$add": [{"$ifNull": ["$check.token", 0]}, 1]},
                        "check.lease": {"owner": owner, "until": {"$add": ["$$NOW", int(seconds * 1000)]}},
                    }
                }
            ],
            sort=[("check.next_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        return Claim(grant=grant_of(document), token=int(document["check"]["token"])) if document is not None else None

    async def next_due(self) -> datetime | None:
        """When the next grant is due, whoever checks it."""
        document = await self._grants.find_one(
            {"check.next_at": {"$type": "date"}}, sort=[("check.next_at", ASCENDING)], projection={"check.next_at": 1}
        )
        return document["check"]["next_at"] if document is not None else None

    async def note_health(self, grant: Grant, *, token: int | None) -> bool:
        """Keep what a check that changed nothing said; only while the grant is the one that was checked.

        A token also gives the lease back; a holder whose lease went to somebody else writes nothing.
        """
        where: dict[str, Any] = {
            "_id": grant_id(grant.account_id, grant.tenant_id, grant.permission_set_id),
            "revision": grant.revision,
        }
        fields = health_fields(grant.health)
        if token is not None:
            where["check.token"] = token
            fields["check.lease"] = None
        return bool((await self._grants.update_one(where, {"$set": fields})).matched_count)

    async def release(self, grant: Grant, *, token: int) -> None:
        """Give the lease back."""
        key = grant_id(grant.account_id, grant.tenant_id, grant.permission_set_id)
        await self._grants.update_one({"_id": key, "check.token": token}, {"$set": {"check.lease": None}})

    async def check_now(self, account_id: str, tenant_id: str, permission_set_id: str, *, now: datetime) -> bool:
        """Make a grant due; False when there is none that could be checked."""
        result = await self._grants.update_one(
            {"_id": grant_id(account_id, tenant_id, permission_set_id), "check.next_at": {"$type": "date"}},
            {"$min": {"check.next_at": now}},
        )
        # Whoever asks has perhaps just given the service principal a role.
        await self._tenants.update_one(
            {"_id": tenant_doc_id(account_id, tenant_id), "connected": True}, {"$min": {"settings.next_at": now}}
        )
        return bool(result.matched_count)

    async def check_soon(self, tenant_id: str, set_ids: Ids[str], *, by: datetime) -> None:
        """Make the grants of these sets on the tenant, of whatever account, due by then."""
        if set_ids:
            await self._grants.update_many(
                {
                    "tenant_id": tenant_id,
                    "permission_set_id": {"$in": sorted(set_ids)},
                    "check.next_at": {"$type": "date"},
                },
                {"$min": {"check.next_at": by}},
            )
