"""Directory roles and licences, read from the sandbox's Graph: held back is told once, unknown is never missing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request

from consent_gateway.consent.proof import Administrator
from consent_gateway.core import Core, utc_now
from consent_gateway.grants.grants import Facts, Grant, Status
from consent_gateway.web import api_functions
from shared import problems
from shared.auth import Principal
from shared.events import Actor, GrantData, decode
from support.entra_sandbox import EntraSandbox
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, OPERATOR
from support.ledger import accepted

MANAGE = "manage-accounts"
RESETS = {"zero-trust-secure-access/reset-password", "cyber-risk-exposure-management/reset-password"}


@pytest_asyncio.fixture
async def watching(core: Core) -> Core:
    await core.settings_watch.create_indexes()
    return core


async def connect(core: Core, entra: EntraSandbox, *sets: str, tenant_id: str = CONTOSO) -> None:
    """Consented in Entra, accepted here and verified."""
    for each in sets:
        await entra.api("POST", f"tenants/{tenant_id}/apps/{CLIENT_IDS[each]}/consent")
    person = Administrator(tenant_id=tenant_id, object_id="6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22", name=None, roles=None)
    await accepted(core, person, OPERATOR, *sets, first_check_at=utc_now() + timedelta(days=1))
    await core.verification.check("northwind", tenant_id, set(sets))


async def read_all(core: Core) -> int:
    """Read whatever is due; how many tenants that were."""
    count = 0
    while await core.settings_watch.step():
        count += 1
    return count


async def there(core: Core, permission_set_id: str, tenant_id: str = CONTOSO) -> Grant:
    found = await core.store.grants.grants_on("northwind", tenant_id)
    return next(each for each in found if each.permission_set_id == permission_set_id)


async def told(core: Core) -> list[GrantData]:
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    data = [decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows]
    return [one for one in data if isinstance(one, GrantData) and one.cause == "settings"]


async def roles(entra: EntraSandbox, *names: str) -> None:
    await entra.api("PATCH", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[MANAGE]}", directory_roles=list(names))


async def test_a_missing_role_is_told_once_and_its_arrival_too(watching: Core, entra: EntraSandbox) -> None:
    await connect(watching, entra, MANAGE)
    assert await read_all(watching) == 1
    (event,) = await told(watching)
    assert (event.status, event.previous_status, event.usable) == ("granted", "granted", True)
    (setting,) = event.settings
    assert (setting.kind, setting.name, set(setting.functions)) == ("directory_role", "Password Administrator", RESETS)
    assert (await there(watching, MANAGE)).status is Status.GRANTED
    await watching.store.grants.check_now("northwind", CONTOSO, MANAGE, now=utc_now())
    assert await read_all(watching) == 1
    assert len(await told(watching)) == 1
    await roles(entra, "Password Administrator")
    await watching.store.grants.check_now("northwind", CONTOSO, MANAGE, now=utc_now())
    await read_all(watching)
    assert (await told(watching))[-1].settings == ()
    assert await read_all(watching) == 0


async def test_what_no_grant_allows_to_read_is_unknown(watching: Core, entra: EntraSandbox) -> None:
    await connect(watching, entra, "read-saas-posture")
    await read_all(watching)
    assert await told(watching) == []
    tenant = await watching.store.grants.tenant("northwind", CONTOSO)
    assert tenant is not None
    assert tenant.facts.read_at is not None
    assert dict(tenant.facts.directory_roles) == {}
    # Another set's permissions allow it: the same role is now known to be missing.
    await connect(watching, entra, "read-directory-data")
    await read_all(watching)
    (event,) = await told(watching)
    assert event.permission_set_id == "read-saas-posture"
    assert [setting.name for setting in event.settings] == ["Global Reader"]


async def test_a_licence_that_the_tenant_does_not_have(watching: Core, entra: EntraSandbox) -> None:
    await entra.api("PATCH", f"tenants/{CONTOSO}", licences=["O365_BUSINESS_PREMIUM"])
    await connect(watching, entra, "read-activity-data")
    await read_all(watching)
    (event,) = await told(watching)
    assert {(setting.kind, setting.name) for setting in event.settings} == {("licence", "Microsoft Entra ID P1 or P2")}


@pytest.mark.parametrize("kind", ["throttle", "unavailable", "reset"])
async def test_a_graph_that_does_not_answer_changes_nothing_and_is_asked_later(
    watching: Core, entra: EntraSandbox, kind: str
) -> None:
    await connect(watching, entra, MANAGE)
    await roles(entra, "Password Administrator")
    await read_all(watching)
    await entra.api("POST", "faults", kind=kind, endpoint="graph", tenant_id=CONTOSO)
    await watching.store.grants.check_now("northwind", CONTOSO, MANAGE, now=utc_now())
    assert await read_all(watching) == 1
    assert await told(watching) == []
    document = await watching.database["tenants"].find_one({"tenant_id": CONTOSO})
    assert document is not None
    assert document["settings"]["failures"] == 1
    assert utc_now() + timedelta(minutes=5) < document["settings"]["next_at"] < utc_now() + timedelta(minutes=15)


async def test_graphs_wish_to_be_left_alone_is_honoured(watching: Core, entra: EntraSandbox) -> None:
    await connect(watching, entra, MANAGE)
    await entra.api("POST", "faults", kind="throttle", endpoint="graph", tenant_id=CONTOSO, retry_after=3_000)
    assert await read_all(watching) == 1
    document = await watching.database["tenants"].find_one({"tenant_id": CONTOSO})
    assert document is not None
    assert document["settings"]["next_at"] > utc_now() + timedelta(minutes=45)


async def test_a_grant_that_is_blocked_is_not_used_to_read_anything(watching: Core, entra: EntraSandbox) -> None:
    await connect(watching, entra, MANAGE)
    actor = Actor(kind="user", id="operator-1")
    await watching.operations.block("northwind", CONTOSO, MANAGE, blocked=True, actor=actor, now=utc_now())
    asked = len(await entra.requests())
    assert await read_all(watching) == 1
    assert len(await entra.requests()) == asked
    tenant = await watching.store.grants.tenant("northwind", CONTOSO)
    assert tenant is not None
    assert (dict(tenant.facts.directory_roles), tenant.facts.service_plans) == ({}, None)
    assert await told(watching) == []


async def test_whoever_was_overtaken_writes_nothing_and_a_change_meanwhile_is_read_again(
    watching: Core, entra: EntraSandbox
) -> None:
    await connect(watching, entra, MANAGE)
    watch, tenants = watching.settings_watch, watching.database["tenants"]
    slept = await watch._claim()
    assert slept is not None
    await tenants.update_one({}, {"$set": {"settings.next_at": utc_now()}})
    latest = await watch._claim()
    assert latest is not None
    lacks = Facts(directory_roles={CLIENT_IDS[MANAGE]: frozenset()}, read_at=utc_now())
    assert not await watch._keep(slept, lacks)
    assert await told(watching) == []
    # A grant changes while Graph is asked: what was read is kept, and is read anew.
    actor = Actor(kind="user", id="operator-1")
    for blocked in (True, False):
        await watching.operations.block("northwind", CONTOSO, MANAGE, blocked=blocked, actor=actor, now=utc_now())
    assert await watch._keep(latest, lacks)
    assert len(await told(watching)) == 1
    assert await read_all(watching) == 1


async def test_many_replicas_read_a_tenant_once(make_core: Any, entra: EntraSandbox) -> None:
    cores = [await make_core(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca) for _ in range(3)]
    await cores[0].settings_watch.create_indexes()
    for tenant_id in (CONTOSO, FABRIKAM):
        await connect(cores[0], entra, MANAGE, tenant_id=tenant_id)
    done = await asyncio.gather(*(read_all(core) for core in cores))
    assert sum(done) == 2
    assert len(await told(cores[0])) == 2


@pytest_asyncio.fixture
async def ask(watching: Core) -> AsyncIterator[Any]:
    """Ask for an app's functions in somebody's name."""
    who: list[Principal] = []

    async def caller(_: Request) -> Principal:
        return who[0]

    app = FastAPI()
    problems.install(app)
    app.include_router(api_functions.router(caller, catalog=watching.catalog, tenants=watching.store.grants))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test") as client:

        async def get(*roles: str, app_id: str = "zero-trust-secure-access", **more: Any) -> httpx.Response:
            query = {"tenant_id": more.pop("tenant_id", CONTOSO)} | more.pop("query", {})
            values: dict[str, Any] = {"account_id": "northwind", "app_id": more.pop("caller", None)} | more
            who[:] = [Principal(subject="s", account_name=None, roles=frozenset(roles), expires_at=2**31, **values)]
            return await client.get(f"/v1/apps/{app_id}/functions", params=query)

        yield get


async def test_the_api_says_what_works_and_what_is_held_back(watching: Core, entra: EntraSandbox, ask: Any) -> None:
    await connect(watching, entra, MANAGE)
    await read_all(watching)
    answer = await ask("viewer")
    assert answer.status_code == 200
    states = {one["id"]: one["state"] for one in answer.json()["items"]}
    assert states == {
        "synchronize": "works",
        "enforce": "works",
        "reset-password": "held_back",
        "data-loss-prevention": "lacks",
    }
    by_id = {one["id"]: one for one in answer.json()["items"]}
    assert by_id["reset-password"]["settings"][0]["client_ids"] == [CLIENT_IDS[MANAGE]]
    assert by_id["data-loss-prevention"]["permission_set_ids"] == ["read-protected-content"]
    assert answer.json()["settings_read_at"] is not None


@pytest.mark.parametrize(
    ("role", "asked", "status"),
    [
        ("viewer", {}, 200),
        ("viewer", {"account_id": "adatum"}, 404),
        ("viewer", {"query": {"account_id": "adatum"}}, 404),
        ("viewer", {"tenant_id": FABRIKAM}, 404),
        ("viewer", {"tenant_id": "contoso.com"}, 422),
        ("staff", {"account_id": None}, 422),
        ("staff", {"account_id": None, "query": {"account_id": "northwind"}}, 200),
        ("nobody", {}, 403),
        ("app", {"account_id": None, "caller": "search"}, 404),
        ("app", {"account_id": None, "caller": "zero-trust-secure-access"}, 422),
        (
            "app",
            {"account_id": None, "caller": "zero-trust-secure-access", "query": {"account_id": "northwind"}},
            200,
        ),
    ],
)
async def test_each_caller_sees_what_is_its_own(
    watching: Core, ask: Any, role: str, asked: dict[str, Any], status: int
) -> None:
    person = Administrator(tenant_id=CONTOSO, object_id="6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22", name=None, roles=None)
    await accepted(watching, person, OPERATOR, "read-directory-data")
    assert (await ask(role, **asked)).status_code == status
