"""The consumer of consent events: from a batch of records to durable effects, in the order that the promises need."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Protocol, TypeAlias

import structlog
from aiokafka import ConsumerRecord
from prometheus_client import Counter as Metric
from prometheus_client import Histogram

from shared.consumer import DeadLetter
from shared.events import BadRecord, UnknownType, decode
from shared.kafka import Record, RecordRefused, record_of
from shared.topics import PERMISSION_STATUS, Topic
from tenant_registry.projection import Fields, Projected, TenantChange, Unexpected, fold, project
from tenant_registry.store import Store, Unstorable

log = structlog.get_logger(__name__)

EVENTS = Metric("registry_events_projected_total", "Consent events whose effects are durable.", ["type"])
SKIPPED = Metric("registry_events_skipped_total", "Records of types that this version doesn't know.")
BATCH_SECONDS = Histogram("registry_batch_seconds", "From a batch of consent events to its acknowledged status events.")

ConsentRecord: TypeAlias = ConsumerRecord[bytes, bytes]


class Publishes(Protocol):
    """Writes records and returns when they are acknowledged; see ``shared.kafka.Publisher``."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Write all of them, in their order per key."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Item:
    record: ConsentRecord
    projected: Projected


class ConsentEvents:
    """Handles batches of consent events.

    State and history are durable before a status event is published, so that whoever is told of a change finds it
    here; the status events are acknowledged before the batch counts as handled. Doing a batch again repeats the same
    ids and alters nothing else. Of events from before ``silent_before`` state and history are written, and nobody is
    told.
    """

    def __init__(
        self,
        store: Store,
        publisher: Publishes,
        *,
        state_changed: Callable[[], None],
        topic: Topic = PERMISSION_STATUS,
        silent_before: datetime | None = None,
    ) -> None:
        self._silent_before = silent_before
        self._store = store
        self._publisher = publisher
        self._state_changed = state_changed
        self._topic = topic

    async def __call__(self, records: Sequence[ConsentRecord]) -> Sequence[DeadLetter]:
        """Bring the records' effects about; return those that no retry can bring about."""
        started = perf_counter()
        items, dead = _read(records)
        items, unstorable = await self._write(items)
        refused = await self._publish(items)
        if any(item.projected.change is not None for item in items):
            self._state_changed()
        for name, count in Counter(item.projected.status.data.type_name for item in items).items():
            EVENTS.labels(name).inc(count)
        seconds = perf_counter() - started
        BATCH_SECONDS.observe(seconds)
        dead = [*dead, *unstorable, *refused]
        log.info(
            "projection.batch",
            records=len(records),
            projected=len(items),
            dead_letters=len(dead),
            milliseconds=round(seconds * 1000, 1),
        )
        return dead

    async def _write(self, items: list[_Item]) -> tuple[list[_Item], list[DeadLetter]]:
        """Write state and history, without the items that MongoDB can't hold."""
        dead: list[DeadLetter] = []
        while True:
            try:
                await self._store.write(*_effects(items))
            except Unstorable as error:
                bad = [item for item in items if _is_cause(item, error)]
                if not bad:
                    raise
                dead += [DeadLetter(record=item.record, reason=f"cannot be stored: {error}") for item in bad]
                items = [item for item in items if item not in bad]
            else:
                return items, dead

    async def _publish(self, items: Sequence[_Item]) -> list[DeadLetter]:
        news = [item for item in items if not self._is_silent(item)]
        try:
            await self._publisher.publish([self._status(item) for item in news])
        except RecordRefused:
            return await self._publish_one_by_one(news)
        return []

    def _is_silent(self, item: _Item) -> bool:
        """Whether the event is so old that telling of it again would pass for news."""
        return self._silent_before is not None and item.projected.status.time < self._silent_before

    async def _publish_one_by_one(self, items: Sequence[_Item]) -> list[DeadLetter]:
        dead = []
        for item in items:
            try:
                await self._publisher.publish([self._status(item)])
            except RecordRefused:
                dead.append(DeadLetter(record=item.record, reason="its status event is too large for Kafka"))
        return dead

    def _status(self, item: _Item) -> Record:
        return record_of(self._topic, item.projected.status)


def _read(records: Sequence[ConsentRecord]) -> tuple[list[_Item], list[DeadLetter]]:
    items: list[_Item] = []
    dead: list[DeadLetter] = []
    for record in records:
        try:
            event = decode(record.headers, record.value)
            items.append(_Item(record=record, projected=project(event)))
        except UnknownType as error:
            SKIPPED.inc()
            log.warning("projection.skipped", partition=record.partition, offset=record.offset, reason=str(error))
        except (BadRecord, Unexpected) as error:
            dead.append(DeadLetter(record=record, reason=str(error)))
        except Exception as error:
            # Reading is pure: what nobody thought of is the record's doing as well, and would come again for ever.
            log.exception("projection.unreadable", partition=record.partition, offset=record.offset)
            dead.append(DeadLetter(record=record, reason=f"unreadable: {type(error).__name__}"))
    return items, dead


def _effects(items: Sequence[_Item]) -> tuple[list[TenantChange], list[Fields]]:
    changes = fold(item.projected.change for item in items if item.projected.change is not None)
    return changes, [item.projected.history for item in items if item.projected.history is not None]


def _is_cause(item: _Item, error: Unstorable) -> bool:
    change = item.projected.change
    return (change is not None and change.key in error.keys) or not Store.storable(item.projected)
