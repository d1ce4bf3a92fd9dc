"""The topic job, run as the program that it is against a real broker."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from launcher.kafka import EmbeddedKafka
from shared.topics import CONSENT_EVENTS, PERMISSION_STATUS, TENANTS, TOPICS

JOB = Path(__file__).resolve().parents[3] / "deploy" / "topics.py"


async def run_job(bootstrap_servers: str, **more: str) -> tuple[int, str]:
    """Exit status and all output of one run."""
    env = {"PATH": os.defpath, "KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers, "TOPICS__REPLICATION_FACTOR": "1"}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(JOB)],
        env={**env, "TOPICS__MIN_INSYNC_REPLICAS": "1", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


async def partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    described = await admin.describe_topics([topic.name for topic in TOPICS])
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


async def configuration(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {entry[0]: entry[1] for entry in answer.resources[0][4]}


async def test_the_job_creates_what_is_missing_and_refuses_what_cannot_be_used(
    private_kafka: Callable[[], Awaitable[EmbeddedKafka]],
) -> None:
    broker = (await private_kafka()).bootstrap_servers
    status, said = await run_job(broker, TOPICS__REPLICATION_FACTOR="3")

    assert status == 1
    assert f"InvalidReplicationFactorError: {CONSENT_EVENTS.name}: Unable to replicate the partition 3 time" in said

    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        foreign = NewTopic(PERMISSION_STATUS.name, num_partitions=3, replication_factor=1)
        expiring = NewTopic(TENANTS.name, num_partitions=TENANTS.partitions, replication_factor=1)
        await admin.create_topics([foreign, expiring])

        status, said = await run_job(broker)

        assert status == 1
        assert f"{PERMISSION_STATUS.name}: has 3 partitions, must have 24" in said
        assert f"{TENANTS.name}: cleanup.policy is delete, must be compact" in said
        assert (await partitions(admin))[PERMISSION_STATUS.name] == 3

        await admin.delete_topics([PERMISSION_STATUS.name, TENANTS.name])
        status, said = await run_job(broker)

        assert (status, said.splitlines()[-1]) == (0, f"{len(TOPICS)} topics are as they should be")
        assert f"{TENANTS.name}: created with 24 partitions, compact" in said
        assert await partitions(admin) == {topic.name: topic.partitions for topic in TOPICS}
        events = await configuration(admin, CONSENT_EVENTS.name)
        assert events["retention.ms"] == str(CONSENT_EVENTS.retention_ms)
        assert events["min.insync.replicas"] == "1"
        assert (await configuration(admin, TENANTS.name)).items() >= TENANTS.config.items()

        status, said = await run_job(broker, TOPICS__MIN_INSYNC_REPLICAS="2")

        assert status == 0
        assert "created" not in said
        assert f"{TENANTS.name}: min.insync.replicas is 1, this job would set 2" in said
        assert (await configuration(admin, TENANTS.name))["min.insync.replicas"] == "1"
    finally:
        await admin.close()


async def test_a_broker_that_does_not_answer_ends_the_job_in_bounded_time() -> None:
    status, said = await run_job("127.0.0.1:1", TOPICS__WAIT_SECONDS="0")
    assert status == 1
    assert said.splitlines()[-1].startswith("topics: no broker at 127.0.0.1:1 ")


async def test_a_missing_setting_is_named() -> None:
    status, said = await run_job("")
    assert status == 2
    assert said.startswith("KAFKA__BOOTSTRAP_SERVERS: ")
