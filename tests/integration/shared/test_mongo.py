"""What the platform relies on in MongoDB, on both drivers."""

import asyncio

import pytest
from pymongo.errors import DuplicateKeyError, PyMongoError

from shared.lease import Lease
from shared.mongo import Database, Session, aggregate, ping, transaction, watch
from support.eventually import eventually


async def test_a_transaction_is_all_or_nothing(database: "Database") -> None:
    await ping(database)

    async def work(session: "Session") -> None:
        await database["a"].insert_one({"_id": 1}, session=session)
        await database["b"].insert_one({"_id": 1}, session=session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await transaction(database, work)
    assert await database["a"].count_documents({}) == 0


async def test_of_concurrent_transactions_on_one_counter_none_is_lost(database: "Database") -> None:
    await database["counters"].insert_one({"_id": "c", "n": 0})

    async def work(session: "Session") -> None:
        counter = await database["counters"].find_one({"_id": "c"}, session=session)
        assert counter is not None
        await database["counters"].update_one({"_id": "c"}, {"$set": {"n": counter["n"] + 1}}, session=session)

    await asyncio.gather(*(transaction(database, work) for _ in range(12)))
    (counter,) = await aggregate(database["counters"], [{"$match": {"_id": "c"}}])
    assert counter["n"] == 12


async def test_a_unique_id_in_a_transaction_raises_at_once(database: "Database") -> None:
    await database["links"].insert_one({"_id": "tenant"})

    async def work(session: "Session") -> None:
        await database["links"].insert_one({"_id": "tenant"}, session=session)

    with pytest.raises(DuplicateKeyError):
        await transaction(database, work)


async def test_a_change_stream_sees_inserts(database: "Database") -> None:
    seen = asyncio.Event()
    opened = asyncio.Event()

    async def listen() -> None:
        async with watch(database["rows"], [{"$match": {"operationType": "insert"}}]) as changes:
            opened.set()
            async for _ in changes:
                seen.set()

    listener = asyncio.create_task(listen())
    await opened.wait()
    await database["rows"].insert_one({"_id": 1})
    async with asyncio.timeout(60):
        await seen.wait()
    listener.cancel()
    with pytest.raises((asyncio.CancelledError, PyMongoError)):
        await listener


async def test_a_lease_has_one_holder_and_tokens_only_grow(database: "Database") -> None:
    first = Lease(database["leases"], "relay", owner="a", seconds=60)
    second = Lease(database["leases"], "relay", owner="b", seconds=60)
    tokens = await asyncio.gather(*(lease.acquire() for lease in (first, second) * 5))
    (token,) = [token for token in tokens if token is not None]
    assert await first.renew(token)
    await first.release(token)
    later = await second.acquire()
    assert later is not None
    assert later > token
    assert not await first.renew(token)
    await first.release(token)
    assert await second.renew(later)


async def test_a_lease_that_ran_out_is_lost_to_its_holder(database: "Database") -> None:
    lease = Lease(database["leases"], "relay", owner="a", seconds=0.001)
    token = await lease.acquire()
    assert token is not None

    async def taken() -> int | None:
        return await Lease(database["leases"], "relay", owner="b", seconds=60).acquire()

    other = await eventually(taken)
    assert other == token + 1
    assert not await lease.renew(token)
