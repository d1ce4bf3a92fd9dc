"""Live changes of all events, from one change stream per process to any number of readers in it.

A reader never holds anything up: beyond its bound it is marked as behind, and reads on from the store at its own pace.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import Gauge
from pymongo.errors import PyMongoError

from notifier.notifications import Notice
from notifier.positions import Position
from notifier.store import EventStore, Place, notice_in, place_in
from notifier.subscriptions import Owner
from shared.backoff import Backoff
from shared.mongo import settle, watch

if TYPE_CHECKING:
    from shared.mongo import Database, Document

log = structlog.get_logger(__name__)

UNREAD_SECONDS = 60.0

STREAMS = Gauge("notifier_streams_open", "Open event streams.")


@dataclass(slots=True)
class Item:
    """A change on its way to readers; ``offsets`` is how far the change stream had come with it."""

    place: Place
    notice: Notice
    offsets: Mapping[int, int]
    _id: str | None = None

    def id(self) -> str:
        """The encoded position, made once for all readers."""
        if self._id is None:
            self._id = Position(offsets=self.offsets, at=datetime.now(UTC)).encode()
        return self._id


@dataclass(slots=True, eq=False)
class Feed:
    """What one reader has yet to see. ``behind``: the queue is incomplete, the store has to be read first."""

    owner: Owner
    capacity: int
    behind: bool = True
    queue: deque[Item] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, item: Item) -> None:
        """Queue the change unless the reader is too far behind."""
        if self.behind:
            return
        if len(self.queue) >= self.capacity:
            self.fall_behind()
            return
        self.queue.append(item)
        self.wake.set()

    def fall_behind(self) -> None:
        """Forget the queue; the store has it all."""
        self.queue.clear()
        self.behind = True
        self.wake.set()

    def catch_up(self) -> None:
        """From now on everything is queued; to be called before the store is read."""
        self.queue.clear()
        self.behind = False


class Full(Exception):
    """The owner has as many readers here as one may have."""


class Hub:
    """The fan-out."""

    def __init__(self, database: "Database", events: EventStore, *, queue: int) -> None:
        self._database = database
        self._events = events
        self._queue = queue
        self._by_app: dict[str, set[Feed]] = {}
        self._by_account: dict[str, set[Feed]] = {}
        self._offsets: dict[int, int] = {}
        self._wanted = asyncio.Event()
        self._open = asyncio.Event()
        self.closing = asyncio.Event()

    async def check(self) -> None:
        """Readiness: raise while there are readers and no change stream."""
        if self._wanted.is_set() and not self._open.is_set():
            raise RuntimeError("the change stream is not open")

    async def opened(self) -> None:
        """Return when changes are being received: what is stored from here on reaches every feed."""
        self._wanted.set()
        await self._open.wait()

    @property
    def offsets(self) -> dict[int, int]:
        """How far the change stream has come."""
        return dict(self._offsets)

    def close(self) -> None:
        """Let all readers end: the process is stopping."""
        self.closing.set()
        for feed in self._feeds():
            feed.wake.set()

    def join(self, owner: Owner, *, most: int) -> Feed:
        """A feed of what concerns the owner, until ``leave``.

        Nothing is awaited between counting and taking a place, so that no two readers get the last one.

        Raises:
            Full: the owner has so many readers here already.
        """
        group, key = self._group(owner), owner.app_id or owner.account_id or ""
        if len(group.get(key, ())) >= most:
            raise Full
        feed = Feed(owner=owner, capacity=self._queue)
        group.setdefault(key, set()).add(feed)
        STREAMS.inc()
        return feed

    def leave(self, feed: Feed) -> None:
        """Give the feed's place back; a second time changes nothing."""
        group, key = self._group(feed.owner), feed.owner.app_id or feed.owner.account_id or ""
        feeds = group.get(key, set())
        if feed not in feeds:
            return
        STREAMS.dec()
        feeds.discard(feed)
        if not feeds:
            del group[key]

    async def run(self) -> None:
        """Receive until cancelled, while there are readers; after a failure they all go on from the store."""
        backoff = Backoff()
        while True:
            # A change stream costs the database a look at every write: not for nobody.
            await self._wanted.wait()
            try:
                self._offsets, seen_at = await self._positions()
                async with watch(
                    self._events.events,
                    [{"$match": {"operationType": "insert", "fullDocument.partition": {"$gte": 0}}}],
                    start_at_operation_time=seen_at,
                ) as changes:
                    self._open.set()
                    backoff.reset()
                    await self._receive(changes)
                    continue
            except PyMongoError as error:
                log.warning("hub.change_stream_failed", error=type(error).__name__)
            self._open.clear()
            for feed in self._feeds():
                feed.fall_behind()
            await asyncio.sleep(backoff.next())

    async def _positions(self) -> tuple[dict[int, int], Any]:
        """How far was read, and the cluster's time of that read: of what a majority held, not of the newest write.

        Between the two lies what a reader of the store can't see yet: the change stream has to begin before it.
        """
        session: Any = await settle(self._database.client.start_session(causal_consistency=False))
        async with session:
            return await self._events.read_up_to(session=session), session.operation_time

    async def _receive(self, changes: "AsyncIterator[Document]") -> None:
        """Hand on changes for as long as there are readers, and for a while after the last has left."""
        unread_since = monotonic()
        async for change in changes:
            self.publish(change["fullDocument"])
            if self._by_app or self._by_account:
                unread_since = monotonic()
            elif monotonic() - unread_since > UNREAD_SECONDS:
                self._wanted.clear()
                self._open.clear()
                return

    def publish(self, row: "Document") -> None:
        """Hand a new event to those whom it concerns."""
        place, notice = place_in(row), notice_in(row)
        self._offsets[place.partition] = max(place.offset, self._offsets.get(place.partition, -1))
        feeds = [feed for app_id in notice.apps() for feed in self._by_app.get(app_id, ())]
        if notice.account_id is not None and notice.concerns(None):
            feeds += self._by_account.get(notice.account_id, ())
        if feeds:
            item = Item(place=place, notice=notice, offsets=dict(self._offsets))
            for feed in feeds:
                feed.offer(item)

    def _group(self, owner: Owner) -> dict[str, set[Feed]]:
        return self._by_app if owner.app_id is not None else self._by_account

    def _feeds(self) -> list[Feed]:
        return [feed for group in (self._by_app, self._by_account) for feeds in group.values() for feed in feeds]
