"""The broker and the database behind the integration tests: embedded, in Docker, or somebody else's.

``TEST_BACKEND=embedded`` (the default) runs real programs from wheels and verified archives; ``docker`` runs the images
that docker-compose.yml names, through testcontainers; ``external`` uses ``TEST_MONGO_URL`` (a replica set) and
``TEST_KAFKA_BOOTSTRAP_SERVERS``.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from launcher.kafka import EmbeddedKafka
from launcher.mongo import EmbeddedMongo

CHOICES = ("embedded", "docker", "external")


def chosen() -> str:
    """The backend that ``TEST_BACKEND`` names.

    Raises:
        ValueError: there is no such backend.
    """
    backend = os.environ.get("TEST_BACKEND", "embedded")
    if backend not in CHOICES:
        raise ValueError(f"TEST_BACKEND is {backend!r}; choose one of {', '.join(CHOICES)}")
    return backend


@asynccontextmanager
async def mongo(folder: Path) -> AsyncIterator[str]:
    """A MongoDB replica set for as long as the context lasts: its connection string."""
    backend = chosen()
    if backend == "external":
        yield os.environ["TEST_MONGO_URL"]
    elif backend == "docker":
        import support.containers as containers  # noqa: PLC0415, PLR0402 - the Docker client is needed here only

        async with containers.mongo() as url:
            yield url
    else:
        async with embedded_mongo(folder) as server:
            yield server.url


@asynccontextmanager
async def kafka(folder: Path) -> AsyncIterator[str]:
    """A Kafka broker for as long as the context lasts: its bootstrap servers."""
    backend = chosen()
    if backend == "external":
        yield os.environ["TEST_KAFKA_BOOTSTRAP_SERVERS"]
    elif backend == "docker":
        import support.containers as containers  # noqa: PLC0415, PLR0402 - the Docker client is needed here only

        async with containers.kafka() as bootstrap_servers:
            yield bootstrap_servers
    else:
        async with embedded_kafka(folder) as server:
            yield server.bootstrap_servers


@asynccontextmanager
async def embedded_mongo(folder: Path) -> AsyncIterator[EmbeddedMongo]:
    """A mongod of one's own, that may be killed and restarted."""
    server = EmbeddedMongo(data_dir=folder / "mongo", log_file=folder / "mongod.log")
    await server.start()
    try:
        yield server
    finally:
        await server.kill()  # its data goes with the test


@asynccontextmanager
async def embedded_kafka(folder: Path) -> AsyncIterator[EmbeddedKafka]:
    """A broker of one's own, that may be killed and restarted."""
    server = EmbeddedKafka(data_dir=folder / "kafka", log_file=folder / "kafka.log")
    await server.start()
    try:
        yield server
    finally:
        await server.kill()  # its data goes with the test
