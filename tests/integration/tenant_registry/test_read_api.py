"""The read API as its callers see it: real tokens, a real database; each role sees its part and nothing else."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from shared.events import ConsentFailed, PermissionRevoked, TenantRemoved
from support.consent_events import ACCOUNT, ADMINISTRATOR, CONTOSO, FABRIKAM, at, grant_event, tenant_event
from support.openapi import unsound, without_example
from support.registry_api import ADATUM, DIRECTORY, MANAGE, Api, ids, numbered, write
from tenant_registry.store import Store


async def test_a_tenant_is_returned_with_its_grants(api: Api, store: Store) -> None:
    held = {"app_id": "mobile-security", "tenant_id": FABRIKAM, "epoch": 2}
    await write(
        store,
        grant_event(revision=3, held_apps=(held,), granted_at=at(3), granted_by="admin-id", verified_at=at(4)),
        grant_event(
            PermissionRevoked, revision=4, permission_set_id=MANAGE, status="revoked", usable=False, reason="removed"
        ),
    )
    answer = await api.get(f"/v1/tenants/{CONTOSO}")
    tenant = answer.json()
    assert {name: tenant[name] for name in ("tenant_id", "tenant_name", "primary_domain", "cloud", "account_id")} == {
        "tenant_id": CONTOSO,
        "tenant_name": "Contoso Ltd",
        "primary_domain": "contoso.com",
        "cloud": "global",
        "account_id": ACCOUNT,
    }
    assert tenant["revision"] == 4
    assert [grant["permission_set_id"] for grant in tenant["grants"]] == [MANAGE, DIRECTORY]
    revoked, granted = tenant["grants"]
    assert (revoked["status"], revoked["usable"], revoked["reason"], revoked["revision"]) == (
        "revoked",
        False,
        "removed",
        4,
    )
    assert granted["held_apps"] == [held]
    assert granted["granted_by"] == "admin-id"
    assert granted["permissions"][0]["value"] == "Directory.Read.All"
    assert (await api.items("/v1/tenants"))[0] == tenant


async def test_what_is_asked_for_announced_or_held_back_is_told_with_the_grant(api: Api, store: Store) -> None:
    """A reader of the tenant, and one that begins with the compacted topic, sees what the events said."""
    wanted = {"resource_app_id": "00000003-0000-0000-c000-000000000000", "value": "Mail.Read", "type": "application"}
    told: dict[str, Any] = {
        "available_version": 2,
        "additional": [wanted],
        "planned": [
            {
                "version": 3,
                "effective_from": "2026-12-01T00:00:00Z",
                "adds": [wanted],
                "removes": [],
                "reason": "Reads the mail that was reported",
            }
        ],
        "settings": [{"kind": "licence", "name": "AAD_PREMIUM_P2", "functions": ["identity-security/risky-users"]}],
    }
    await write(store, grant_event(status="update_available", **told))
    (grant,) = (await api.get(f"/v1/tenants/{CONTOSO}")).json()["grants"]
    assert {name: grant[name] for name in told} == told
    (pending,) = await store.pending_states(10)
    assert pending.state is not None
    assert pending.state.model_dump(mode="json")["grants"] == [grant]
    entry = (await api.items(f"/v1/tenants/{CONTOSO}/history"))[0]
    assert {name: entry[name] for name in told} == told


async def test_the_etag_follows_the_answer(api: Api, store: Store) -> None:
    await write(store, grant_event(revision=1))
    path = f"/v1/tenants/{CONTOSO}"
    etag = (await api.get(path)).headers["etag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await api.get(path, headers={"if-none-match": sent})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert (await api.get(path, headers={"if-none-match": '"other"'})).status_code == 200
    await write(store, grant_event(revision=2))
    answer = await api.get(path, headers={"if-none-match": etag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != etag
    # An older event of another grant changes the answer, though not the tenant's revision.
    before = answer.headers["etag"]
    await write(store, grant_event(revision=1, permission_set_id=MANAGE))
    assert (await api.get(path, headers={"if-none-match": before})).status_code == 200


async def test_a_tenant_id_may_be_written_in_capitals(api: Api, store: Store) -> None:
    await write(store, grant_event())
    assert (await api.get(f"/v1/tenants/{CONTOSO.upper()}")).status_code == 200


async def test_filters_hold_for_one_and_the_same_grant(api: Api, store: Store) -> None:
    await write(
        store,
        grant_event(revision=1, apps=("search",)),
        grant_event(revision=2, permission_set_id=MANAGE, status="partial", apps=("workbench",)),
        grant_event(revision=1, tenant_id=FABRIKAM, tenant_name="Fabrikam Inc", apps=("search", "workbench")),
    )
    for query, expected in {
        "": {CONTOSO, FABRIKAM},
        "app_id=search": {CONTOSO, FABRIKAM},
        f"permission_set_id={MANAGE}": {CONTOSO},
        "status=partial": {CONTOSO},
        "app_id=workbench": {CONTOSO, FABRIKAM},
        "app_id=workbench&status=granted": {FABRIKAM},
        f"app_id=workbench&permission_set_id={DIRECTORY}": {FABRIKAM},
        f"app_id=workbench&permission_set_id={MANAGE}&status=partial": {CONTOSO},
        f"app_id=search&permission_set_id={MANAGE}": set(),
        f"permission_set_id={MANAGE}&status=granted": set(),
        "app_id=unknown": set(),
    }.items():
        assert set(ids(await api.items(f"/v1/tenants?{query}"))) == expected, query


async def test_search_finds_beginnings_of_words_and_whole_ids(api: Api, store: Store) -> None:
    await write(
        store,
        grant_event(tenant_name="Contoso Großhandel", primary_domain="contoso.example"),
        grant_event(tenant_id=FABRIKAM, tenant_name="Fabrikam Inc", primary_domain="fabrikam.com"),
    )
    for query, expected in {
        "contoso": [CONTOSO],
        "CONT": [CONTOSO],
        "co": [FABRIKAM, CONTOSO],
        "grosshandel contoso": [CONTOSO],
        "contoso fabrikam": [],
        "fabrikam.com": [FABRIKAM],
        "toso": [],
        CONTOSO.upper(): [CONTOSO],
        ".*": [FABRIKAM, CONTOSO],
        "": [FABRIKAM, CONTOSO],
    }.items():
        assert ids(await api.items(f"/v1/tenants?q={query}")) == expected, query


async def test_pages_follow_each_other_without_gap_or_overlap(api: Api, store: Store) -> None:
    await write(store, *(grant_event(tenant_id=numbered(number)) for number in range(7)))
    await write(store, *(grant_event(account_id=ADATUM, tenant_id=numbered(number)) for number in range(7)))
    for query in ("limit=3", "limit=7", "limit=3&status=granted", "limit=2&app_id=search", "limit=2&q=contoso"):
        assert ids(await api.all_pages(f"/v1/tenants?{query}")) == [numbered(number) for number in range(7)], query
    seen = await api.all_pages("/v1/tenants?limit=4", "staff")
    assert [(item["account_id"], item["tenant_id"]) for item in seen] == [
        (account, numbered(number)) for account in (ADATUM, ACCOUNT) for number in range(7)
    ]


async def test_a_cursor_does_not_lead_out_of_the_account(api: Api, store: Store) -> None:
    await write(store, grant_event(), grant_event(account_id=ADATUM, tenant_id=FABRIKAM))
    other = await api.get("/v1/tenants?limit=1", "staff")
    assert ids(await api.items(f"/v1/tenants?cursor={other.json()['next_cursor']}")) == [CONTOSO]
    assert await api.items(f"/v1/tenants?cursor={other.json()['next_cursor']}", account_id="aaa") == []


async def test_the_tenants_of_another_account_do_not_exist(api: Api, store: Store) -> None:
    await write(store, grant_event(account_id=ADATUM))
    assert await api.items("/v1/tenants") == []
    assert await api.items("/v1/history") == []
    for path in (f"/v1/tenants/{CONTOSO}", f"/v1/tenants/{CONTOSO}/history", "/v1/tenants?account_id=adatum"):
        answer = await api.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        unknown = await api.get(path.replace(CONTOSO, FABRIKAM).replace("adatum", "nobody"))
        assert answer.json() == unknown.json()


async def test_accounts_whose_names_begin_alike_are_kept_apart(api: Api, store: Store) -> None:
    await write(store, *(grant_event(account_id=name) for name in (ACCOUNT, f"{ACCOUNT}-2", "northwin")))
    assert [item["account_id"] for item in await api.items("/v1/tenants")] == [ACCOUNT]


async def test_an_app_sees_the_grants_that_name_it_and_nothing_else(api: Api, store: Store) -> None:
    await write(
        store,
        grant_event(apps=("search",)),
        grant_event(revision=2, permission_set_id=MANAGE, apps=("workbench",)),
        grant_event(account_id=ADATUM, tenant_id=FABRIKAM, apps=("search",)),
        grant_event(account_id=ADATUM, tenant_id=numbered(1), apps=("workbench",)),
    )
    seen = await api.items("/v1/tenants", "app", app_id="search")
    assert {(item["account_id"], item["tenant_id"]) for item in seen} == {(ACCOUNT, CONTOSO), (ADATUM, FABRIKAM)}
    assert [grant["permission_set_id"] for item in seen for grant in item["grants"]] == [DIRECTORY, DIRECTORY]
    (tenant,) = [item for item in seen if item["tenant_id"] == CONTOSO]
    assert (await api.get(f"/v1/tenants/{CONTOSO}", "app", app_id="search")).json() == tenant
    assert (await api.get(f"/v1/tenants/{numbered(1)}", "app", app_id="search")).status_code == 404
    assert (await api.get(f"/v1/tenants/{numbered(1)}/history", "app", app_id="search")).status_code == 404
    assert await api.items(f"/v1/tenants?permission_set_id={MANAGE}", "app", app_id="search") == []
    for path in ("/v1/tenants?app_id=workbench", "/v1/apps/workbench/tenants", "/v1/history"):
        assert (await api.get(path, "app", app_id="search")).status_code == 403, path


async def test_an_apps_tenants_are_those_that_it_may_read_now(api: Api, store: Store) -> None:
    await write(
        store,
        grant_event(apps=("search",)),
        grant_event(account_id=ADATUM, tenant_id=FABRIKAM, apps=("search",), status="blocked", usable=False),
        grant_event(account_id=ADATUM, tenant_id=numbered(1), apps=("search",), status="partial"),
    )
    path = "/v1/apps/search/tenants"
    assert ids(await api.items(path, "app", app_id="search")) == [numbered(1), CONTOSO]
    assert ids(await api.all_pages(f"{path}?limit=1", "app", app_id="search")) == [numbered(1), CONTOSO]
    assert ids(await api.items(f"{path}?account_id=adatum", "app", app_id="search")) == [numbered(1)]
    assert ids(await api.items(path)) == [CONTOSO]
    assert ids(await api.items(path, "staff")) == [numbered(1), CONTOSO]
    await write(store, grant_event(PermissionRevoked, revision=2, status="revoked", usable=False, apps=()))
    assert ids(await api.items(path, "app", app_id="search")) == [numbered(1)]


async def test_staff_name_the_account_of_a_tenant_that_several_hold(api: Api, store: Store) -> None:
    await write(store, grant_event(), grant_event(account_id=ADATUM))
    for path in (f"/v1/tenants/{CONTOSO}", f"/v1/tenants/{CONTOSO}/history"):
        answer = await api.get(path, "staff")
        assert answer.status_code == 409
        assert answer.json()["account_ids"] == [ADATUM, ACCOUNT]
        assert (await api.get(f"{path}?account_id=adatum", "staff")).status_code == 200
    assert (await api.get(f"/v1/tenants/{CONTOSO}?account_id=adatum", "staff")).json()["account_id"] == ADATUM


async def test_history_tells_what_happened_newest_first(api: Api, store: Store) -> None:
    failed = ConsentFailed(
        account_id=ACCOUNT,
        permission_set_ids=(DIRECTORY,),
        attempt_id="a-1",
        stage="callback",
        reason="declined",
        error_code="AADSTS65004",
        detail="what did not hold",
        versions={DIRECTORY: 3},
        channel="app",
        requested_by="search",
        actor=ADMINISTRATOR,
        occurred_at=at(1),
    )
    happened = await write(
        store,
        failed,
        grant_event(revision=2),
        grant_event(PermissionRevoked, revision=3, status="revoked", previous_status="granted", reason="removed"),
        grant_event(revision=4, tenant_id=FABRIKAM),
        grant_event(revision=2, account_id=ADATUM),
    )
    entries = await api.items("/v1/history")
    assert [entry["id"] for entry in entries] == [happened[3], happened[2], happened[1], happened[0]]
    assert entries[3] == {
        "id": happened[0],
        "type": "ConsentFailed",
        "account_id": ACCOUNT,
        "tenant_id": None,
        "revision": None,
        "permission_set_ids": [DIRECTORY],
        "apps": [],
        "attempt_id": "a-1",
        "stage": "callback",
        "reason": "declined",
        "error_code": "AADSTS65004",
        "detail": "what did not hold",
        "resource_app_id": None,
        "versions": {DIRECTORY: 3},
        "channel": "app",
        "requested_by": "search",
        "actor": {"kind": "administrator", "id": ADMINISTRATOR.id},
        "occurred_at": "2026-11-23T13:00:00.001000Z",
    }
    of_tenant = await api.items(f"/v1/tenants/{CONTOSO}/history")
    assert [(entry["type"], entry["revision"]) for entry in of_tenant] == [
        ("PermissionRevoked", 3),
        ("PermissionGranted", 2),
    ]
    assert (of_tenant[0]["previous_status"], of_tenant[0]["status"], of_tenant[0]["reason"]) == (
        "granted",
        "revoked",
        "removed",
    )
    assert len(await api.items("/v1/history", "staff")) == 5
    assert [entry["account_id"] for entry in await api.items("/v1/history?account_id=adatum", "staff")] == [ADATUM]


async def test_history_pages_keep_their_order_within_one_millisecond(api: Api, store: Store) -> None:
    same = [grant_event(revision=revision, occurred_at=at(1)) for revision in (3, 1, 2)]
    same += [grant_event(revision=2, tenant_id=numbered(number), occurred_at=at(1)) for number in range(4)]
    await write(store, *same)
    for path in ("/v1/history?limit=2", "/v1/history?limit=1"):
        entries = await api.all_pages(path)
        assert [entry["revision"] for entry in entries] == [3, 2, 2, 2, 2, 2, 1]
        assert len({entry["id"] for entry in entries}) == 7
    of_tenant = await api.all_pages(f"/v1/tenants/{CONTOSO}/history?limit=1")
    assert [entry["revision"] for entry in of_tenant] == [3, 2, 1]


async def test_an_app_reads_of_a_tenants_history_what_concerns_it(api: Api, store: Store) -> None:
    await write(
        store,
        grant_event(revision=1, apps=("search",)),
        grant_event(revision=2, permission_set_id=MANAGE, apps=("workbench",)),
        grant_event(revision=3, permission_set_id=MANAGE, apps=("workbench",), previous_apps=("search",)),
    )
    entries = await api.items(f"/v1/tenants/{CONTOSO}/history", "app", app_id="search")
    assert [entry["revision"] for entry in entries] == [3, 1]


async def test_a_removed_tenant_is_gone_but_its_history_stays(api: Api, store: Store) -> None:
    await write(store, grant_event(revision=1), tenant_event(TenantRemoved, revision=2, reason="disconnected"))
    assert (await api.get(f"/v1/tenants/{CONTOSO}")).status_code == 404
    assert await api.items("/v1/tenants") == []
    assert await api.items("/v1/tenants?q=contoso") == []
    assert [entry["type"] for entry in await api.items(f"/v1/tenants/{CONTOSO}/history")] == [
        "TenantRemoved",
        "PermissionGranted",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tenants?limit=0",
        "/v1/tenants?limit=201",
        "/v1/tenants?limit=many",
        "/v1/tenants?cursor=!",
        "/v1/tenants?cursor=%00",
        "/v1/tenants?status=Granted%00",
        "/v1/tenants?status[$ne]=x",
        "/v1/tenants?app_id=../x",
        "/v1/tenants?permission_set_id=a.b",
        "/v1/tenants?account_id=$where",
        "/v1/tenants?colour=blue",
        f"/v1/tenants?q={'x' * 201}",
        "/v1/tenants/not-a-guid",
        "/v1/tenants/00000000-0000-0000-0000-000000000000",
        "/v1/tenants/not-a-guid/history",
        "/v1/history?cursor=bm90IGEgY3Vyc29y",
        "/v1/apps/NO/tenants",
    ],
)
async def test_a_malformed_parameter_is_a_problem_that_says_so(api: Api, path: str) -> None:
    answer = await api.get(path, "staff")
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_a_caller_without_a_token_or_a_role_is_refused(api: Api, app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry.test") as stranger:
        for path in ("/v1/tenants", f"/v1/tenants/{CONTOSO}", "/v1/history", "/v1/apps/search/tenants"):
            answer = await stranger.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"][:6]) == (401, "Bearer")
            assert (await api.get(path, "auditor")).status_code == 403


async def test_the_openapi_document_has_a_true_example_for_each_answer(app: FastAPI) -> None:
    document = app.openapi()
    assert set(document["paths"]) == {
        "/v1/accounts",
        "/v1/apps/{app_id}/tenants",
        "/v1/fleet",
        "/v1/history",
        "/v1/history.csv",
        "/v1/history.jsonl",
        "/v1/tenants",
        "/v1/tenants.csv",
        "/v1/tenants/{tenant_id}",
        "/v1/tenants/{tenant_id}/history",
    }
    assert unsound(document) == []
    assert without_example(document) == []
