"""The registry's store on a real MongoDB, with each of the two drivers."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from pydantic import SecretStr

from shared import mongo
from shared.settings import KafkaSettings, MongoSettings
from shared.topics import CONSENT_EVENTS, PERMISSION_STATUS, TENANTS, Topic, dead_letter_topic
from support.topics import Topics
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


@pytest.fixture
def kafka_settings(kafka_bootstrap: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka_bootstrap)


@pytest_asyncio.fixture
async def consent_topic(topics: Topics, kafka_group: str) -> Topic:
    topic = replace(CONSENT_EVENTS, name=await topics.create("consent", partitions=4), partitions=4)
    await topics.create(name=dead_letter_topic(topic, kafka_group).name, partitions=1)
    return topic


@pytest_asyncio.fixture
async def status_topic(topics: Topics) -> Topic:
    return replace(PERMISSION_STATUS, name=await topics.create("status", partitions=4), partitions=4)


@pytest_asyncio.fixture
async def tenants_topic(topics: Topics) -> Topic:
    return replace(TENANTS, name=await topics.create("tenants", partitions=2, cleanup_policy="compact"), partitions=2)
