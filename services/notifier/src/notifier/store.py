"""What is kept of Kafka: one row per event, and how far each partition has been read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from pymongo import ASCENDING, DESCENDING, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from notifier.clock import ServerClock
from notifier.notifications import Fields, Notice
from notifier.subscriptions import Owner
from shared.mongo import transaction
from shared.topics import PERMISSION_STATUS

if TYPE_CHECKING:
    from shared.mongo import Collection as MongoCollection
    from shared.mongo import Database, Document, Session

# Of notices of our own: the highest number that a stream's position can hold, and no topic has.
OWN_PARTITION = 65_535
_DUPLICATE_KEY = 11000
_INDEX_OPTIONS_CONFLICT = 85


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where on Kafka a notice came from."""

    partition: int
    offset: int


class EventStore:
    """Rows of events, and the positions that beat the consumer group's offsets.

    A row outlives its deliveries, because bodies are rendered from it; it expires ``retention_seconds`` after it came.
    """

    def __init__(
        self, database: "Database", *, clock: ServerClock, retention_seconds: float, topic: str = PERMISSION_STATUS.name
    ) -> None:
        self._database = database
        self._clock = clock
        self._topic = topic
        self.events: MongoCollection = database["events"]
        self.positions: MongoCollection = database["positions"]
        self._retention = timedelta(seconds=retention_seconds)

    async def create_indexes(self) -> None:
        """Make the indexes; idempotent, also when the retention was changed."""
        # With the account in it, a reader of an account's stream looks at no event of another's. An index by app would
        # have an entry for each app of each event, and make the writing of events a fifth slower.
        await self.events.create_index(
            [("partition", ASCENDING), ("offset", ASCENDING), ("account_id", ASCENDING)],
            name="place_and_account",
            partialFilterExpression={"partition": {"$gte": 0}},
        )
        await expire_after(self.events, "created_at", self._retention.total_seconds())

    async def add(self, notices: Sequence[tuple[Notice, Place | None]]) -> None:
        """Write the rows that aren't there yet; those that are stay as they are."""
        now = self._clock.now()
        await insert_absent(self.events, [_document(notice, place, now) for notice, place in notices])

    async def add_own(self, notice: Notice) -> None:
        """Write a notice of our own making, which no partition of Kafka holds, so that streams have it as well.

        It gets a place on a partition of its own. Number and row are one transaction: two of them become visible in
        the order of their numbers, as records do. Idempotent.
        """

        async def work(session: "Session") -> None:
            if await self.events.find_one({"_id": notice.id}, {"_id": 1}, session=session) is not None:
                return
            mine = {"_id": f"{self._topic}:{OWN_PARTITION}"}
            row = await self.positions.find_one(mine, session=session)
            offset = row["offset"] if row is not None else await self.last_offset(OWN_PARTITION) + 1
            noted = {"topic": self._topic, "partition": OWN_PARTITION, "offset": offset + 1, "updated_at": now}
            await self.positions.update_one(mine, {"$set": noted}, upsert=True, session=session)
            place = Place(partition=OWN_PARTITION, offset=offset)
            await self.events.insert_one(_document(notice, place, now), session=session)

        now = self._clock.now()
        await transaction(self._database, work)

    async def notices(self, ids: Collection[str]) -> dict[str, Notice]:
        """The notices of these events that are still kept, by id."""
        rows = await self.events.find({"_id": {"$in": list(ids)}}).to_list(None)
        return {row["_id"]: notice_in(row) for row in rows}

    async def stored(self, ids: Collection[str]) -> set[str]:
        """Those of the events that are there."""
        return {row["_id"] for row in await self.events.find({"_id": {"$in": list(ids)}}, {"_id": 1}).to_list(None)}

    async def first_since(self, since: datetime) -> datetime | None:
        """When the first event that is kept from this moment on was stored."""
        row = await self.events.find_one({"created_at": {"$gte": since}}, {"created_at": 1}, sort=[("created_at", 1)])
        return row["created_at"] if row is not None else None

    async def between(
        self, since: datetime, until: datetime, *, app_id: str | None, account_id: str | None
    ) -> list[tuple[Notice, datetime]]:
        """Notices stored in [since, until) that concern the app, or the account, and when each was."""
        concerned: dict[str, Any] = concerning(app_id=app_id, account_id=account_id)
        if app_id is not None:
            concerned = {"$or": [concerned, {"platform": True}]}
        query = {"created_at": {"$gte": since, "$lt": until}, **concerned}
        return [(notice_in(row), row["created_at"]) for row in await self.events.find(query).to_list(None)]

    async def after(
        self, partition: int, offset: int, *, app_id: str | None, account_id: str | None, limit: int
    ) -> list[tuple[Place, Notice]]:
        """Notices of a partition beyond an offset that concern the app, or the account, in order."""
        query = {
            "partition": partition,
            "offset": {"$gt": offset},
            **concerning(app_id=app_id, account_id=account_id),
        }
        rows = await self.events.find(query).sort("offset", ASCENDING).to_list(limit)
        return [(place_in(row), notice_in(row)) for row in rows]

    async def ids_between(
        self, since: datetime, until: datetime, *, owner: Owner, account_id: str | None, limit: int
    ) -> list[str]:
        """Ids of events stored in [since, until) that the owner can still read, of one account or of all."""
        query = {
            "created_at": {"$gte": since, "$lt": until},
            **concerning(app_id=owner.app_id, account_id=owner.account_id),
        }
        if account_id is not None:
            query["account_id"] = account_id
        return [row["_id"] for row in await self.events.find(query, {"_id": 1}).to_list(limit)]

    async def erase(self, ids: Collection[str], owner: Owner) -> int:
        """Take these events away from the owner; how many it could read. What nobody can read any more is emptied.

        The rows stay, so that an event which Kafka repeats stays erased.
        """
        others = {"$filter": {"input": "$audiences", "cond": {"$ne": ["$$this.app_id", {"$literal": owner.app_id}]}}}
        left = {"$cond": [{"$eq": ["$audiences", []]}, {"$literal": {}}, "$data"]}
        result = await self.events.update_many(
            {"_id": {"$in": list(ids)}, **concerning(app_id=owner.app_id, account_id=owner.account_id)},
            [{"$set": {"audiences": others}}, {"$set": {"data": left}}],
        )
        return result.modified_count

    async def last_offset(self, partition: int) -> int:
        """The highest offset of the partition that a row is kept of; -1 where there is none."""
        row = await self.events.find_one({"partition": partition}, {"offset": 1}, sort=[("offset", DESCENDING)])
        return row["offset"] if row is not None else -1

    async def save_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Note that everything before these offsets is durable here. A position never goes back."""
        now = datetime.now(UTC)
        await self.positions.bulk_write(
            [
                UpdateOne(
                    {"_id": f"{place.topic}:{place.partition}"},
                    {
                        "$max": {"offset": offset},
                        "$set": {"updated_at": now},
                        "$setOnInsert": {"topic": place.topic, "partition": place.partition},
                    },
                    upsert=True,
                )
                for place, offset in positions.items()
            ],
            ordered=False,
        )

    async def load_positions(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offsets to go on from, of those partitions that were read before."""
        ids = [f"{place.topic}:{place.partition}" for place in partitions]
        rows = await self.positions.find({"_id": {"$in": ids}}).to_list(None)
        return {TopicPartition(row["topic"], row["partition"]): row["offset"] for row in rows}

    async def read_up_to(self, *, session: "Session | None" = None) -> dict[int, int]:
        """The last offset handled of each partition of the topic that was ever read, our own among them."""
        rows: list[Any] = await self.positions.find({"topic": self._topic}, session=session).to_list(None)
        return {row["partition"]: row["offset"] - 1 for row in rows}


def concerning(*, app_id: str | None, account_id: str | None) -> "dict[str, Any]":
    """The query for rows that concern an app, or else an account."""
    if app_id is not None:
        return {"audiences.app_id": app_id}
    return {"account_id": account_id, "audiences.app_id": None}


def place_in(row: "Document") -> Place:
    """Where the row's event lay on Kafka."""
    return Place(partition=row["partition"], offset=row["offset"])


def notice_in(row: "Document") -> Notice:
    """The notice that a row holds."""
    audiences: dict[str | None, Fields] = {
        item["app_id"]: {name: value for name, value in item.items() if name != "app_id"} for item in row["audiences"]
    }
    return Notice(
        id=row["_id"],
        type=row["type"],
        timestamp=row["timestamp"],
        account_id=row["account_id"],
        data=row["data"],
        audiences=audiences,
        platform=row.get("platform", False),
    )


def _document(notice: Notice, place: Place | None, now: datetime) -> "Document":
    document: dict[str, Any] = {
        "_id": notice.id,
        "type": notice.type,
        "timestamp": notice.timestamp,
        "account_id": notice.account_id,
        "data": notice.data,
        "audiences": [{"app_id": app_id, **fields} for app_id, fields in notice.audiences.items()],
        "created_at": now,
    }
    if notice.platform:
        document["platform"] = True
    if place is not None:
        document["partition"], document["offset"] = place.partition, place.offset
    return document


async def insert_absent(collection: "MongoCollection", documents: "Sequence[Document]") -> set[int]:
    """Insert the documents whose ``_id`` isn't there yet; the indexes of those that were there already.

    Raises:
        PyMongoError: anything but a duplicate; any of the documents may have been inserted.
    """
    if not documents:
        return set()
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        failures = (error.details or {}).get("writeErrors", [])
        concern = (error.details or {}).get("writeConcernErrors", [])
        if concern or any(failure["code"] != _DUPLICATE_KEY for failure in failures):
            raise
        return {failure["index"] for failure in failures}
    return set()


async def expire_after(collection: "MongoCollection", field: str, seconds: float) -> None:
    """Let MongoDB remove documents this long after the time in the field; documents without it stay."""
    name = f"{field}_ttl"
    try:
        await collection.create_index(field, name=name, expireAfterSeconds=int(seconds), sparse=True)
    except OperationFailure as error:
        if error.code != _INDEX_OPTIONS_CONFLICT:
            raise
        index = {"name": name, "expireAfterSeconds": int(seconds)}
        await collection.database.command({"collMod": collection.name, "index": index})
