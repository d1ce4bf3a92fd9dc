"""The registry's store on a real MongoDB, with each of the two drivers."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from pydantic import SecretStr

from shared import mongo
from shared.settings import MongoSettings
from tenant_registry.store import Store

if TYPE_CHECKING:
    from shared.mongo import Database


@pytest.fixture(params=["motor", "pymongo"])
def mongo_settings(mongo_url: str, mongo_database: str, request: pytest.FixtureRequest) -> MongoSettings:
    return MongoSettings(url=SecretStr(mongo_url), database=mongo_database, driver=request.param)


@pytest_asyncio.fixture
async def database(mongo_settings: MongoSettings) -> AsyncIterator["Database"]:
    database = mongo.connect(mongo_settings)
    yield database
    await mongo.close(database)


@pytest_asyncio.fixture
async def store(database: "Database") -> Store:
    store = Store(database)
    await store.create_indexes()
    return store
