"""Property: whatever the order, the repetition and the batches, a tenant's document ends the same and only grows."""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from shared import mongo
from shared.events import EventData, PermissionRevoked, TenantRemoved, TenantState, TenantUpdated
from shared.settings import MongoSettings
from support.consent_events import ACCOUNT, CONTOSO, event, grant_event, tenant_event
from tenant_registry.projection import fold, project, state_of
from tenant_registry.store import Store


def make(kind: str, revision: int) -> EventData:
    name = f"Contoso {revision}"
    if kind == "renamed":
        return tenant_event(TenantUpdated, revision=revision, tenant_name=name)
    if kind == "removed":
        return tenant_event(TenantRemoved, revision=revision, reason="disconnected")
    permission_set_id, outcome = kind.split()
    if outcome == "revoked":
        return grant_event(PermissionRevoked, revision=revision, permission_set_id=permission_set_id, status="revoked")
    named = {"tenant_name": name} if outcome == "granted" else {"tenant_name": None, "primary_domain": None}
    return grant_event(revision=revision, permission_set_id=permission_set_id, **named)


# Removals and events without a name are drawn more often: what they must undo or leave alone shows only in company.
KINDS = [
    *("renamed", "removed", "removed", "set-a granted", "set-a nameless", "set-a nameless"),
    *("set-b granted", "set-b revoked", "set-b nameless"),
]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[EventData], list[list[EventData]]]:
    """Events in the gateway's order, and the batches in which they arrive: shuffled, repeated, cut anywhere."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=7))
    events = [make(kind, revision) for revision, kind in enumerate(kinds, start=1)]
    arriving = draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=4))))
    batches = draw(st.lists(st.integers(0, 3), min_size=len(arriving), max_size=len(arriving)))
    return events, [
        [item for item, _ in group] for _, group in groupby(zip(arriving, batches, strict=True), lambda p: p[1])
    ]


def expected(events: Sequence[EventData]) -> dict[str, Any] | None:
    """What a reader must find in the end, said plainly: the newest of each thing, since the last removal."""
    data = [item.model_dump() | {"kind": item.type_name} for item in events]
    removed = max((item["revision"] for item in data if item["kind"] == "TenantRemoved"), default=0)
    alive = [item for item in data if item["revision"] > removed]
    grants = {item["permission_set_id"]: item["revision"] for item in alive if "permission_set_id" in item}
    if removed and not grants:
        return None
    names = [item["tenant_name"] for item in alive if item["tenant_name"]]
    return {"revision": data[-1]["revision"], "tenant_name": names[-1] if names else None, "grants": grants}


def seen(state: TenantState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    grants = {grant.permission_set_id: grant.revision for grant in state.grants}
    return {"revision": state.revision, "tenant_name": state.tenant_name, "grants": grants}


async def deliver(store: Store, batches: Sequence[Sequence[EventData]]) -> dict[str, Any] | None:
    await store.tenants.delete_many({})
    revisions = [0]
    document: dict[str, Any] | None = None
    for batch in batches:
        changes = [change for item in batch if (change := project(event(item)).change) is not None]
        await store.write(fold(changes), [])
        document = await store.document(ACCOUNT, CONTOSO)
        assert document is not None
        revisions.append(document["revision"])
    assert revisions == sorted(revisions), "a reader saw a revision go back"
    assert document is not None
    return seen(state_of(document))


# The two drivers differ in nothing here: one of them, on a loop that lives as long as the examples.
@pytest.fixture
def store_settings(mongo_url: str, mongo_database: str) -> MongoSettings:
    return MongoSettings(url=SecretStr(mongo_url), database=mongo_database, driver="pymongo")


def test_any_delivery_ends_in_the_same_document(store_settings: MongoSettings) -> None:
    with asyncio.Runner() as runner:
        database = runner.run(connected(store_settings))
        store = Store(database)

        @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(deliveries())
        def check(delivery: tuple[list[EventData], list[list[EventData]]]) -> None:
            events, batches = delivery
            assert runner.run(deliver(store, batches)) == expected(events)

        check()
        runner.run(mongo.close(database))


async def connected(store_settings: MongoSettings) -> Any:
    return mongo.connect(store_settings)
