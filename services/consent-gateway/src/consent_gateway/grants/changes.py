"""Tells whoever watches an account that something about its tenants changed, over all replicas."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
from pymongo.errors import PyMongoError

from shared.backoff import Backoff
from shared.mongo import watch

if TYPE_CHECKING:
    from shared.mongo import Database, Document

log = structlog.get_logger(__name__)

# A watcher that doesn't read only needs to know that something changed.
UNREAD = 100
# What the console's pages show: tenants with their grants (each change of a grant raises its tenant's revision), what
# became of links and requests, attempts that ended or whose failure was cleared, and checks that somebody asked for:
# the others change nothing that is worth a page, and there are many of them.
_SHOWN = {
    "$or": [
        {"ns.coll": {"$in": ["tenants", "invitations", "transfers"]}},
        {"ns.coll": "grants", "updateDescription.removedFields": "check.asked"},
        {"ns.coll": "attempts", "updateDescription.updatedFields.phase": "closed"},
        {"ns.coll": "attempts", "updateDescription.updatedFields.cleared_at": {"$exists": True}},
    ]
}
# Who may look at a document: the account that has it, or the two between which a tenant is handed over.
_ACCOUNTS = ("account_id", "from_account", "to_account")


class Changes:
    """One change stream per process, any number of watchers. A change is a hint: the watcher reads the truth anew."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._watchers: defaultdict[str, set[asyncio.Queue[str | None]]] = defaultdict(set)

    async def run(self) -> None:
        """Follow the change stream until cancelled; after a gap every watcher is told to look anew."""
        backoff = Backoff()
        while True:
            try:
                async with watch(self._database, [{"$match": _SHOWN}], full_document="updateLookup") as changes:
                    backoff.reset()
                    self._tell_all()
                    async for change in changes:
                        self._tell_of(change.get("fullDocument") or {})
            except PyMongoError as error:
                delay = backoff.next()
                log.warning("changes.failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                await asyncio.sleep(delay)

    def close(self) -> None:
        """End every watch, so that open pages don't hold up a stopping service."""
        for queues in self._watchers.values():
            for queue in queues:
                _put(queue, None)

    @asynccontextmanager
    async def watch(self, account_id: str) -> AsyncIterator[AsyncIterator[str]]:
        """Ids of tenants of the account that have changed since the context was entered, until it is left.

        An empty id stands for "any of them". The iterator ends when the service stops.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue(UNREAD)
        self._watchers[account_id].add(queue)
        try:
            yield _each(queue)
        finally:
            self._watchers[account_id].discard(queue)
            if not self._watchers[account_id]:
                del self._watchers[account_id]

    def _tell_of(self, document: "Document") -> None:
        for name in _ACCOUNTS:
            if name in document:
                self._tell(document[name], document.get("tenant_id") or "")

    def _tell(self, account_id: str, tenant_id: str) -> None:
        for queue in self._watchers.get(account_id, ()):
            _put(queue, tenant_id)

    def _tell_all(self) -> None:
        for account_id in list(self._watchers):
            self._tell(account_id, "")


def _put(queue: asyncio.Queue[str | None], item: str | None) -> None:
    if queue.full() and item is not None:
        return
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)


async def _each(queue: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    while (tenant_id := await queue.get()) is not None:
        yield tenant_id
