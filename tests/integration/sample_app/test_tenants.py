"""An app that bootstraps itself from the compacted topic, as the registry writes it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from sample_app.tenants import Tenants, follow, main
from shared.events import REGISTRY, TenantState, encode, new_event
from support.topics import Topics

ACCOUNT = "northwind"
CONTOSO = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"
FABRIKAM = "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21"
SET = "read-directory-data"
APP = "search"


def document(tenant_id: str, *, revision: int, usable: bool = True, **grant: Any) -> tuple[bytes, bytes]:
    """Key and value, as the registry writes them."""
    fields = {"permission_set_id": SET, "status": "granted", "usable": usable, "version": 1, "revision": revision}
    state = TenantState.model_validate(
        {
            "account_id": ACCOUNT,
            "tenant_id": tenant_id,
            "revision": revision,
            "grants": [{**fields, "apps": [APP, "workbench"], **grant}],
            "updated_at": datetime.now(UTC),
        }
    )
    key, value, _ = encode(new_event(REGISTRY, state))
    assert key is not None
    assert value is not None
    return key, value


async def heard(changes: AsyncIterator[None]) -> None:
    async with asyncio.timeout(60):
        await anext(changes)


async def test_it_reads_everything_first_and_then_follows(topics: Topics, kafka_bootstrap: str) -> None:
    topic = await topics.create("tenants", partitions=3)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=f"test-{topic}")
    await producer.start()

    async def write(*records: tuple[bytes, bytes | None], abort: bool = False) -> None:
        await producer.begin_transaction()
        for key, value in records:
            await producer.send_and_wait(topic, key=key, value=value)
        await (producer.abort_transaction() if abort else producer.commit_transaction())

    tenants = Tenants()
    try:
        contoso, fabrikam = document(CONTOSO, revision=1), document(FABRIKAM, revision=1)
        await write(document(CONTOSO, revision=1, usable=False), fabrikam, (b"northwind:broken", b"{"))
        await write(document(CONTOSO, revision=2), (fabrikam[0], None))
        await write(document(FABRIKAM, revision=9), abort=True)
        async with aclosing(follow(tenants, topic=topic, bootstrap_servers=kafka_bootstrap)) as changes:
            await heard(changes)
            assert tenants.complete
            assert tenants.readable(APP) == {(ACCOUNT, CONTOSO): [SET]}
            assert tenants.readable("other") == {}
            # An older document is no news; a newer one, and the end of a tenant, are.
            await write(contoso, document(FABRIKAM, revision=3))
            await heard(changes)
            assert set(tenants.readable(APP)) == {(ACCOUNT, CONTOSO), (ACCOUNT, FABRIKAM)}
            await write((contoso[0], None))
            await heard(changes)
            assert set(tenants.readable(APP)) == {(ACCOUNT, FABRIKAM)}
    finally:
        await producer.stop()


async def test_an_empty_topic_is_complete_and_a_missing_one_is_an_error(topics: Topics, kafka_bootstrap: str) -> None:
    topic = await topics.create("tenants", partitions=2)
    tenants = Tenants()
    async with aclosing(follow(tenants, topic=topic, bootstrap_servers=kafka_bootstrap)) as changes:
        await heard(changes)
    assert tenants.complete
    with pytest.raises(LookupError, match="does not exist"):
        await anext(follow(Tenants(), topic=f"{topic}.nowhere", bootstrap_servers=kafka_bootstrap))


def test_a_broker_that_is_away_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tenants", APP, "--bootstrap-servers", "127.0.0.1:9"])
    with pytest.raises(SystemExit, match=r"^127\.0\.0\.1:9: .*bootstrap"):
        main()


def test_an_app_that_is_held_back_may_not_read() -> None:
    tenants = Tenants()
    key, value = document(CONTOSO, revision=1, held_apps=[{"app_id": APP, "tenant_id": FABRIKAM, "epoch": 2}])
    assert tenants.apply(key.decode(), value)
    assert tenants.readable(APP) == {}
    assert tenants.readable("workbench") == {(ACCOUNT, CONTOSO): [SET]}


def test_a_document_with_unknown_fields_is_read_and_one_without_its_own_is_not() -> None:
    tenants = Tenants()
    key, value = document(CONTOSO, revision=1)
    assert tenants.apply(key.decode(), json.dumps({**json.loads(value), "new": 1}).encode())
    with pytest.raises(ValueError, match="not as documented"):
        tenants.apply(key.decode(), b'{"revision": 2}')
    assert tenants.readable(APP) == {(ACCOUNT, CONTOSO): [SET]}
