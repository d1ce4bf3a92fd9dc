"""Status events as the registry writes them, with every part that a test doesn't care about filled in."""

from datetime import UTC, datetime
from typing import Any

from shared.events import REGISTRY, Event, EventData, PermissionStatusChanged, new_event
from shared.kafka import Publisher, Record, record_of
from shared.settings import KafkaSettings
from shared.topics import Topic

ACCOUNT = "northwind"
CONTOSO = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"
GRAPH = "00000003-0000-0000-c000-000000000000"
OCCURRED = datetime(2026, 11, 23, 13, 0, 0, 123000, tzinfo=UTC)

_STATUS: dict[str, Any] = {
    "account_id": ACCOUNT,
    "tenant_id": CONTOSO,
    "tenant_name": "Contoso Ltd",
    "primary_domain": "contoso.com",
    "revision": 1,
    "cause": "consent",
    "actor": {"kind": "administrator", "id": "6e7b1c1e-0f0a-4c0e-8f57-3c1f6a2d9b04"},
    "occurred_at": OCCURRED,
    "permission_set_id": "read-directory-data",
    "version": 1,
    "status": "granted",
    "previous_status": "verifying",
    "usable": True,
    "apps": ("identity-security", "search"),
    "previous_apps": ("identity-security", "search"),
    "permissions": ({"resource_app_id": GRAPH, "value": "Directory.Read.All", "type": "application"},),
    "change": "PermissionGranted",
}


def status_data(**changes: Any) -> PermissionStatusChanged:
    """The data of a status event."""
    return PermissionStatusChanged.model_validate(_STATUS | changes)


def status_event(**changes: Any) -> Event:
    """A status event with an id of its own."""
    return event(status_data(**changes))


def event(data: EventData) -> Event:
    """The event, as the registry would send it."""
    return new_event(REGISTRY, data)


async def publish(settings: KafkaSettings, topic: Topic, *events: Event | Record) -> None:
    """Write events, or records as they are, to the topic, in order, and return when the broker has them."""
    publisher = Publisher(settings, client_id="test")
    try:
        await publisher.publish([e if isinstance(e, Record) else record_of(topic, e) for e in events])
    finally:
        await publisher.close()
