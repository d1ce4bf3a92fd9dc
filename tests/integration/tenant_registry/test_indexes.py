"""Every query of the read API is answered by an index, in the index's order."""

from typing import TYPE_CHECKING, Any

import pytest

from support.consent_events import ACCOUNT, CONTOSO, at, event, grant_event
from tenant_registry.access import Scope
from tenant_registry.projection import fold, project
from tenant_registry.queries import HistoryPosition, HistoryQuery, TenantQuery, history_filter, tenant_filter
from tenant_registry.store import Store

if TYPE_CHECKING:
    from shared.mongo import Collection

PERSON, STAFF = Scope(account_id=ACCOUNT), Scope(account_id=None)
APP = Scope(account_id=None, app_id="search")
AFTER = f"{ACCOUNT}:{CONTOSO}"

TENANT_QUERIES = {
    "an account": TenantQuery(scope=PERSON),
    "the next page": TenantQuery(scope=PERSON, after=AFTER),
    "by app": TenantQuery(scope=PERSON, app_id="search"),
    "by set": TenantQuery(scope=PERSON, permission_set_id="manage-accounts"),
    "by status": TenantQuery(scope=PERSON, status="partial"),
    "by all": TenantQuery(
        scope=PERSON, app_id="search", permission_set_id="manage-accounts", status="partial", after=AFTER
    ),
    "by text": TenantQuery(scope=PERSON, text="contoso"),
    "by short text": TenantQuery(scope=PERSON, text="co"),
    "by text and status": TenantQuery(scope=PERSON, text="contoso", status="granted"),
    "by id": TenantQuery(scope=PERSON, text=CONTOSO),
    "by version": TenantQuery(scope=PERSON, permission_set_id="manage-accounts", version=1, after=AFTER),
    "by what is missing": TenantQuery(scope=PERSON, not_consented="manage-accounts", after=AFTER),
    "staff": TenantQuery(scope=STAFF, after=AFTER),
    "staff by what is missing": TenantQuery(scope=STAFF, not_consented="manage-accounts"),
    "staff by status": TenantQuery(scope=STAFF, status="granted"),
    "staff by text": TenantQuery(scope=STAFF, text="contoso"),
    "app": TenantQuery(scope=APP),
    "app, readable": TenantQuery(scope=APP, usable=True, after=AFTER),
}
BEFORE = HistoryPosition(milliseconds=1, revision=1, id="x")
HISTORY_QUERIES = {
    "a tenant": HistoryQuery(account_id=ACCOUNT, tenant_id=CONTOSO),
    "its next page": HistoryQuery(account_id=ACCOUNT, tenant_id=CONTOSO, before=BEFORE),
    "for an app": HistoryQuery(account_id=ACCOUNT, tenant_id=CONTOSO, app_id="search", before=BEFORE),
    "an account": HistoryQuery(account_id=ACCOUNT, before=BEFORE),
    "an account by type": HistoryQuery(account_id=ACCOUNT, type="PermissionRevoked", before=BEFORE),
    "an account in a time": HistoryQuery(account_id=ACCOUNT, since=at(1), until=at(2)),
    "a tenant by set": HistoryQuery(account_id=ACCOUNT, tenant_id=CONTOSO, permission_set_id="x", before=BEFORE),
    "all": HistoryQuery(account_id=None, before=BEFORE),
}


async def filled(store: Store) -> None:
    outcomes = [
        project(event(grant_event(tenant_id=f"00000000-0000-4000-8000-{number:012}", occurred_at=at(number))))
        for number in range(300)
    ]
    await store.write(
        fold(outcome.change for outcome in outcomes if outcome.change is not None),
        [outcome.history for outcome in outcomes if outcome.history is not None],
    )


async def stages(collection: "Collection", query: dict[str, Any], sort: list[tuple[str, int]]) -> set[str]:
    plan = (await collection.find(query).sort(sort).limit(50).explain())["queryPlanner"]["winningPlan"]
    return set(names(plan))


def names(plan: Any) -> list[str]:
    if isinstance(plan, dict):
        here = [plan["stage"]] if isinstance(plan.get("stage"), str) else []
        return here + [name for value in plan.values() for name in names(value)]
    return [name for value in plan for name in names(value)] if isinstance(plan, list) else []


@pytest.mark.parametrize("name", TENANT_QUERIES)
async def test_a_query_of_tenants_scans_no_collection_and_sorts_nothing(store: Store, name: str) -> None:
    await filled(store)
    query = TENANT_QUERIES[name]
    combinations = ["", "read-directory-data "] if query.not_consented is not None else None
    used = await stages(store.tenants, tenant_filter(query, combinations), [("_id", 1)])
    assert "IXSCAN" in used
    assert not used & {"COLLSCAN", "SORT"}


@pytest.mark.parametrize("name", HISTORY_QUERIES)
async def test_a_query_of_the_history_scans_no_collection_and_sorts_nothing(store: Store, name: str) -> None:
    await filled(store)
    newest_first = [("occurred_at", -1), ("revision", -1), ("_id", -1)]
    used = await stages(store.history, history_filter(HISTORY_QUERIES[name]), newest_first)
    assert "IXSCAN" in used
    assert not used & {"COLLSCAN", "SORT"}


async def test_what_waits_to_be_published_is_found_by_an_index(store: Store) -> None:
    await filled(store)
    assert not await stages(store.tenants, {"state_pending": {"$exists": True}}, [("state_pending", 1)]) & {
        "COLLSCAN",
        "SORT",
    }
