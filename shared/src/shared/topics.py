"""The registry of every Kafka topic: who writes it, who reads it, its key and its retention.

Partition counts are fixed at creation; another number is a new topic, since a key must never change its partition.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal


def _ms(period: timedelta) -> int:
    return int(period.total_seconds() * 1000)


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic as the topic job creates it."""

    name: str
    producer: str
    consumers: tuple[str, ...]
    key: str
    event_types: tuple[str, ...]
    cleanup_policy: Literal["delete", "compact"] = "delete"
    partitions: int = 24
    retention_ms: int | None = None
    config: dict[str, str] = field(default_factory=dict)


CONSENT_EVENTS = Topic(
    name="entra.consent-events.v1",
    producer="consent-gateway",
    consumers=("tenant-registry",),
    key="{account_id}:{tenant_id}",
    event_types=(
        "PermissionGranted",
        "PermissionChanged",
        "PermissionBlocked",
        "PermissionRevoked",
        "TenantUpdated",
        "TenantRemoved",
        "ConsentFailed",
        "CredentialExpiring",
        "RegistrationStatusChanged",
    ),
    retention_ms=_ms(timedelta(days=400)),
)

PERMISSION_STATUS = Topic(
    name="entra.permission-status.v1",
    producer="tenant-registry",
    consumers=("notifier",),
    key="{account_id}:{tenant_id}",
    event_types=(
        "PermissionStatusChanged",
        "TenantUpdated",
        "TenantRemoved",
        "ConsentFailed",
        "CredentialExpiring",
        "RegistrationStatusChanged",
    ),
    retention_ms=_ms(timedelta(days=30)),
)

TENANTS = Topic(
    name="entra.tenants.v1",
    producer="tenant-registry",
    consumers=(),
    key="{account_id}:{tenant_id}",
    event_types=("TenantState",),
    cleanup_policy="compact",
    # A reader that rebuilds from this topic within 30 days sees every removal (KIP-354, KAFKA-1981).
    config={"delete.retention.ms": str(_ms(timedelta(days=30))), "min.compaction.lag.ms": str(_ms(timedelta(hours=1)))},
)


def dead_letter_topic(topic: Topic, group: str) -> Topic:
    """Where the consumer group puts records of the topic that it can't read; few partitions, long kept."""
    return Topic(
        name=f"{topic.name}.{group}.dlq",
        producer=group,
        consumers=(),
        key="that of the record",
        event_types=topic.event_types,
        partitions=6,
        retention_ms=_ms(timedelta(days=90)),
    )


TOPICS: tuple[Topic, ...] = (
    CONSENT_EVENTS,
    PERMISSION_STATUS,
    TENANTS,
    *(dead_letter_topic(topic, group) for topic in (CONSENT_EVENTS, PERMISSION_STATUS) for group in topic.consumers),
)
