"""Where runs came from, for the audit: kept with the attempt, read by the account's own people, erasable."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from consent_gateway.grants.documents import attempt_of
from consent_gateway.people import user_of

if TYPE_CHECKING:
    from consent_gateway.consent.attempts import Browser
    from shared.mongo import Collection, Database, Document

BROWSERS = ("started_from", "last_from")


class Origins:
    """Reads and erases which browsers runs came from."""

    def __init__(self, database: "Database") -> None:
        self._attempts: Collection = database["attempts"]

    async def latest(self, attempts: Iterable[tuple[str, str]]) -> "dict[str, Browser]":
        """The browser of the last step that is known, by attempt id; ``attempts`` are (account id, attempt id).

        An attempt of another account than is said is not found.
        """
        asked = set(attempts)
        if not asked:
            return {}
        found = await self._attempts.find({"_id": {"$in": sorted(one for _, one in asked)}}).to_list(None)
        known = (attempt_of(one) for one in found if (one["account_id"], one["_id"]) in asked)
        return {one.id: browser for one in known if (browser := one.last_from or one.started_from) is not None}

    async def forget(self, person_id: str) -> bool:
        """Erase where a person's runs came from; False when nothing was known.

        ``person_id`` is a key as of ``people``, or the object id or subject alone.
        """
        known = {"$or": [{name: {"$type": "object"}} for name in BROWSERS]}
        mine = {"$and": [known, _runs_of(person_id)]}
        return bool((await self._attempts.update_many(mine, {"$set": dict.fromkeys(BROWSERS)})).modified_count)


def _runs_of(person_id: str) -> "Document":
    """Runs that the person began, followed or accepted."""
    user = user_of(person_id)
    if user is not None:
        account_id, subject = user
        return {"account_id": account_id, "$or": [{"subject": subject}, {"follower": subject}]}
    accepted: Document = {"proven.object_id": person_id}
    tenant_id, _, object_id = person_id.partition(":")
    if object_id:
        accepted = {"proven.tenant_id": tenant_id, "proven.object_id": object_id}
    return {"$or": [{"subject": person_id}, {"follower": person_id}, accepted]}
