"""Names of people. They stay here, keyed by ids that mean nothing elsewhere, so that one delete forgets a person."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Session


def administrator_id(tenant_id: str, object_id: str) -> str:
    """The key of a person of Entra (Microsoft: key people by `tid` and `oid`)."""
    return f"{tenant_id}:{object_id}"


def user_id(account_id: str, subject: str) -> str:
    """The key of a person of the console: the issuer's subject, within the account."""
    return f"user:{account_id}:{subject}"


def user_of(person_id: str) -> tuple[str, str] | None:
    """The account and the subject of a key that ``user_id`` made; None of any other id."""
    kind, *rest = person_id.split(":", 2)
    return (rest[0], rest[1]) if kind == "user" and len(rest) == 2 else None


class People:
    """The only place where a name is kept."""

    def __init__(self, database: "Database") -> None:
        self._people: Collection = database["people"]

    async def remember(self, person_id: str, name: str | None, *, session: "Session | None" = None) -> None:
        """Keep a person's latest name; nothing where there is none."""
        if name:
            await self._people.update_one(
                {"_id": person_id}, {"$set": {"name": name, "seen_at": datetime.now(UTC)}}, upsert=True, session=session
            )

    async def names(self, person_ids: Iterable[str]) -> dict[str, str]:
        """The names that are known, by id."""
        found = await self._people.find({"_id": {"$in": sorted(set(person_ids))}}).to_list(None)
        return {document["_id"]: document["name"] for document in found}

    async def forget(self, person_id: str) -> bool:
        """Erase a person's name; False when nothing was known.

        ``person_id`` is a key of this collection, or the object id or subject alone: then it is erased wherever it is.
        """
        alone = re.escape(person_id)
        mine = {"$or": [{"_id": person_id}, {"_id": {"$regex": f":{alone}$"}}]}
        return bool((await self._people.delete_many(mine)).deleted_count)
