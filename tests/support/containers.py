"""MongoDB and Kafka in containers, with the images that docker-compose.yml names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from testcontainers.core.container import DockerContainer

from launcher.mongo import REPLICA_SET, configure
from launcher.ports import LOOPBACK, free_port, is_taken
from support.eventually import eventually

MONGO_IMAGE = "mongo:8.0"
KAFKA_IMAGE = "apache/kafka:4.3.1"
START_SECONDS = 120.0


@asynccontextmanager
async def mongo() -> AsyncIterator[str]:
    """A replica set of one node: its connection string."""
    container = DockerContainer(MONGO_IMAGE).with_exposed_ports(27017)
    container.with_command(f"mongod --replSet {REPLICA_SET}")  # the image listens on all addresses by itself
    async with _running(container):
        # Direct, because the node knows itself by its address inside the container.
        url = f"mongodb://{LOOPBACK}:{container.get_exposed_port(27017)}/?directConnection=true"
        async with AsyncMongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=1000) as client:

            async def is_primary() -> bool:
                try:
                    if (await client.admin.command("hello"))["isWritablePrimary"]:
                        return True
                    await configure(client, host="localhost:27017")
                except PyMongoError as error:  # not up yet, or electing itself
                    raise AssertionError(str(error)) from error
                return False

            await eventually(is_primary, within=START_SECONDS, what=f"a primary in {MONGO_IMAGE}")
        yield url


@asynccontextmanager
async def kafka() -> AsyncIterator[str]:
    """A broker: its bootstrap servers."""
    port = free_port()
    listeners = {
        # The broker reaches itself on a listener of its own: transactions fail where only the outer address is known.
        "KAFKA_LISTENERS": "OUTER://:9092,INNER://:9094,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"OUTER://{LOOPBACK}:{port},INNER://localhost:9094",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "OUTER:PLAINTEXT,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "INNER",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_NODE_ID": "1",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in listeners.items():
        container.with_env(name, value)
    async with _running(container):
        bootstrap_servers = f"{LOOPBACK}:{port}"

        async def answers() -> bool:
            if not is_taken(port):
                return False
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=2000)
            try:
                await admin.start()
                return len((await admin.describe_cluster())["brokers"]) > 0
            except (KafkaError, OSError, TimeoutError):
                return False
            finally:
                await admin.close()

        await eventually(answers, within=START_SECONDS, what=f"an answer from {KAFKA_IMAGE}")
        yield bootstrap_servers


@asynccontextmanager
async def _running(container: DockerContainer) -> AsyncIterator[None]:
    await asyncio.to_thread(container.start)
    try:
        yield
    finally:
        await asyncio.to_thread(container.stop)
