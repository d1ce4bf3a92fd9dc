"""Creates the platform's Kafka topics; run it before the services start, and again whenever you like.

    KAFKA__BOOTSTRAP_SERVERS=broker:9092 python deploy/topics.py

It creates what is missing and changes nothing that exists; it never deletes. A topic that exists with another number of
partitions or another clean-up policy is refused (exit status 1): keys would change their partition, or state would
expire, so a person has to decide. Other settings that differ are only reported.
"""

import argparse
import asyncio
import logging
import sys
import time
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.kafka import client_options
from shared.settings import KafkaSettings, load
from shared.topics import TOPICS, Topic

LEADERS_SECONDS = 30.0


class TopicsSettings(BaseModel):
    """How durable the topics are."""

    replication_factor: int = Field(3, ge=1, description="Copies of every partition; 1 on a single broker.")
    min_insync_replicas: int = Field(2, ge=1, description="Copies that must take a record before it is acknowledged.")
    wait_seconds: float = Field(60, ge=0, description="How long to wait for a broker that does not answer yet.")


class Settings(BaseSettings):
    """The settings of this job."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="__", extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    kafka: KafkaSettings
    topics: TopicsSettings = Field(default_factory=TopicsSettings)


class RefusedTopic(Exception):
    """A topic exists and is not what the platform needs."""


def settings_of(topic: Topic, *, min_insync_replicas: int) -> dict[str, str]:
    """The topic's configuration in Kafka's words."""
    settings = {"cleanup.policy": topic.cleanup_policy, "min.insync.replicas": str(min_insync_replicas)}
    if topic.retention_ms is not None:
        settings["retention.ms"] = str(topic.retention_ms)
    return settings | topic.config


async def ensure_topics(admin: AIOKafkaAdminClient, settings: TopicsSettings) -> None:
    """Create what is missing and return when every partition has a leader.

    Raises:
        RefusedTopic: a topic exists that the platform cannot use; all that could be created have been.
        KafkaError: the broker refused a topic, for example for want of brokers for its replicas.
    """
    existing = set(await admin.list_topics())
    for topic in TOPICS:
        if topic.name not in existing:
            await _create(admin, topic, settings)
    refusals = [refusal for topic in TOPICS if (refusal := await _refusal(admin, topic, settings)) is not None]
    if refusals:
        raise RefusedTopic("\n".join(refusals))


async def _create(admin: AIOKafkaAdminClient, topic: Topic, settings: TopicsSettings) -> None:
    wanted = NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        replication_factor=settings.replication_factor,
        topic_configs=settings_of(topic, min_insync_replicas=settings.min_insync_replicas),
    )
    answer = await admin.create_topics([wanted])
    for _, code, *reason in answer.topic_errors:
        if code == TopicAlreadyExistsError.errno:  # another run of this job was quicker
            continue
        if code:
            raise for_code(code)(f"{topic.name}: {' '.join(str(part) for part in reason)}")
        _say(f"{topic.name}: created with {topic.partitions} partitions, {topic.cleanup_policy}")


async def _refusal(admin: AIOKafkaAdminClient, topic: Topic, settings: TopicsSettings) -> str | None:
    """Why the topic, as it exists now, cannot be used; None when it can."""
    partitions = len(await _partitions_with_leaders(admin, topic))
    if partitions != topic.partitions:
        return (
            f"{topic.name}: has {partitions} partitions, must have {topic.partitions}. Partition counts are fixed at "
            "creation: use a new cluster or a new version of the topic."
        )
    actual = await _configuration(admin, topic)
    wanted = settings_of(topic, min_insync_replicas=settings.min_insync_replicas)
    differing = {name: value for name, value in wanted.items() if actual.get(name) != value}
    if "cleanup.policy" in differing:
        return f"{topic.name}: cleanup.policy is {actual.get('cleanup.policy')}, must be {topic.cleanup_policy}"
    for name, value in differing.items():
        _say(f"{topic.name}: {name} is {actual.get(name)}, this job would set {value}; kafka-configs changes it")
    return None


async def _partitions_with_leaders(admin: AIOKafkaAdminClient, topic: Topic) -> list[dict[str, Any]]:
    deadline = time.monotonic() + LEADERS_SECONDS
    while True:
        (description,) = await admin.describe_topics([topic.name])
        partitions: list[dict[str, Any]] = description["partitions"]
        if partitions and all(partition["leader"] >= 0 for partition in partitions):
            return partitions
        if time.monotonic() > deadline:
            raise KafkaError(f"{topic.name}: partitions without a leader after {LEADERS_SECONDS:.0f} s")
        await asyncio.sleep(0.05)


async def _configuration(admin: AIOKafkaAdminClient, topic: Topic) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])
    ((code, message, _, _, entries),) = answer.resources
    if code:
        raise for_code(code)(f"{topic.name}: {message}")
    return {entry[0]: entry[1] for entry in entries}


async def _connected(settings: Settings) -> AIOKafkaAdminClient:
    deadline = time.monotonic() + settings.topics.wait_seconds
    while True:
        admin = AIOKafkaAdminClient(**client_options(settings.kafka), client_id="topics")
        try:
            await admin.start()
        except (KafkaError, OSError) as error:
            await admin.close()
            if time.monotonic() > deadline:
                servers = settings.kafka.bootstrap_servers
                raise KafkaConnectionError(
                    f"no broker at {servers} after {settings.topics.wait_seconds:g} s"
                ) from error
            await asyncio.sleep(0.25)
        else:
            return admin


async def _run(settings: Settings) -> None:
    admin = await _connected(settings)
    try:
        await ensure_topics(admin, settings.topics)
    finally:
        await admin.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Run the job; the exit status is 1 when a topic cannot be used, 2 for a wrong setting."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    settings = load(Settings)
    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # every attempt at a broker that is not up yet is an error there
    try:
        asyncio.run(_run(settings))
    except (RefusedTopic, KafkaError, OSError) as error:
        sys.stderr.write(f"topics: {str(error).removeprefix('KafkaConnectionError: ')}\n")
        return 1
    _say(f"{len(TOPICS)} topics are as they should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
