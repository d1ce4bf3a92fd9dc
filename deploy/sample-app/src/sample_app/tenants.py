"""What an app may read right now, from Kafka: all of the compacted topic first, then every change as it comes.

For an app inside the platform's network that would rather hold the whole truth than be pushed changes. The topic
``entra.tenants.v1`` keeps the newest document of every tenant for ever, under the key ``{account_id}:{tenant_id}``; a
record without a value says that the tenant is gone. So a reader needs no snapshot from elsewhere and no database:

1. Assign all partitions and begin at their beginning. No consumer group: every process wants everything, and there is
   nothing to commit, because a restart reads it all again.
2. Read committed records only (``isolation_level``): the writer uses transactions, and an aborted one is no truth.
3. Note where the partitions end now. Until all of that was read, what is known is old: decide nothing on it.
4. Then go on, for ever. A record replaces what was known of its key if its ``revision`` is higher.

``python -m sample_app.tenants APP_ID`` prints what the app may read, a line for each change. Needs ``aiokafka``
(``pip install sample-app[kafka]``).
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_logger = logging.getLogger(__name__)

TOPIC = "entra.tenants.v1"


class _Frozen(BaseModel):
    # New fields come without notice.
    model_config = ConfigDict(frozen=True, extra="ignore")


class HeldApp(_Frozen):
    """An app that this grant names, but that may use one tenant only and uses another one."""

    app_id: str


class Grant(_Frozen):
    """One permission set. ``usable`` decides; ``status`` is for people, and an open list."""

    permission_set_id: str
    status: str
    usable: bool
    apps: tuple[str, ...] = ()
    held_apps: tuple[HeldApp, ...] = ()

    def lets_read(self, app_id: str) -> bool:
        """Whether the app may read with it."""
        return self.usable and app_id in self.apps and app_id not in {held.app_id for held in self.held_apps}


class Tenant(_Frozen):
    """The document of one tenant of one account."""

    account_id: str
    tenant_id: str
    tenant_name: str | None = None
    revision: int = Field(ge=1)
    grants: tuple[Grant, ...] = ()


class Tenants:
    """All tenants, as far as they were read. Not to be decided on before ``complete``."""

    def __init__(self) -> None:
        self._known: dict[str, Tenant] = {}
        self.complete = False

    def apply(self, key: str, value: bytes | None) -> bool:
        """Take in a record; False when it was no news.

        Raises:
            ValueError: it isn't in the documented form; what was known of the key stays.
        """
        if value is None:
            return self._known.pop(key, None) is not None
        try:
            tenant = Tenant.model_validate_json(value)
        except ValidationError as error:
            raise ValueError(f"{error.error_count()} fields are not as documented") from None
        known = self._known.get(key)
        if known is not None and known.revision >= tenant.revision:
            return False
        self._known[key] = tenant
        return True

    def readable(self, app_id: str) -> dict[tuple[str, str], list[str]]:
        """The permission sets that the app may read with, by account and tenant."""
        found = {
            (tenant.account_id, tenant.tenant_id): [g.permission_set_id for g in tenant.grants if g.lets_read(app_id)]
            for tenant in self._known.values()
        }
        return {key: sets for key, sets in found.items() if sets}


async def follow(tenants: Tenants, *, topic: str = TOPIC, **connection: Any) -> AsyncGenerator[None]:  # noqa: ANN401
    """Read the topic into ``tenants`` for ever; yields when all of it was read at first, and after each change then.

    ``connection`` are options of ``AIOKafkaConsumer``: the servers, and how to sign in to them.

    Raises:
        KafkaError: no broker could be reached to begin with. Later ones are waited for.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: PLC0415 - only this part of the app needs it

    consumer = AIOKafkaConsumer(
        **connection, group_id=None, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        # Asked of the cluster, not of the client's memory, which fills by and by.
        cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001 - there is no public way
        partitions = [TopicPartition(topic, number) for number in cluster.partitions_for_topic(topic) or ()]
        if not partitions:
            raise LookupError(f"{topic} does not exist, or may not be read")
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while True:
            changed = False
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    changed = _take(tenants, record) or changed
            if not tenants.complete:
                # The position, not the last record: the ends of transactions are offsets too.
                tenants.complete = all([await consumer.position(place) >= end for place, end in ends.items()])
                changed = tenants.complete
            if changed and tenants.complete:
                yield
    finally:
        await consumer.stop()


def _take(tenants: Tenants, record: Any) -> bool:  # noqa: ANN401 - aiokafka ships no types
    try:
        return tenants.apply((record.key or b"").decode(), record.value)
    except ValueError as error:
        # One document that can't be read must not hide all others; somebody has to hear of it, though.
        fields = {"partition": record.partition, "offset": record.offset, "error": str(error)}
        _logger.warning("a tenant's document can't be read", extra={"fields": fields})
        return False


async def _print(app_id: str, servers: str) -> None:
    tenants = Tenants()
    async for _ in follow(tenants, bootstrap_servers=servers.split(",")):
        rows = [
            {"account_id": account_id, "tenant_id": tenant_id, "permission_sets": sets}
            for (account_id, tenant_id), sets in sorted(tenants.readable(app_id).items())
        ]
        print(json.dumps(rows), flush=True)  # noqa: T201 - what it is for


def main() -> None:
    """Print what an app may read, whenever that changes."""
    parser = argparse.ArgumentParser(prog="python -m sample_app.tenants", description=main.__doc__)
    parser.add_argument("app_id")
    servers = os.environ.get("KAFKA__BOOTSTRAP_SERVERS", "localhost:9092")
    parser.add_argument("--bootstrap-servers", default=servers, help="KAFKA__BOOTSTRAP_SERVERS [%(default)s]")
    arguments = parser.parse_args()
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - as above

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_print(arguments.app_id, arguments.bootstrap_servers))
    except (KafkaError, LookupError) as error:
        raise SystemExit(f"{arguments.bootstrap_servers}: {error}") from None


if __name__ == "__main__":
    main()
