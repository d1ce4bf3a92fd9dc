"""Transactional outbox: an event is a row written in the transaction of its cause; one relay brings rows to Kafka.

Guarantee: at least once, in the order of (key, revision). Windows in which a record is written twice: a crash between
Kafka's acknowledgement and the mark; an acknowledgement that came too late; a relay that was paused while another took
over. Each repeats ids already seen, and never shows a later event of a key before an earlier one.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import Counter, Gauge
from pymongo import ASCENDING
from pymongo.errors import PyMongoError

from shared.backoff import Backoff
from shared.events import Event
from shared.kafka import Publisher, PublishFailed, Record, RecordRefused, record_of
from shared.lease import Lease
from shared.mongo import watch
from shared.topics import Topic

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Document, Session

log = structlog.get_logger(__name__)

RELAYED = Counter("outbox_relayed_total", "Outbox rows acknowledged by Kafka.")
PENDING_AGE = Gauge("outbox_oldest_pending_seconds", "Age of the oldest row not yet on Kafka; 0 when there is none.")

BATCH = 500
KEEP_PUBLISHED_SECONDS = 7 * 24 * 3600
LEASE_SECONDS = 10.0
# A row is refused because of a limit, which an operator may raise.
TRY_REFUSED_SECONDS = 60.0


class Outbox:
    """The rows. ``add`` belongs into the transaction that makes the event true."""

    def __init__(self, database: "Database") -> None:
        self.rows: Collection = database["outbox"]

    async def create_indexes(self) -> None:
        """Rows wait without a limit; only published ones expire (a TTL on creation would delete unsent ones)."""
        await self.rows.create_index(
            [("revision", ASCENDING), ("_id", ASCENDING)], partialFilterExpression={"pending": True}, name="pending"
        )
        await self.rows.create_index("published_at", expireAfterSeconds=KEEP_PUBLISHED_SECONDS)

    async def add(self, session: "Session", topic: Topic, event: Event, *, revision: int) -> None:
        """Write the row of an event. ``revision`` must grow with every event of the same key."""
        record = record_of(topic, event)
        await self.rows.insert_one(
            {
                "_id": event.id,
                "topic": record.topic,
                "key": record.key,
                "revision": revision,
                "value": record.value,
                "headers": [[name, value] for name, value in record.headers],
                "created_at": datetime.now(UTC),
                "pending": True,
            },
            session=session,
        )


class Relay:
    """Publishes pending rows while it holds the deployment's relay lease; every replica runs one."""

    def __init__(self, database: "Database", publisher: Publisher, *, owner: str) -> None:
        self._rows = Outbox(database).rows
        self._publisher = publisher
        self._lease = Lease(database["leases"], "outbox-relay", owner=owner, seconds=LEASE_SECONDS)
        self._wake = asyncio.Event()
        self._refused_keys: set[bytes] = set()
        self._failing: str | None = None

    def poke(self) -> None:
        """A row was committed in this process: don't wait for anything."""
        self._wake.set()

    async def check(self) -> None:
        """Readiness: raise while rows can't be brought to Kafka."""
        if self._failing is not None:
            raise RuntimeError(self._failing)
        if self._refused_keys:
            raise RuntimeError(f"{len(self._refused_keys)} keys are held back: Kafka refuses a row")

    async def run(self) -> None:
        """Relay until cancelled; every failure is tried again with capped backoff, from the oldest unmarked row."""
        watcher = asyncio.create_task(self._watch_inserts())
        backoff = Backoff()
        try:
            while True:
                try:
                    token = await self._lease.acquire()
                    if token is None:
                        self._failing = None
                        PENDING_AGE.set(0)  # its holder measures it; a value of earlier would stay for ever
                        await asyncio.sleep(LEASE_SECONDS / 4)
                        continue
                    log.info("relay.lease_taken", lease=token)
                    await self._relay(token, backoff)
                except (PyMongoError, PublishFailed) as error:
                    self._failing = f"{type(error).__name__}: {error}"[:300]
                    delay = backoff.next()
                    log.warning("relay.failed", error=self._failing, retry_in_seconds=round(delay, 2))
                    await asyncio.sleep(delay)
        finally:
            watcher.cancel()

    async def _relay(self, token: int, backoff: Backoff) -> None:
        refused_tried = renewed = monotonic()
        try:
            while True:
                # Not for each batch: it is a write as durable, and as slow, as the one whose event waits for it.
                if monotonic() - renewed > LEASE_SECONDS / 4:
                    renewed = monotonic()
                    if not await self._lease.renew(token):
                        break
                self._wake.clear()
                if monotonic() - refused_tried > TRY_REFUSED_SECONDS:
                    await self._try_refused(token)
                    refused_tried = monotonic()
                rows = await self._pending()
                await self._observe(rows)
                if rows:
                    await self._publish(rows, token)
                self._failing = None
                backoff.reset()
                if len(rows) < BATCH:
                    await self._wait()
        finally:
            self._refused_keys.clear()  # whoever relays next finds out for itself
            # Shielded: a stopping process hands over at once instead of after the lease's time.
            await asyncio.shield(self._release(token))

    async def _pending(self) -> "list[Document]":
        query: dict[str, Any] = {"pending": True}
        if self._refused_keys:
            query["key"] = {"$nin": sorted(self._refused_keys)}
        return await self._rows.find(query).sort([("revision", ASCENDING), ("_id", ASCENDING)]).to_list(BATCH)

    async def _publish(self, rows: "Sequence[Document]", token: int) -> None:
        try:
            await self._publisher.publish([_record(row) for row in rows])
        except RecordRefused:
            await self._publish_one_by_one(rows, token)
            return
        await self._mark([row["_id"] for row in rows], token)

    async def _publish_one_by_one(self, rows: "Sequence[Document]", token: int) -> None:
        """One of the rows is refused: find it, hold its key back so that its order stays, and let the others pass."""
        for row in rows:
            if row["key"] in self._refused_keys:
                continue
            try:
                await self._publisher.publish([_record(row)])
            except RecordRefused:
                self._refused_keys.add(row["key"])
                log.exception("relay.row_refused", event_id=row["_id"], key=row["key"].decode())
                continue
            await self._mark([row["_id"]], token)

    async def _try_refused(self, token: int) -> None:
        """Publish what each key is held back by; where Kafka takes it now, the key's other rows follow as usual."""
        for key in sorted(self._refused_keys):
            row = await self._first_of([key])
            if row is not None:
                try:
                    await self._publisher.publish([_record(row)])
                except RecordRefused:
                    continue
                await self._mark([row["_id"]], token)
            self._refused_keys.discard(key)

    async def _first_of(self, keys: Sequence[bytes]) -> "Document | None":
        query = {"pending": True, "key": {"$in": list(keys)}}
        return await self._rows.find_one(query, sort=[("revision", ASCENDING), ("_id", ASCENDING)])

    async def _mark(self, ids: Sequence[str], token: int) -> None:
        await self._rows.update_many(
            {"_id": {"$in": list(ids)}, "pending": True},
            {"$set": {"published_at": datetime.now(UTC), "relay_token": token}, "$unset": {"pending": ""}},
        )
        RELAYED.inc(len(ids))

    async def _wait(self) -> None:
        """The poke and the change stream are hints; the rows are the source, looked at every second anyway."""
        try:
            async with asyncio.timeout(1.0):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _watch_inserts(self) -> None:
        """Another replica's commits wake this relay too."""
        backoff = Backoff()
        while True:
            try:
                async with watch(self._rows, [{"$match": {"operationType": "insert"}}]) as changes:
                    backoff.reset()
                    async for _ in changes:
                        self._wake.set()
            except PyMongoError:
                await asyncio.sleep(backoff.next())

    async def _release(self, token: int) -> None:
        try:
            await self._lease.release(token)
        except PyMongoError as error:
            log.warning("relay.release_failed", error=type(error).__name__)

    async def _observe(self, rows: "Sequence[Document]") -> None:
        waiting = [row["created_at"] for row in rows]
        if self._refused_keys:
            held_back = await self._first_of(sorted(self._refused_keys))
            waiting += [held_back["created_at"]] if held_back is not None else []
        oldest = min(waiting, default=None)
        PENDING_AGE.set((datetime.now(UTC) - oldest).total_seconds() if oldest else 0)


def _record(row: "Document") -> Record:
    headers = [(name, bytes(value)) for name, value in row["headers"]]
    return Record(topic=row["topic"], key=row["key"], value=row["value"], headers=headers)
