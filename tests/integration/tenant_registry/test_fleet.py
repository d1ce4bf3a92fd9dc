"""A fleet over HTTP: counted, filtered, exported; each role sees its part and nothing else."""

import csv
import io
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from shared.events import ConsentFailed, PermissionRevoked
from support.consent_events import ACCOUNT, ADMINISTRATOR, CONTOSO, FABRIKAM, at, grant_event
from support.eventually import eventually
from support.registry_api import ADATUM, DIRECTORY, MANAGE, Api, ids, numbered, write
from tenant_registry import exports, fleet
from tenant_registry.access import Scope
from tenant_registry.fleet import Fleet
from tenant_registry.queries import Queries, TenantQuery
from tenant_registry.store import Store

if TYPE_CHECKING:
    from shared.mongo import Database


async def three_tenants(store: Store) -> None:
    """Both sets granted; one partial and an old version; one revoked."""
    await write(
        store,
        grant_event(tenant_id=numbered(1)),
        grant_event(tenant_id=numbered(1), revision=2, permission_set_id=MANAGE, version=2),
        grant_event(tenant_id=numbered(2), permission_set_id=MANAGE, status="partial", version=1),
        grant_event(PermissionRevoked, tenant_id=numbered(3), status="revoked", usable=False, reason="removed"),
    )


async def test_a_fleet_is_counted_by_status_set_and_version(api: Api, store: Store) -> None:
    await three_tenants(store)
    await write(store, grant_event(account_id=ADATUM))
    counted = (await api.get("/v1/fleet")).json()
    assert (counted["account_id"], counted["tenants"]) == (ACCOUNT, 3)
    assert counted["statuses"] == {"granted": 1, "partial": 1, "revoked": 1}
    assert counted["permission_sets"] == [
        {
            "permission_set_id": MANAGE,
            "statuses": {"granted": 1, "partial": 1},
            "versions": {"1": 1, "2": 1},
            "not_consented": 1,
        },
        {
            "permission_set_id": DIRECTORY,
            "statuses": {"granted": 1, "revoked": 1},
            "versions": {"1": 1},
            "not_consented": 2,
        },
    ]
    assert (await api.get("/v1/fleet", "staff")).json()["tenants"] == 4
    assert (await api.get("/v1/fleet?account_id=adatum", "staff")).json()["tenants"] == 1


async def test_an_empty_fleet_has_counts_too(api: Api) -> None:
    counted = (await api.get("/v1/fleet")).json()
    assert (counted["tenants"], counted["statuses"], counted["permission_sets"]) == (0, {}, [])


async def test_what_has_just_changed_is_counted_when_somebody_asks_again(api: Api, store: Store) -> None:
    assert (await api.get("/v1/fleet")).json()["tenants"] == 0
    await write(store, grant_event())

    async def tenants() -> int:
        return int((await api.get("/v1/fleet")).json()["tenants"])

    await eventually(tenants, lambda count: count == 1)


async def test_nobody_waits_for_a_count_that_takes_long(
    counted: Fleet, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(store, grant_event())
    before = await counted.counts_of(ACCOUNT)
    monkeypatch.setattr(fleet, "QUICK_SECONDS", -1.0)
    monkeypatch.setattr(fleet, "REST", 0)
    await write(store, grant_event(tenant_id=FABRIKAM))
    # What was counted before is there at once; somebody who asks later reads the new counts.
    assert await counted.counts_of(ACCOUNT) is before
    await eventually(lambda: counted.counts_of(ACCOUNT), lambda seen: seen.tenants == 2)


async def test_counting_takes_a_small_part_of_the_time(
    counted: Fleet, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "REST", 10**9)
    before = await counted.counts_of(ACCOUNT)
    await write(store, grant_event())
    assert await counted.counts_of(ACCOUNT) is before
    monkeypatch.setattr(fleet, "REST", 0)
    assert (await counted.counts_of(ACCOUNT)).tenants == 1


async def test_old_counts_are_shown_to_nobody(counted: Fleet, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await counted.counts_of(ACCOUNT)
    await write(store, grant_event())
    for name, value in {"QUICK_SECONDS": -1.0, "REST": 0, "STALEST_SECONDS": 0.0}.items():
        monkeypatch.setattr(fleet, name, value)
    assert (await counted.counts_of(ACCOUNT)).tenants == 1


async def test_who_has_not_consented_is_found_for_each_set(api: Api, store: Store) -> None:
    await three_tenants(store)
    for query, expected in {
        f"not_consented={DIRECTORY}": [2, 3],
        f"not_consented={MANAGE}": [3],
        "not_consented=read-saas-posture": [1, 2, 3],
        f"not_consented={DIRECTORY}&permission_set_id={MANAGE}": [2],
        f"not_consented={DIRECTORY}&status=revoked": [3],
        f"not_consented={DIRECTORY}&q=contoso": [2, 3],
    }.items():
        assert ids(await api.items(f"/v1/tenants?{query}")) == [numbered(each) for each in expected], query
        assert ids(await api.all_pages(f"/v1/tenants?{query}&limit=1")) == [numbered(each) for each in expected], query


async def test_a_set_is_not_taken_for_another_one_that_begins_alike(api: Api, store: Store) -> None:
    await write(store, grant_event(permission_set_id=f"{MANAGE}-too"))
    assert ids(await api.items(f"/v1/tenants?not_consented={MANAGE}")) == [CONTOSO]


async def test_tenants_are_found_by_the_version_of_a_set(api: Api, store: Store) -> None:
    await three_tenants(store)
    for query, expected in {
        f"permission_set_id={MANAGE}&version=1": [2],
        f"permission_set_id={MANAGE}&version=2": [1],
        f"permission_set_id={MANAGE}&version=3": [],
        f"permission_set_id={MANAGE}&version=1&status=granted": [],
        f"permission_set_id={MANAGE}&version=1&status=partial": [2],
    }.items():
        assert ids(await api.items(f"/v1/tenants?{query}")) == [numbered(each) for each in expected], query
    assert (await api.get("/v1/tenants?version=1")).status_code == 422


async def test_tenants_of_before_are_found_like_all_others(api: Api, store: Store) -> None:
    await three_tenants(store)
    # As they were stored when nobody asked for versions or for what is missing.
    await store.tenants.update_many(
        {},
        [
            {
                "$set": {
                    f"grants.{set_id}": {
                        "$cond": [
                            {"$eq": [{"$type": f"$grants.{set_id}"}, "object"]},
                            {"$mergeObjects": [f"$grants.{set_id}", {"facets": [f"set:{set_id}"]}]},
                            "$$REMOVE",
                        ]
                    }
                    for set_id in (MANAGE, DIRECTORY)
                }
            },
            {"$unset": ["consents", "facets"]},
        ],
    )
    await store.create_indexes()
    assert ids(await api.items(f"/v1/tenants?permission_set_id={MANAGE}&version=2")) == [numbered(1)]
    assert ids(await api.items(f"/v1/tenants?not_consented={MANAGE}")) == [numbered(3)]


async def test_staff_read_the_accounts_and_nobody_else_does(api: Api, store: Store) -> None:
    await three_tenants(store)
    await write(store, *(grant_event(account_id=name) for name in (ADATUM, f"{ACCOUNT}-2")))
    expected = [
        {"account_id": ADATUM, "tenants": 1, "attention": 0},
        {"account_id": ACCOUNT, "tenants": 3, "attention": 2},
        {"account_id": f"{ACCOUNT}-2", "tenants": 1, "attention": 0},
    ]
    found = await api.all_pages("/v1/accounts?limit=2", "staff")
    assert sorted(found, key=str) == sorted(expected, key=str)
    for role in ("viewer", "operator", "admin"):
        assert (await api.get("/v1/accounts", role)).status_code == 403
    assert (await api.get("/v1/accounts", "app", app_id="search")).status_code == 403


@pytest.mark.parametrize("path", ["/v1/fleet", "/v1/tenants.csv", "/v1/history.csv", "/v1/history.jsonl"])
async def test_another_account_does_not_exist_and_apps_have_their_own_lists(api: Api, path: str) -> None:
    assert (await api.get(f"{path}?account_id=adatum")).status_code == 404
    assert (await api.get(path, "app", app_id="search")).status_code == 403
    assert (await api.get(path, "auditor")).status_code == 403


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def test_the_export_has_a_line_for_each_grant_of_what_the_list_shows(api: Api, store: Store) -> None:
    await three_tenants(store)
    await write(store, grant_event(account_id=ADATUM))
    answer = await api.get("/v1/tenants.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = rows_of(answer.text)
    assert [(row["tenant_id"], row["permission_set_id"], row["status"], row["version"]) for row in rows] == [
        (numbered(1), MANAGE, "granted", "2"),
        (numbered(1), DIRECTORY, "granted", "1"),
        (numbered(2), MANAGE, "partial", "1"),
        (numbered(3), DIRECTORY, "revoked", "1"),
    ]
    assert rows[0]["tenant_name"] == "Contoso Ltd"
    assert (rows[3]["reason"], rows[3]["usable"], rows[3]["updated_at"]) == (
        "removed",
        "false",
        "2026-11-23T13:00:00.001Z",
    )
    some = rows_of((await api.get(f"/v1/tenants.csv?not_consented={DIRECTORY}")).text)
    assert [row["tenant_id"] for row in some] == [numbered(2), numbered(3)]


async def test_a_tenants_name_cannot_be_a_formula(api: Api, store: Store) -> None:
    await write(store, grant_event(tenant_name="=HYPERLINK(1)"))
    (row,) = rows_of((await api.get("/v1/tenants.csv")).text)
    assert row["tenant_name"] == "'=HYPERLINK(1)"
    (entry,) = rows_of((await api.get("/v1/history.csv")).text)
    assert entry["tenant_name"] == "'=HYPERLINK(1)"


async def test_an_export_goes_on_over_many_pages(api: Api, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 3)
    events = [grant_event(tenant_id=numbered(number), revision=number) for number in range(1, 10)]
    await write(store, *events)
    everything = [numbered(number) for number in range(1, 10)]
    assert [row["tenant_id"] for row in rows_of((await api.get("/v1/tenants.csv")).text)] == everything
    assert [row["tenant_id"] for row in rows_of((await api.get("/v1/history.csv")).text)] == everything[::-1]


async def test_memory_does_not_grow_with_what_is_exported(
    database: "Database", store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE", 100)

    async def peak(pages: int) -> int:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        parts = exports.tenants_csv(Queries(database), TenantQuery(scope=Scope(account_id=ACCOUNT)))
        async for _ in parts:
            pages -= 1
            if pages == 0:
                break
        return tracemalloc.get_traced_memory()[1] - before

    events = [grant_event(tenant_id=numbered(number)) for number in range(12 * exports.PAGE)]
    for begin in range(0, len(events), exports.PAGE):
        await write(store, *events[begin : begin + exports.PAGE])
    tracemalloc.start()
    try:
        await peak(2)
        few = await peak(2)
        many = await peak(12)
    finally:
        tracemalloc.stop()
    assert many < 2 * few


def utc(revision: int) -> str:
    return at(revision).isoformat().replace("+00:00", "Z")


async def test_the_history_can_be_narrowed(api: Api, store: Store) -> None:
    await write(
        store,
        grant_event(revision=1),
        grant_event(revision=2, permission_set_id=MANAGE),
        grant_event(PermissionRevoked, revision=3, status="revoked", usable=False),
        ConsentFailed(
            account_id=ACCOUNT,
            tenant_id=CONTOSO,
            permission_set_ids=(MANAGE,),
            attempt_id="a-1",
            stage="callback",
            reason="declined",
            actor=ADMINISTRATOR,
            occurred_at=at(4),
        ),
    )
    tenant = f"/v1/tenants/{CONTOSO}/history"
    for query, expected in {
        f"{tenant}?type=PermissionGranted": [2, 1],
        f"{tenant}?permission_set_id={DIRECTORY}": [3, 1],
        f"{tenant}?permission_set_id={MANAGE}": [None, 2],
        f"{tenant}?since={utc(2)}": [None, 3, 2],
        f"/v1/history?type=PermissionGranted&until={utc(2)}": [1],
        "/v1/history?type=PermissionRevoked": [3],
        "/v1/history?type=Nothing": [],
    }.items():
        assert [entry.get("revision") for entry in await api.items(query)] == expected, query
    paged = await api.all_pages("/v1/history?type=PermissionGranted&limit=1")
    assert [entry["revision"] for entry in paged] == [2, 1]
    assert (await api.get(f"/v1/history.csv?permission_set_id={MANAGE}")).status_code == 422
    assert (await api.get("/v1/history.csv?tenant_id=x")).status_code == 422


async def test_a_line_of_the_exported_history_is_an_item_of_the_list(api: Api, store: Store) -> None:
    await write(store, grant_event(revision=1), grant_event(revision=2, tenant_id=FABRIKAM))
    listed: list[Any] = await api.items("/v1/history")
    lines = (await api.get("/v1/history.jsonl")).text.splitlines()
    assert [json.loads(line) for line in lines] == listed
    of_one = (await api.get(f"/v1/history.jsonl?tenant_id={CONTOSO.upper()}")).text.splitlines()
    assert [json.loads(line) for line in of_one] == listed[1:]
    assert (await api.get(f"/v1/history.jsonl?tenant_id={CONTOSO}", "staff")).status_code == 422
