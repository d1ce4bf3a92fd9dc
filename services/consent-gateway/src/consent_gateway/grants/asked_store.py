"""Whom a planned version will ask: live grants that have not accepted all of what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymongo import ASCENDING

from consent_gateway.catalog.planned import Planned
from consent_gateway.grants.documents import tenant_doc_id
from consent_gateway.grants.grants import Entra
from shared.events import Permission

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document

# Counted up to here; one more stands for more.
COUNTED_UP_TO = 1_000


@dataclass(frozen=True, kw_only=True)
class AskedTenant:
    """A tenant that will be asked, and for what beyond what it accepted."""

    tenant_id: str
    tenant_name: str | None
    primary_domain: str | None
    lacks: tuple[Permission, ...]


class AskedStore:
    """Reads the grants of one account."""

    def __init__(self, database: "Database") -> None:
        self._grants: Collection = database["grants"]
        self._tenants: Collection = database["tenants"]

    async def create_indexes(self) -> None:
        """The grants of a set, tenant by tenant."""
        keys = [(name, ASCENDING) for name in ("account_id", "permission_set_id", "tenant_id")]
        await self._grants.create_index(keys, name="of_set")

    async def count(self, account_id: str, plan: Planned) -> int:
        """How many tenants will be asked, up to ``COUNTED_UP_TO`` + 1."""
        return int(await self._grants.count_documents(_asked(account_id, plan), limit=COUNTED_UP_TO + 1))

    async def tenants(self, account_id: str, plan: Planned, *, after: str | None, limit: int) -> list[AskedTenant]:
        """The next ones by tenant id; ``after`` is the last one of the page before."""
        query = _asked(account_id, plan)
        if after is not None:
            query["tenant_id"] = {"$gt": after}
        fields = {"tenant_id": 1, "accepted": 1}
        found = await self._grants.find(query, fields).sort("tenant_id", ASCENDING).limit(limit).to_list(limit)
        ids = [tenant_doc_id(account_id, each["tenant_id"]) for each in found]
        labels = {each["tenant_id"]: each for each in await self._tenants.find({"_id": {"$in": ids}}).to_list(None)}
        return [_tenant(each, labels.get(each["tenant_id"], {}), plan.required) for each in found]


def _asked(account_id: str, plan: Planned) -> "Document":
    return {
        "account_id": account_id,
        "permission_set_id": plan.permission_set.id,
        "entra": {"$ne": str(Entra.GONE)},
        "$or": [{"accepted": {"$not": {"$elemMatch": one.model_dump()}}} for one in plan.required],
    }


def _tenant(grant: "Document", label: "Document", required: Sequence[Permission]) -> AskedTenant:
    accepted = {Permission(**one) for one in grant["accepted"]}
    return AskedTenant(
        tenant_id=grant["tenant_id"],
        tenant_name=label.get("tenant_name"),
        primary_domain=label.get("primary_domain"),
        lacks=tuple(one for one in required if one not in accepted),
    )
