"""The registry's store on a real MongoDB, with each of the two drivers."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pydantic import SecretStr

from shared import mongo
from shared.settings import KafkaSettings, MongoSettings
from shared.topics import CONSENT_EVENTS, PERMISSION_STATUS, TENANTS, Topic, dead_letter_topic
from support.registry_api import Api, registry_app
from support.topics import Topics
from tenant_registry.fleet import Fleet
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


@pytest_asyncio.fixture
async def counted(database: "Database") -> AsyncIterator[Fleet]:
    counted = Fleet(database, clock=lambda: datetime.now(UTC))
    yield counted
    await counted.close()


@pytest.fixture
def app(database: "Database", counted: Fleet) -> FastAPI:
    return registry_app(database, counted)


@pytest_asyncio.fixture
async def api(app: FastAPI, store: Store) -> AsyncIterator[Api]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry.test") as client:
        yield Api(client)


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
