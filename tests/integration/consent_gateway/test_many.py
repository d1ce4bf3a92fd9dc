"""The JSON API for many tenants at once: the same rules as the console's forms, and problems where they don't hold."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from consent_gateway.consent import invitations
from consent_gateway.core import Core, utc_now
from shared.auth import Principal, TokenVerifier
from support import gateway_site
from support.gateway import CONTOSO, FABRIKAM, settings
from support.gateway_site import Site
from support.registry_api import numbered
from support.seeded import granted, seed

SET = "read-directory-data"


class Speaker:
    """Calls with the token of whoever speaks."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.who = self.person("operator")

    @staticmethod
    def person(*roles: str, account_id: str | None = "northwind") -> Principal:
        return Principal(
            subject="operator-1",
            account_id=account_id,
            account_name=None,
            app_id=None,
            roles=frozenset(roles),
            expires_at=2**31,
        )

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"/v1{path}", json=body, headers={"authorization": "Bearer t"})


@pytest_asyncio.fixture
async def core(mongo_url: str, mongo_database: str) -> AsyncIterator[Core]:
    core = Core.of(settings(mongo_url=mongo_url, database=mongo_database))
    async with core.open():
        await core.store.create_indexes()
        far = utc_now().replace(year=2099)
        await seed(core, [granted(core.catalog.sets[SET], each, next_at=far) for each in (CONTOSO, FABRIKAM)])
        yield core


@pytest_asyncio.fixture
async def site(core: Core, mongo_url: str, mongo_database: str) -> AsyncIterator[Site]:
    chosen = settings(mongo_url=mongo_url, database=mongo_database)
    async with gateway_site.site(chosen, core.database, indexes=False) as site:
        yield site


@pytest.fixture
def speaker(site: Site, monkeypatch: pytest.MonkeyPatch) -> Speaker:
    speaker = Speaker(site.browser().http)

    async def principal(_: object, __: str) -> Principal:
        return speaker.who

    monkeypatch.setattr(TokenVerifier, "principal", principal)
    return speaker


async def due(core: Core) -> set[str]:
    found = core.database["grants"].find({"check.next_at": {"$lte": utc_now()}})
    return {document["tenant_id"] for document in await found.to_list(None)}


async def test_many_tenants_are_checked(speaker: Speaker, core: Core) -> None:
    answer = await speaker.post("/checks", tenant_ids=[CONTOSO.upper(), numbered(1)])
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted", "grants": 1})
    assert await due(core) == {CONTOSO}
    answer = await speaker.post("/checks", tenant_ids=[FABRIKAM], permission_set_ids=["manage-accounts"])
    assert answer.json()["grants"] == 0
    assert await due(core) == {CONTOSO}


async def test_nobody_checks_another_accounts_tenants(speaker: Speaker, core: Core) -> None:
    speaker.who = speaker.person("admin", account_id="adatum")
    assert (await speaker.post("/checks", tenant_ids=[CONTOSO])).json()["grants"] == 0
    assert await due(core) == set()


@pytest.mark.parametrize("path", ["/checks", "/invitations/batch"])
@pytest.mark.parametrize("role", ["viewer", "staff", "app"])
async def test_who_may_only_read_does_nothing_for_many(speaker: Speaker, core: Core, path: str, role: str) -> None:
    speaker.who = speaker.person(role)
    body = {"tenant_ids": [CONTOSO]} | ({"permission_set_ids": [SET]} if "batch" in path else {})
    answer = await speaker.post(path, **body)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert await due(core) == set()
    assert await core.database["invitations"].count_documents({}) == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/checks", {"tenant_ids": []}),
        ("/checks", {"tenant_ids": ["x"]}),
        ("/checks", {"tenant_ids": [CONTOSO] * 1_001}),
        ("/checks", {"tenant_ids": [CONTOSO], "colour": "blue"}),
        ("/invitations/batch", {"tenant_ids": [], "permission_set_ids": [SET]}),
        ("/invitations/batch", {"tenant_ids": [numbered(n) for n in range(201)], "permission_set_ids": [SET]}),
        ("/invitations/batch", {"tenant_ids": [CONTOSO], "permission_set_ids": []}),
        ("/invitations/batch", {"tenant_ids": [CONTOSO], "permission_set_ids": ["nobody"]}),
        ("/invitations/batch", {"tenant_ids": [CONTOSO, ""], "permission_set_ids": [SET]}),
    ],
)
async def test_what_does_not_fit_is_a_problem_and_changes_nothing(
    speaker: Speaker, core: Core, path: str, body: dict[str, Any]
) -> None:
    answer = await speaker.post(path, **body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert await due(core) == set()
    assert await core.database["invitations"].count_documents({}) == 0


async def test_a_link_for_each_of_many_tenants(speaker: Speaker, core: Core) -> None:
    answer = await speaker.post("/invitations/batch", tenant_ids=[CONTOSO, FABRIKAM, CONTOSO], permission_set_ids=[SET])
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    items = answer.json()["items"]
    assert [item["tenant_id"] for item in items] == [CONTOSO, FABRIKAM]
    for item in items:
        asking = await core.flow.invitations.open(item["url"].rpartition("/")[2], guest=None)
        assert (asking.invitation.id, asking.invitation.tenant_id) == (item["id"], item["tenant_id"])


async def test_no_more_links_wait_than_anybody_can_look_after(
    speaker: Speaker, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "MOST_PENDING", 2)
    assert (await speaker.post("/invitations", permission_set_ids=[SET])).status_code == 201
    answer = await speaker.post("/invitations/batch", tenant_ids=[CONTOSO, FABRIKAM], permission_set_ids=[SET])
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many")
    assert await core.database["invitations"].count_documents({}) == 1
