"""What changes make of a tenant's document, on a real MongoDB and with both drivers."""

import asyncio
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from shared.events import (
    EventData,
    PermissionRevoked,
    TenantRemoved,
    TenantState,
    TenantUpdated,
)
from support.consent_events import ACCOUNT, CONTOSO, at, event, grant_event, tenant_event
from tenant_registry.projection import Projected, fold, project, state_of
from tenant_registry.store import Store, Unstorable

DIRECTORY, ACCOUNTS = "read-directory-data", "manage-accounts"


async def apply(store: Store, *events: EventData) -> TenantState | None:
    """Write the events one by one, as batches of one."""
    for data in events:
        await write(store, [data])
    return await stored(store)


async def write(store: Store, events: Sequence[EventData]) -> list[Projected]:
    outcomes = [project(event(data)) for data in events]
    await store.write(
        fold(outcome.change for outcome in outcomes if outcome.change is not None),
        [outcome.history for outcome in outcomes if outcome.history is not None],
    )
    return outcomes


async def stored(store: Store) -> TenantState | None:
    document = await store.document(ACCOUNT, CONTOSO)
    assert document is not None
    return state_of(document)


def statuses(state: TenantState | None) -> dict[str, tuple[str, int]]:
    assert state is not None
    return {grant.permission_set_id: (grant.status, grant.revision) for grant in state.grants}


async def test_a_first_grant_makes_the_tenants_document(store: Store) -> None:
    granted = grant_event(revision=7, granted_by="6e7b1c1e-0f0a-4c0e-8f57-3c1f6a2d9b04", granted_at=at(7))
    state = await apply(store, granted)
    assert state is not None
    assert (state.account_id, state.tenant_id, state.revision) == (ACCOUNT, CONTOSO, 7)
    assert (state.tenant_name, state.primary_domain, state.cloud) == ("Contoso Ltd", "contoso.com", "global")
    assert state.updated_at == at(7)
    (grant,) = state.grants
    assert grant.model_dump() == {name: getattr(granted, name) for name in type(grant).model_fields} | {
        "permissions": tuple(permission.model_dump() for permission in granted.permissions)
    }


async def test_an_older_event_changes_nothing_of_its_grant(store: Store) -> None:
    newer = grant_event(PermissionRevoked, revision=9, status="revoked", usable=False)
    before = await apply(store, newer)
    assert await apply(store, grant_event(revision=8)) == before


async def test_an_older_event_still_applies_to_another_grant(store: Store) -> None:
    state = await apply(
        store, grant_event(revision=9), grant_event(revision=5, permission_set_id=ACCOUNTS, tenant_name="Old name")
    )
    assert statuses(state) == {DIRECTORY: ("granted", 9), ACCOUNTS: ("granted", 5)}
    assert state is not None
    assert (state.revision, state.tenant_name, state.updated_at) == (9, "Contoso Ltd", at(9))


async def test_an_event_from_before_the_name_was_known_does_not_take_it_away(store: Store) -> None:
    nameless = grant_event(revision=4, permission_set_id=ACCOUNTS, tenant_name=None, primary_domain=None)
    state = await apply(store, grant_event(revision=3), nameless)
    assert state is not None
    assert (state.revision, state.tenant_name, state.primary_domain) == (4, "Contoso Ltd", "contoso.com")


async def test_a_newer_name_replaces_the_old_one(store: Store) -> None:
    state = await apply(
        store, grant_event(revision=3), tenant_event(TenantUpdated, revision=4, tenant_name="Contoso SE")
    )
    assert state is not None
    assert (state.tenant_name, state.revision, len(state.grants)) == ("Contoso SE", 4, 1)


async def test_a_removal_leaves_a_tombstone_that_older_events_do_not_revive(store: Store) -> None:
    removed = tenant_event(TenantRemoved, revision=7, reason="disconnected")
    assert await apply(store, grant_event(revision=6), removed) is None
    assert await apply(store, grant_event(revision=5, permission_set_id=ACCOUNTS)) is None
    document = await store.document(ACCOUNT, CONTOSO)
    assert document is not None
    assert document["revision"] == 7
    assert document["grants"] == {}
    assert "profile" not in document


async def test_a_newer_grant_revives_a_removed_tenant_with_nothing_of_before(store: Store) -> None:
    removed = tenant_event(TenantRemoved, revision=7, reason="disconnected")
    state = await apply(
        store,
        grant_event(revision=6),
        removed,
        grant_event(revision=8, permission_set_id=ACCOUNTS, tenant_name="Contoso"),
    )
    assert statuses(state) == {ACCOUNTS: ("granted", 8)}
    assert state is not None
    assert state.tenant_name == "Contoso"


async def test_a_name_from_before_a_removal_does_not_come_back(store: Store) -> None:
    removed = tenant_event(TenantRemoved, revision=7, reason="erased")
    nameless: dict[str, Any] = {"tenant_name": None, "primary_domain": None}
    state = await apply(
        store, grant_event(revision=5), removed, grant_event(revision=6), grant_event(revision=8, **nameless)
    )
    assert state is not None
    assert state.tenant_name is None


async def test_every_order_ends_in_the_same_document(store: Store) -> None:
    events = [
        grant_event(revision=3),
        grant_event(revision=4, permission_set_id=ACCOUNTS, tenant_name=None, primary_domain=None),
        tenant_event(TenantRemoved, revision=5, reason="disconnected"),
        tenant_event(TenantUpdated, revision=6, tenant_name="Contoso SE"),
        grant_event(
            PermissionRevoked, revision=7, status="revoked", usable=False, tenant_name=None, primary_domain=None
        ),
    ]
    seen = []
    for order in permutations(events):
        await store.tenants.delete_many({})
        seen.append(await apply(store, *order))
    assert statuses(seen[0]) == {DIRECTORY: ("revoked", 7)}
    assert all(state == seen[0] for state in seen)


async def test_a_folded_batch_does_what_its_events_do_one_by_one(store: Store) -> None:
    events = [
        grant_event(revision=6),
        tenant_event(TenantRemoved, revision=7, reason="disconnected"),
        grant_event(revision=8, permission_set_id=ACCOUNTS),
        grant_event(revision=5),
    ]
    one_by_one = await apply(store, *events)
    await store.tenants.delete_many({})
    await write(store, events)
    assert await stored(store) == one_by_one


async def test_a_repeated_event_leaves_one_history_row_and_no_write(store: Store) -> None:
    outcome = project(event(grant_event()))
    assert outcome.change is not None
    assert outcome.history is not None
    await store.write([outcome.change], [outcome.history])
    before = await store.document(ACCOUNT, CONTOSO)
    await store.write([outcome.change], [outcome.history])
    assert await store.document(ACCOUNT, CONTOSO) == before
    assert await store.history.count_documents({}) == 1


async def test_a_snapshot_is_projected_but_is_no_history(store: Store) -> None:
    (outcome,) = await write(store, [grant_event(cause="snapshot")])
    assert outcome.status.data.model_dump()["cause"] == "snapshot"
    assert statuses(await stored(store)) == {DIRECTORY: ("granted", 1)}
    assert await store.history.count_documents({}) == 0


async def test_a_value_that_no_document_can_hold_is_named(store: Store) -> None:
    good, bad = (project(event(grant_event(app_epochs=epochs))) for epochs in ({"search": 1}, {"se\x00arch": 1}))
    assert bad.change is not None
    with pytest.raises(Unstorable):
        await store.write([bad.change], [])
    assert [Store.storable(outcome) for outcome in (good, bad)] == [True, False]


async def test_a_document_that_grows_too_large_is_named(store: Store) -> None:
    await write(store, [grant_event()])
    filler = UpdateOne({}, {"$set": {"filler": "x" * (16 * 1024 * 1024 - 2000)}})
    await store.tenants.bulk_write([filler])
    large = grant_event(revision=2, apps=tuple(f"app-{number}" for number in range(2000)))
    with pytest.raises(Unstorable) as caught:
        await write(store, [large])
    assert caught.value.keys == {f"{ACCOUNT}:{CONTOSO}"}


async def test_the_mark_goes_only_when_the_published_state_is_the_present_one(store: Store) -> None:
    await write(store, [grant_event(revision=1)])
    (older,) = await store.pending_states(10)
    await write(store, [grant_event(revision=2)])
    await store.states_published([older])
    (newer,) = await store.pending_states(10)
    assert newer.state is not None
    assert newer.state.revision == 2
    await store.states_published([newer])
    assert await store.pending_states(10) == []


async def test_a_late_publisher_has_the_present_state_published_again(store: Store) -> None:
    """Its record may be the last one of the key although a newer state was published before."""
    await write(store, [grant_event(revision=1)])
    (older,) = await store.pending_states(10)
    await write(store, [grant_event(revision=2)])
    await store.states_published(await store.pending_states(10))
    await store.states_published([older])
    (again,) = await store.pending_states(10)
    assert again.state is not None
    assert again.state.revision == 2


async def test_a_removed_tenant_is_pending_as_a_tombstone(store: Store) -> None:
    await write(store, [grant_event(revision=1)])
    await store.states_published(await store.pending_states(10))
    await write(store, [tenant_event(TenantRemoved, revision=2, reason="disconnected")])
    (item,) = await store.pending_states(10)
    assert (item.key, item.state) == (f"{ACCOUNT}:{CONTOSO}", None)


async def test_readers_never_see_a_revision_go_back(store: Store) -> None:
    """Two writers race over the same tenant, one of them half a second behind, while a reader watches."""
    events = [grant_event(revision=number, permission_set_id=f"set-{number % 3}") for number in range(1, 120)]
    seen: list[dict[str, Any]] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            document = await store.document(ACCOUNT, CONTOSO)
            if document is not None:
                seen.append(document)

    async def replay() -> None:
        for start in range(0, len(events), 7):
            await retried(store, events[start : start + 7])

    watcher = asyncio.create_task(watch())
    await asyncio.gather(replay(), replay())
    done.set()
    await watcher
    revisions = [document["revision"] for document in seen]
    assert revisions == sorted(revisions)
    for name in ("set-0", "set-1", "set-2"):
        of_grant = [document["grants"][name]["revision"] for document in seen if name in document["grants"]]
        assert of_grant == sorted(of_grant)
    assert statuses(await stored(store)) == {f"set-{n % 3}": ("granted", n) for n in (117, 118, 119)}


async def retried(store: Store, events: Sequence[EventData]) -> None:
    """As the consumer does: again until it works."""
    while True:
        try:
            await write(store, events)
        except PyMongoError:
            continue
        return
