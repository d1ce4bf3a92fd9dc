"""MongoDB behind one thin door.

Motor is what the platform uses; its support ends on 2027-05-14. Everything in which it differs from PyMongo's own
asynchronous client is in this module, so that the change is one setting (``MONGO__DRIVER``) and both are tested.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

from bson.codec_options import CodecOptions
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from shared.backoff import Backoff
from shared.settings import MongoSettings

if TYPE_CHECKING:
    from motor.motor_asyncio import (
        AsyncIOMotorClient,
        AsyncIOMotorClientSession,
        AsyncIOMotorCollection,
        AsyncIOMotorDatabase,
    )

    Document = dict[str, Any]
    Client = AsyncIOMotorClient[Document]
    Database = AsyncIOMotorDatabase[Document]
    Collection = AsyncIOMotorCollection[Document]
    Session = AsyncIOMotorClientSession
else:
    # The drivers' classes are chosen at run time; only a type checker needs names for them.
    Document = dict
    Client = Database = Collection = Session = Any

Result = TypeVar("Result")

TRANSACTION_SECONDS = 30.0


def connect(settings: MongoSettings) -> "Database":
    """The service's database. Nothing is sent before the first operation.

    Writes are acknowledged by a journaled majority, reads go to the primary and see majority-committed data, times are
    aware UTC, and no operation lasts longer than ``timeout_ms``.
    """
    if settings.driver == "pymongo":
        from pymongo import AsyncMongoClient as ClientClass  # noqa: PLC0415 - only the chosen driver is imported
    else:
        from motor.motor_asyncio import (  # type: ignore[assignment] # noqa: PLC0415 - as above
            AsyncIOMotorClient as ClientClass,
        )
    client: Any = ClientClass(
        settings.url.get_secret_value(),
        timeoutMS=settings.timeout_ms,
        serverSelectionTimeoutMS=min(settings.timeout_ms, 5_000),
        connectTimeoutMS=min(settings.timeout_ms, 5_000),
        appname=settings.database,
    )
    database = client.get_database(
        settings.database,
        codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
        write_concern=WriteConcern(w="majority", j=True),
        read_concern=ReadConcern("majority"),
        read_preference=ReadPreference.PRIMARY,
    )
    return cast("Database", database)


async def settle(value: Any) -> Any:  # noqa: ANN401 - what the drivers return differs; the callers know the type
    """The value, awaited where the driver made it a coroutine."""
    return await value if inspect.isawaitable(value) else value


async def close(database: "Database") -> None:
    """Close the database's client."""
    client: Any = database.client
    await settle(client.close())


async def ping(database: "Database") -> None:
    """Raise a ``PyMongoError`` when no primary answers."""
    await database.command("ping")


async def transaction(database: "Database", work: Callable[["Session"], Awaitable[Result]]) -> Result:
    """Run ``work`` in one transaction with snapshot reads and majority writes, and return its result.

    ``work`` is run again on a write conflict or a change of primary, so it must have no effect besides its writes
    through the session. When the answer to a commit is lost, the commit is repeated; ``work`` isn't. The loop is that
    of MongoDB's "convenient API for transactions", written out because Motor's own (3.7) gives up when it is the commit
    that meets the conflict.

    Raises:
        PyMongoError: the transaction could not be committed in time; after a network fault it may have been.
    """
    session: Any = await settle(database.client.start_session())
    deadline = monotonic() + TRANSACTION_SECONDS
    backoff = Backoff(first=0.005, cap=0.5)
    async with session:
        while True:
            await settle(
                session.start_transaction(
                    read_concern=ReadConcern("snapshot"), write_concern=WriteConcern(w="majority", j=True)
                )
            )
            try:
                result = await work(session)
            except BaseException as error:
                if session.in_transaction:
                    await session.abort_transaction()
                if not _again(error, "TransientTransactionError", deadline):
                    raise
            else:
                if await _commit(session, deadline):
                    return result
            await asyncio.sleep(backoff.next())


async def _commit(session: Any, deadline: float) -> bool:  # noqa: ANN401 - the session of either driver
    """Commit; False when the whole transaction is to be run again."""
    backoff = Backoff(first=0.05, cap=1.0)
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if _again(error, "TransientTransactionError", deadline):
                return False
            if not _again(error, "UnknownTransactionCommitResult", deadline):
                raise
            await asyncio.sleep(backoff.next())
        else:
            return True


def _again(error: BaseException, label: str, deadline: float) -> bool:
    return isinstance(error, PyMongoError) and error.has_error_label(label) and monotonic() < deadline


async def aggregate(
    collection: "Collection", pipeline: Sequence[Mapping[str, Any]], *, session: "Session | None" = None
) -> "list[Document]":
    """All documents of an aggregation."""
    cursor: Any = await settle(collection.aggregate(list(pipeline), session=session))
    return cast("list[Document]", await cursor.to_list(None))


@asynccontextmanager
async def watch(
    source: "Collection | Database", pipeline: Sequence[Mapping[str, Any]], **options: object
) -> "AsyncIterator[AsyncIterator[Document]]":
    """A change stream in commit order, of a collection or of a whole database; options as of ``Collection.watch``."""
    stream: Any = await settle(cast("Any", source).watch(list(pipeline), max_await_time_ms=1_000, **options))
    async with stream:
        yield stream
