"""Fixtures and rules that hold for all tests: markers by folder, a clean environment, real backends on request."""

import functools
import os
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import certifi
import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from launcher.kafka import EmbeddedKafka
from launcher.mongo import EmbeddedMongo
from support import backends, scheduling
from support.topics import Topics, topics_of_a_test

TIERS = ("unit", "contract", "integration", "e2e")
# Settings of the services: what a developer has exported must not reach a test.
SETTINGS = (
    *("HTTP__", "LOG__", "KAFKA__", "MONGO__", "AUTH__", "ENTRA__", "CATALOG__", "CONSOLE__", "DRIFT__", "CONSENT__"),
    *("DELIVERY__", "RETENTION__", "STREAM__", "TOPICS__", "APPS__", "TOKENS__", "PUBLIC_URL", "REGISTRY_URL"),
    *("NOTIFIER_URL", "GATEWAY_URL", "BACKCHANNEL_URL", "TENANT_SHARING", "ISSUER", "AUDIENCE", "APP_ID", "CLIENT_"),
    *("DATA_DIR", "DEMO_"),
)


def pytest_configure() -> None:
    """Take the services' settings out of the environment, and read certificate authorities once.

    Each HTTP client makes a context of its own, and the authorities of the world cost it 40 ms; tests make thousands of
    clients. A context that nobody changes may be shared.
    """
    for name in [name for name in os.environ if name.startswith(SETTINGS)]:
        del os.environ[name]
    pytest.MonkeyPatch().setattr(ssl, "create_default_context", _shared_context())


def _shared_context() -> Callable[..., ssl.SSLContext]:
    """`ssl.create_default_context` which makes one context for the authorities that httpx names, in each process."""
    make = ssl.create_default_context
    of_the_world = functools.cache(lambda: make(cafile=certifi.where()))

    def create_default_context(*arguments: Any, **options: Any) -> ssl.SSLContext:
        usual = not arguments and options == {"cafile": certifi.where()}
        return of_the_world() if usual else make(*arguments, **options)

    return create_default_context


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.WholeFiles:
    """Files are tested as a whole, those that share a system one after another (see `support.scheduling`)."""
    return scheduling.WholeFiles(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, which is the folder it lies in."""
    here = Path(__file__).parent
    for item in items:
        tier = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        if tier in TIERS:
            item.add_marker(tier)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where all tests must run (CI), one that was skipped for want of a browser, a broker or a mongod has failed.

    A skip whose reason starts with "optional:" stays a skip.
    """
    report = yield
    must_run = os.environ.get("CI") == "true" or os.environ.get("REQUIRE_ALL_TESTS") == "1"
    if must_run and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith("optional:"):
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid} was skipped where every test must run: {reason}"
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mongo_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Connection string of a real replica set, started when the first test asks for it."""
    async with backends.mongo(tmp_path_factory.mktemp("mongo")) as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Bootstrap servers of a real Kafka, started when the first test asks for it."""
    async with backends.kafka(tmp_path_factory.mktemp("kafka")) as bootstrap_servers:
        yield bootstrap_servers


@pytest_asyncio.fixture
async def mongo_database(mongo_url: str) -> AsyncIterator[str]:
    """Name of a database that belongs to this test; it is dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    async with AsyncMongoClient[dict[str, object]](mongo_url) as client:
        await client.drop_database(name)


@pytest_asyncio.fixture
async def topics(kafka_bootstrap: str) -> AsyncIterator[Topics]:
    """Makes topics that belong to this test: ``name = await topics.create(partitions=3)``."""
    async with topics_of_a_test(kafka_bootstrap) as topics:
        yield topics


@pytest.fixture
def kafka_group() -> str:
    """Name of a consumer group that belongs to this test."""
    return f"group-{secrets.token_hex(4)}"


@pytest_asyncio.fixture
async def private_mongo(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Callable[[], Awaitable[EmbeddedMongo]]]:
    """A function that starts a mongod of this test's own, to be killed and restarted at will."""
    async with AsyncExitStack() as stack:

        async def start() -> EmbeddedMongo:
            return await stack.enter_async_context(backends.embedded_mongo(tmp_path_factory.mktemp("private-mongo")))

        yield start


@pytest_asyncio.fixture
async def private_kafka(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Callable[[], Awaitable[EmbeddedKafka]]]:
    """A function that starts a broker of this test's own, to be killed and restarted at will."""
    async with AsyncExitStack() as stack:

        async def start() -> EmbeddedKafka:
            return await stack.enter_async_context(backends.embedded_kafka(tmp_path_factory.mktemp("private-kafka")))

        yield start
