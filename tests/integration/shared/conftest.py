"""What the tests of the plumbing share: a database on each driver, and records read back from a topic."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from shared.mongo import Database, close, connect
from shared.settings import KafkaSettings, MongoSettings


@pytest_asyncio.fixture(params=["motor", "pymongo"])
async def database(request: pytest.FixtureRequest, mongo_url: str, mongo_database: str) -> "AsyncIterator[Database]":
    """A database of this test, on both drivers: the change from one to the other must stay a setting."""
    settings = MongoSettings(url=SecretStr(mongo_url), database=mongo_database, driver=request.param)
    database = connect(settings)
    yield database
    await close(database)


@pytest.fixture
def kafka_settings(kafka_bootstrap: str) -> KafkaSettings:
    """How to reach the broker."""
    return KafkaSettings(bootstrap_servers=kafka_bootstrap)
