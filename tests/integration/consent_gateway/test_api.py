"""The JSON API on a real store: roles, problems, and the OpenAPI document's examples."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from pydantic import BaseModel

from consent_gateway import people_command
from consent_gateway.consent.attempts import Browser
from consent_gateway.consent.consent import Consent
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind, Refused
from consent_gateway.web import api, api_catalog, api_failures, api_invitations, api_models, api_transfers
from consent_gateway.web.api_models import CheckShown
from shared import problems
from shared.auth import Principal
from support import gateway
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, HOME, OPERATOR
from support.ledger import accepted_on, take, waiting
from support.played import PlayedEntra

SET = "read-directory-data"


def principal(*roles: str, account_id: str | None = "northwind", app_id: str | None = None) -> Principal:
    return Principal(
        subject="someone",
        account_id=account_id,
        account_name=None,
        app_id=app_id,
        roles=frozenset(roles),
        expires_at=2**31,
    )


@pytest_asyncio.fixture
async def core(make_core: Any) -> Core:
    return await make_core()  # type: ignore[no-any-return]


@pytest_asyncio.fixture
async def speak(core: Core) -> AsyncIterator[Callable[[Principal], httpx.AsyncClient]]:
    """A client of the API in somebody's name."""
    who: list[Principal] = [principal("viewer")]

    async def caller(_: Request) -> Principal:
        return who[0]

    app = FastAPI()
    problems.install(app)
    app.add_exception_handler(Refused, api.on_refused)
    consent: Consent = core.consent
    app.include_router(
        api.router(
            caller,
            catalog=core.catalog,
            consent=consent,
            operations=core.operations,
            grants=core.store.grants,
            committed=lambda: None,
            clock=utc_now,
        )
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test") as client:

        def as_(somebody: Principal) -> httpx.AsyncClient:
            who[0] = somebody
            return client

        yield as_


Speak = Callable[[Principal], httpx.AsyncClient]


async def test_the_catalogue_is_for_every_signed_in_caller(speak: Speak) -> None:
    client = speak(principal("viewer"))
    sets = (await client.get("/v1/permission-sets")).json()
    assert [one["id"] for one in sets["items"]][:1] == [SET]
    assert sets["next_cursor"] is None
    assert sets["items"][0]["permissions"][0].keys() == {"resource_app_id", "resource", "value", "type", "reason"}
    assert (await client.get(f"/v1/permission-sets/{SET}")).json() == sets["items"][0]
    assert len((await client.get("/v1/apps")).json()["items"]) == 10
    assert (await client.get("/v1/apps/mobile-security")).json()["tenant_limit"] == 1
    for path in ("/v1/apps/nothing", "/v1/permission-sets/nothing"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_an_app_asks_for_a_consent_and_reads_how_it_stands(speak: Speak) -> None:
    app = speak(principal("app", app_id="mobile-security"))
    made = await app.post("/v1/consents", json={"permission_set_ids": [SET], "tenant_id": CONTOSO.upper()})
    body = made.json()
    assert (made.status_code, body["status"], body["tenant_id"]) == (201, "pending", CONTOSO)
    assert body["consent_url"].startswith("http://gateway.test/connect/")
    read = (await app.get(made.headers["location"])).json()
    assert read == body | {"consent_url": None}
    assert read["results"] == [{"permission_set_id": SET, "outcome": "pending", "status": None, "held_apps": []}]
    for stranger in (principal("viewer", account_id="adatum"), principal("app", app_id="workbench", account_id=None)):
        assert (await speak(stranger).get(f"/v1/consents/{body['id']}")).status_code == 404
    assert (await speak(principal("staff", account_id=None)).get(f"/v1/consents/{body['id']}")).status_code == 200


@pytest.mark.parametrize(
    ("somebody", "body", "status", "code"),
    [
        (principal("viewer"), {"permission_set_ids": [SET]}, 403, "forbidden"),
        (principal("staff", account_id=None), {"permission_set_ids": [SET]}, 403, "forbidden"),
        (principal("app", account_id=None, app_id="workbench"), {"permission_set_ids": [SET]}, 403, "forbidden"),
        (principal("app", app_id="workbench"), {"permission_set_ids": [SET]}, 403, "forbidden"),
        (principal("operator"), {"permission_set_ids": []}, 422, "invalid_request"),
        (principal("operator"), {"permission_set_ids": ["nothing"]}, 422, "invalid"),
        (principal("operator"), {"permission_set_ids": [SET], "tenant_id": "x"}, 422, "invalid_tenant_id"),
        (principal("operator"), {"permission_set_ids": [SET], "return_url": "https://evil.test"}, 422, "invalid"),
        (principal("operator"), {"permission_set_ids": [SET], "more": 1}, 422, "invalid_request"),
        (principal("operator"), {}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_asked_for_is_a_problem(
    speak: Speak, somebody: Principal, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await speak(somebody).post("/v1/consents", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [
        ("POST", f"/v1/tenants/{CONTOSO}/permission-sets/{SET}/verify", None, "operator"),
        ("POST", f"/v1/tenants/{CONTOSO}/permission-sets/{SET}/block", None, "operator"),
        ("POST", f"/v1/tenants/{CONTOSO}/permission-sets/{SET}/unblock", None, "operator"),
        ("DELETE", f"/v1/tenants/{CONTOSO}", None, "admin"),
        ("PUT", "/v1/apps/mobile-security/tenant", {"tenant_id": CONTOSO}, "admin"),
    ],
)
async def test_operations_need_their_role_and_a_grant_of_the_callers_account(
    speak: Speak, method: str, path: str, body: Any, least: str
) -> None:
    ladder = ["viewer", "operator", "admin"]
    for role in ladder:
        answer = await speak(principal(role)).request(method, path, json=body)
        allowed = ladder.index(role) >= ladder.index(least)
        nothing_there = 409 if method == "PUT" else 404
        assert answer.status_code == (nothing_there if allowed else 403)
    for other in (principal("app", app_id="mobile-security"), principal("staff", account_id=None)):
        assert (await speak(other).request(method, path, json=body)).status_code == 403


async def test_a_limited_app_is_moved_once_and_both_tenants_are_told(core: Core, speak: Speak) -> None:
    for tenant_id in (CONTOSO, FABRIKAM):
        await accepted_on(core, tenant_id, OPERATOR, SET)
    before = await core.database["outbox"].count_documents({})
    for _ in range(2):
        answer = await speak(principal("admin")).put(
            "/v1/apps/mobile-security/tenant", json={"tenant_id": FABRIKAM.upper()}
        )
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted", "entra_url": None})
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    lost, gained = (json.loads(row["value"]) for row in rows[before:])
    assert (lost["tenant_id"], gained["tenant_id"]) == (CONTOSO, FABRIKAM)
    assert set(lost["previous_apps"]) - set(lost["apps"]) == {"mobile-security"}
    assert set(gained["apps"]) - set(gained["previous_apps"]) == {"mobile-security"}
    held = {"app_id": "mobile-security", "tenant_id": FABRIKAM, "epoch": 2}
    assert (lost["held_apps"], lost["app_epochs"]) == ([held], {})
    assert (gained["held_apps"], gained["app_epochs"]) == ([], {"mobile-security": 2})
    assert [(one["cause"], one["actor"]) for one in (lost, gained)] == [
        ("operator", {"kind": "user", "id": "someone"}),
    ] * 2
    slot = await core.database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert ((slot or {})["tenant_id"], (slot or {})["epoch"]) == (FABRIKAM, 2)


@pytest.mark.parametrize(
    ("path", "tenant_id", "status", "code"),
    [
        ("/v1/apps/nothing/tenant", CONTOSO, 404, "not_found"),
        ("/v1/apps/workbench/tenant", CONTOSO, 422, "invalid"),
        ("/v1/apps/mobile-security/tenant", "x", 422, "invalid_tenant_id"),
        ("/v1/apps/mobile-security/tenant", FABRIKAM, 409, "conflict"),
    ],
)
async def test_what_cannot_be_moved_is_a_problem_and_changes_nothing(  # noqa: PLR0917 - fixtures
    core: Core, speak: Speak, path: str, tenant_id: str, status: int, code: str
) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    before = await core.database["outbox"].count_documents({})
    answer = await speak(principal("admin")).put(path, json={"tenant_id": tenant_id})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await core.database["outbox"].count_documents({}) == before
    slot = await core.database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert (slot or {})["tenant_id"] == CONTOSO


async def test_who_blocks_is_told_where_exactly_it_is_taken_away_in_entra(core: Core, speak: Speak) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    where = "https://entra.microsoft.com/#view/Microsoft_AAD_IAM/ManagedAppMenuBlade/~/Overview"
    client = speak(principal("operator"))
    for service_principal_id, page in (
        (None, f"{where}/appId/{CLIENT_IDS[SET]}"),
        (HOME, f"{where}/objectId/{HOME}/appId/{CLIENT_IDS[SET]}"),
    ):
        await core.database["grants"].update_one({}, {"$set": {"service_principal_id": service_principal_id}})
        for action in ("block", "unblock"):
            answer = await client.post(f"/v1/tenants/{CONTOSO}/permission-sets/{SET}/{action}")
            assert (answer.status_code, answer.json()["entra_url"]) == (202, page)


@pytest.mark.parametrize("path", ["removed", "check"])
async def test_who_may_say_that_a_grant_was_removed_and_who_may_read_its_checks(
    core: Core, speak: Speak, path: str
) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    url, method = f"/v1/tenants/{CONTOSO}/permission-sets/{SET}/{path}", "POST" if path == "removed" else "GET"
    statuses = [
        (await speak(one).request(method, url)).status_code
        for one in (
            principal("viewer"),
            principal("operator"),
            principal("operator", account_id="adatum"),
            principal("app", app_id="mobile-security"),
        )
    ]
    assert statuses == [403, 202, 404, 403] if path == "removed" else [200, 200, 404, 403]


async def test_a_check_for_a_removal_shows_until_when_it_runs(core: Core, speak: Speak) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    client = speak(principal("operator"))
    url = f"/v1/tenants/{CONTOSO}/permission-sets/{SET}"
    assert (await client.get(f"{url}/check")).json()["removal_watched_until"] is None
    await client.post(f"{url}/removed")
    shown = CheckShown.model_validate((await client.get(f"{url}/check")).json())
    assert shown.removal_watched_until is not None
    assert shown.next_check_at is not None
    assert shown.next_check_at <= utc_now() < shown.removal_watched_until


async def test_where_a_run_came_from_is_for_the_accounts_people_until_they_are_forgotten(
    core: Core, speak: Speak, mongo_url: str, mongo_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.entra.tokens, "authorization_origin", PlayedEntra().authorization_origin)
    browser = Browser(address="203.0.113.7", family="Firefox")
    there = replace(OPERATOR, browser=browser)
    url = await core.consent.start(there, permission_set_ids=[SET], tenant_id=CONTOSO)
    state = url.rpartition("state=")[2]
    other = Browser(address="2001:db8::1", family="Edge")
    declined = [("error", "access_denied"), ("error_subcode", "cancel"), ("state", state)]
    ended: Any = await core.consent.callback(declined, person=there, session_hash=there.session_hash, browser=other)
    path = f"/v1/consents/{ended.attempt_id}"
    for reader in (principal("viewer"), principal("staff", account_id=None)):
        shown = (await speak(reader).get(path)).json()
        assert shown["started_from"] == {"address": "203.0.113.7", "family": "Firefox"}
        assert shown["last_from"] == {"address": "2001:db8::1", "family": "Edge"}
    await core.database["attempts"].update_one({}, {"$set": {"app_id": "mobile-security"}})
    for_app = (await speak(principal("app", app_id="mobile-security")).get(path)).json()
    assert (for_app["started_from"], for_app["last_from"]) == (None, None)
    rows = str(await core.database["outbox"].find({}).to_list(None))
    assert "203.0.113.7" not in rows
    wanted = gateway.settings(mongo_url=mongo_url, database=mongo_database)
    assert not await people_command.forget(wanted, "user:adatum:operator-1")
    assert await people_command.forget(wanted, f"user:northwind:{OPERATOR.subject}")
    shown = (await speak(principal("viewer")).get(path)).json()
    assert (shown["started_from"], shown["last_from"], shown["status"]) == (None, None, "declined")
    assert not await people_command.forget(wanted, OPERATOR.subject)


def test_examples_of_the_document_have_the_form_that_they_illustrate() -> None:
    values = (vars(api_models) | vars(api_catalog)).values()
    models = [one for one in values if isinstance(one, type) and issubclass(one, BaseModel)]
    shown = [(one, extra) for one in models if isinstance(extra := one.model_config.get("json_schema_extra"), dict)]
    assert len(shown) >= 5
    for model, extra in shown:
        example: Any = extra["example"]
        model.model_validate(example)
        assert example.keys() <= model.model_fields.keys()


async def test_failed_runs_are_listed_until_somebody_resets_them_or_grants(core: Core) -> None:
    who = [principal("viewer")]

    async def caller(_: Request) -> Principal:
        return who[0]

    async def failed_run(tenant_id: str | None = None) -> str:
        _, state = await waiting(core, OPERATOR, SET)
        attempt = await take(core, state, OPERATOR)
        assert attempt is not None
        await core.store.fail_attempt(
            attempt, kind=Kind.NOT_ADMINISTRATOR, stage="redeem", error_code="AADSTS90094", tenant_id=tenant_id
        )
        return attempt.id

    app = FastAPI()
    problems.install(app)
    app.add_exception_handler(Refused, api.on_refused)
    app.include_router(api_failures.router(caller, core.flow.failures, clock=utc_now))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test") as client:

        async def listed() -> list[dict[str, Any]]:
            items: list[dict[str, Any]] = (await client.get("/v1/failures")).json()["items"]
            return items

        earlier, latest = await failed_run(), await failed_run()
        (shown,) = await listed()
        assert (shown["id"], shown["reason"], shown["next_step"]) == (latest, "not_administrator", "use_administrator")
        assert (shown["permission_set_ids"], shown["error_code"]) == ([SET], "AADSTS90094")
        assert (await client.delete(f"/v1/failures/{latest}")).status_code == 403
        who[0] = principal("operator", account_id="adatum")
        assert ((await client.delete(f"/v1/failures/{latest}")).status_code, await listed()) == (404, [])
        who[0] = principal("operator")
        for known in (latest, latest, earlier):
            assert (await client.delete(f"/v1/failures/{known}")).status_code == 204
        assert await listed() == []
        await failed_run()
        assert len(await listed()) == 1
        # On whatever tenant, also one that no page of the screen has read.
        await accepted_on(core, CONTOSO, OPERATOR, SET)
        assert await listed() == []
        # With the name of a tenant that the account knows, and of no other.
        await core.database["tenants"].update_many({}, {"$set": {"tenant_name": "Contoso Ltd"}})
        await failed_run(CONTOSO)
        await failed_run(FABRIKAM)
        assert {one["tenant_id"]: one["tenant_name"] for one in await listed()} == {
            CONTOSO: "Contoso Ltd",
            FABRIKAM: None,
        }
        who[0] = principal("staff", account_id=None)
        assert (await client.get("/v1/failures")).status_code == 403


async def test_invitations_and_transfers_need_their_roles_and_are_the_accounts_own(core: Core) -> None:
    who = [principal("operator")]

    async def caller(_: Request) -> Principal:
        return who[0]

    app = FastAPI()
    problems.install(app)
    app.add_exception_handler(Refused, api.on_refused)
    app.include_router(api_invitations.router(caller, core.flow.invitations, core.flow.confirmations))
    app.include_router(api_transfers.router(caller, core.flow.transfers))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test") as client:
        made = await client.post("/v1/invitations", json={"permission_set_ids": [SET], "tenant_id": CONTOSO})
        body = made.json()
        assert (made.status_code, body["status"], body["tenant_id"]) == (201, "pending", CONTOSO)
        assert body["url"].startswith("http://gateway.test/invite/")
        path = made.headers["location"]
        assert (await client.get(path)).json() == body | {"url": None}
        listed = (await client.get("/v1/invitations", params={"limit": 1})).json()
        assert ([one["id"] for one in listed["items"]], listed["next_cursor"]) == ([body["id"]], None)
        assert (await client.post(f"{path}/confirm")).status_code == 409
        who[0] = principal("admin", account_id="adatum")
        for method, other in (("GET", path), ("DELETE", path), ("POST", f"{path}/confirm")):
            assert (await client.request(method, other)).status_code == 404
        assert (await client.get("/v1/invitations")).json()["items"] == []
        assert (await client.post("/v1/transfers/nothing/accept")).status_code == 404
        who[0] = principal("viewer")
        assert (await client.get(path)).status_code == 200
        for method, other in (("DELETE", path), ("POST", f"{path}/confirm"), ("POST", "/v1/invitations")):
            answer = await client.request(method, other, json={"permission_set_ids": [SET]})
            assert answer.status_code == 403
        who[0] = principal("operator")
        assert (await client.post("/v1/transfers/nothing/accept")).status_code == 403
        assert (await client.get("/v1/transfers")).json() == {"items": [], "next_cursor": None}
        for _ in range(2):
            assert (await client.delete(path)).status_code == 204
        assert (await client.get(path)).json()["status"] == "revoked"
        wrong = await client.post("/v1/invitations", json={"permission_set_ids": ["nothing"]})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid")
