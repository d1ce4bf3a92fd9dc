"""What an announced version will ask, and of whom: the page, the API, and the query behind both."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
import yaml

from consent_gateway.catalog.planned import Planned, planned
from consent_gateway.core import Core, utc_now
from consent_gateway.grants import asked_store
from consent_gateway.grants.grants import Entra
from consent_gateway.web import console_planned
from shared.auth import Principal, TokenVerifier
from support import gateway_site
from support.catalogs import IDS, app, catalog_file, graph, permission
from support.gateway import CONTOSO, FABRIKAM, settings
from support.gateway_site import Site
from support.registry_api import numbered
from support.seeded import granted, seed

DAY = datetime.now(UTC).date() + timedelta(days=30)
PATH = "/integrations/microsoft-entra-id/planned"


def announcing(folder: Path) -> Path:
    """Set `one` asks for C.Read in a month and for D.Read too in two; `two` stays as it is."""
    path = catalog_file(folder, sets={"one": {}, "two": {}}, apps=(app("reader", "one", "two"),))
    content = yaml.safe_load(path.read_text())
    content["permission_sets"][0]["planned"] = [
        {"version": 2, "from": DAY, "reason": "It needs <b>C</b>.", "adds": [permission("C.Read")]},
        {
            "version": 3,
            "from": DAY + timedelta(days=30),
            "reason": "It needs D.",
            "adds": [permission("D.Read")],
        },
    ]
    path.write_text(yaml.safe_dump(content))
    return path


@pytest_asyncio.fixture
async def core(mongo_url: str, mongo_database: str, tmp_path: Path) -> AsyncIterator[Core]:
    core = Core.of(settings(mongo_url=mongo_url, database=mongo_database, catalog=announcing(tmp_path), client_ids=IDS))
    async with core.open():
        await core.store.create_indexes()
        yield core


@pytest_asyncio.fixture
async def site(
    core: Core, mongo_url: str, mongo_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    async def nowhere(_: object) -> list[str]:
        return []

    monkeypatch.setattr("consent_gateway.web.security.FormTargets.__call__", nowhere)
    chosen = settings(mongo_url=mongo_url, database=mongo_database, catalog=announcing(tmp_path), client_ids=IDS)
    async with gateway_site.site(chosen, core.database) as site:
        yield site


async def furnish(core: Core) -> None:
    """Contoso as it is now, Fabrikam accepted C.Read already, one is gone, one is another account's."""
    one, far = core.catalog.sets["one"], utc_now().replace(year=2099)
    contoso, fabrikam, gone, other = (
        granted(one, tenant_id, next_at=far) for tenant_id in (CONTOSO, FABRIKAM, numbered(1), numbered(2))
    )
    await seed(
        core,
        [
            contoso,
            replace(fabrikam, accepted=graph("A.Read", "B.Read", "C.Read")),
            replace(gone, entra=Entra.GONE),
            replace(other, account_id="adatum"),
        ],
    )


def versions(core: Core) -> list[Planned]:
    return list(planned(core.catalog))


async def test_whoever_has_not_accepted_all_of_it_is_asked(core: Core) -> None:
    await furnish(core)
    second, third = versions(core)
    asked = core.store.asked
    assert [await asked.count("northwind", plan) for plan in (second, third)] == [1, 2]
    (contoso,) = await asked.tenants("northwind", second, after=None, limit=10)
    assert (contoso.tenant_id, contoso.lacks) == (CONTOSO, graph("C.Read"))
    found = await asked.tenants("northwind", third, after=None, limit=10)
    assert {each.tenant_id: each.lacks for each in found} == {
        FABRIKAM: graph("D.Read"),
        CONTOSO: graph("C.Read", "D.Read"),
    }
    (after,) = await asked.tenants("northwind", third, after=found[0].tenant_id, limit=10)
    assert after == found[1]


async def test_counting_ends_somewhere(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnish(core)
    monkeypatch.setattr(asked_store, "COUNTED_UP_TO", 0)
    assert await core.store.asked.count("northwind", versions(core)[1]) == 1


async def test_an_index_finds_them(core: Core) -> None:
    await furnish(core)
    query = asked_store._asked("northwind", versions(core)[0])
    plan = await core.database["grants"].find(query).sort("tenant_id", 1).limit(50).explain()
    used = str(plan["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in used
    assert "COLLSCAN" not in used
    assert "'SORT'" not in used


async def test_the_pages_say_what_why_when_and_whom(site: Site, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnish(core)
    visit = await site.signed_in("northwind", "viewer")
    page = await visit.get(PATH)
    assert page.status_code == 200
    assert page.text.index("version 2") < page.text.index("version 3")
    assert "It needs &lt;b&gt;C&lt;/b&gt;." in page.text
    assert "1 tenant will be asked" in page.text
    assert "2 tenants will be asked" in page.text
    monkeypatch.setattr(console_planned, "SHOWN", 1)
    first = await visit.get(f"{PATH}/one/3")
    assert (FABRIKAM in first.text, CONTOSO in first.text) == (True, False)
    second = await visit.get(f"{PATH}/one/3?after={FABRIKAM}")
    assert (CONTOSO in second.text, "More tenants" in second.text) == (True, False)
    for unknown in ("one/4", "one/x", "nobody/2", "two/2"):
        assert (await visit.get(f"{PATH}/{unknown}")).status_code == 404
    stranger = await site.signed_in("stranger", "viewer")
    assert "None of your tenants" in (await stranger.get(f"{PATH}/one/3")).text


async def test_the_api_says_the_same(site: Site, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnish(core)
    who = Principal(
        subject="s",
        account_id="northwind",
        account_name=None,
        app_id=None,
        roles=frozenset({"viewer"}),
        expires_at=2**31,
    )

    async def principal(_: object, __: str) -> Principal:
        return who

    monkeypatch.setattr(TokenVerifier, "principal", principal)
    http = site.browser().http
    http.headers["authorization"] = "Bearer t"

    async def get(path: str) -> httpx.Response:
        return await http.get(f"/v1/planned-changes{path}")

    items = (await get("")).json()["items"]
    assert [(each["version"], each["tenants"], each["adds"][0]["value"]) for each in items] == [
        (2, 1, "C.Read"),
        (3, 2, "D.Read"),
    ]
    first = (await get("/one/3/tenants?limit=1")).json()
    second = (await get(f"/one/3/tenants?limit=1&cursor={first['next_cursor']}")).json()
    assert [each["tenant_id"] for each in (*first["items"], *second["items"])] == [FABRIKAM, CONTOSO]
    assert second["next_cursor"] is None
    assert (await get("/one/9/tenants")).status_code == 404
    assert (await get("/one/3/tenants?cursor=!")).status_code == 422
    assert (await get("?account_id=adatum")).status_code == 404
    who = replace(who, roles=frozenset({"staff"}), account_id=None)
    assert (await get("")).status_code == 422
    of_adatum = (await get("?account_id=adatum")).json()["items"]
    assert [each["tenants"] for each in of_adatum] == [1, 1]
