"""What the console's forms do, the JSON API does too, with the same rules."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request

from consent_gateway.app import create_app
from consent_gateway.consent.attempts import Proven
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind, Refused
from consent_gateway.web import api, api_functions, api_transfers
from shared import problems
from shared.auth import Principal
from support import gateway
from support.every_route import Route, routes
from support.gateway import CONTOSO, OPERATOR, OTHER_OPERATOR
from support.ledger import accepted_on, take, waiting

SET, SECOND = "read-directory-data", "manage-accounts"
SCREEN = "/integrations/microsoft-entra-id"
GRANT = "/tenants/{tenant_id}/permission-sets/{permission_set_id}"
# Each form of the console, and the requests that do the same.
SAME: dict[str, list[str]] = {
    f"{SCREEN}/consents": ["POST /v1/consents"],
    "/connect/{token}": ["POST /v1/consents"],
    f"{SCREEN}{GRANT}/{{action}}": [f"POST /v1{GRANT}/{one}" for one in ("verify", "removed", "block", "unblock")],
    f"{SCREEN}/tenants/{{tenant_id}}/verify": ["POST /v1/checks"],
    f"{SCREEN}/tenants/{{tenant_id}}/apps/{{app_id}}/move": ["PUT /v1/apps/{app_id}/tenant"],
    f"{SCREEN}/tenants/{{tenant_id}}/disconnect": ["DELETE /v1/tenants/{tenant_id}"],
    f"{SCREEN}/attempts/{{attempt_id}}/reset": ["GET /v1/failures", "DELETE /v1/failures/{failure_id}"],
    f"{SCREEN}/fleet/checks": ["POST /v1/checks"],
    f"{SCREEN}/invitations": ["POST /v1/invitations"],
    f"{SCREEN}/invitations/many": ["POST /v1/invitations/batch"],
    f"{SCREEN}/invitations/{{invitation_id}}/revoke": ["DELETE /v1/invitations/{invitation_id}"],
    f"{SCREEN}/invitations/{{invitation_id}}/confirm": ["POST /v1/invitations/{invitation_id}/confirm"],
    "/consent/attempts/{attempt_id}/transfer": ["POST /v1/transfers"],
    f"{SCREEN}/transfers/{{transfer_id}}/accept": ["POST /v1/transfers/{transfer_id}/accept"],
}
# These change nothing of the account: they lead from page to page, or are what an administrator does in person.
OF_THE_BROWSER = {
    *("/auth/logout", f"{SCREEN}/invitations/many/choose"),
    "/invite/{token}",
}


def test_each_form_has_its_request() -> None:
    found = routes(create_app(gateway.settings()))
    forms = {one.path for one in found if one.method == "POST" and not one.is_api}
    assert forms - SAME.keys() <= OF_THE_BROWSER
    assert SAME.keys() <= forms
    known = {f"{one.method} {one.path}" for one in found if one.is_api}
    assert {request for requests in SAME.values() for request in requests} <= known
    assert Route("GET", "/v1/tenants/{tenant_id}/impact") in found


Ask = Any


@pytest_asyncio.fixture
async def core(make_core: Any) -> Core:
    core: Core = await make_core(wait_seconds=0)
    return core


@pytest_asyncio.fixture
async def ask(core: Core) -> AsyncIterator[Ask]:
    """Asks in somebody's name."""
    who: list[Principal] = []

    async def caller(_: Request) -> Principal:
        return who[-1]

    app = FastAPI()
    problems.install(app)
    app.add_exception_handler(Refused, api.on_refused)
    app.include_router(api_transfers.router(caller, core.flow.transfers))
    app.include_router(api_functions.router(caller, catalog=core.catalog, tenants=core.store.grants))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.test") as client:

        async def as_(role: str, account_id: str, subject: str, method: str, path: str, **more: Any) -> httpx.Response:
            principal = Principal(
                subject=subject,
                account_id=account_id,
                account_name=None,
                app_id=None,
                roles=frozenset({role}),
                expires_at=2**31,
            )
            who.append(principal)
            return await client.request(method, path, **more)

        yield as_


async def test_who_began_a_consent_asks_for_its_tenant_by_the_api(core: Core, ask: Ask) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    _, state = await waiting(core, OTHER_OPERATOR, SET)
    attempt = await take(core, state, OTHER_OPERATOR)
    assert attempt is not None
    proven = Proven(tenant_id=CONTOSO, object_id="o", at=utc_now())
    await core.store.fail_attempt(
        attempt, kind=Kind.TENANT_TAKEN, stage="redeem", error_code=None, tenant_id=CONTOSO, proven=proven
    )
    mine = OTHER_OPERATOR.subject
    for role, account_id, subject, status in (
        ("viewer", "adatum", mine, 403),
        ("operator", "adatum", "another operator", 404),
        ("operator", "northwind", mine, 404),
    ):
        answer = await ask(role, account_id, subject, "POST", "/v1/transfers", json={"consent_id": attempt.id})
        assert answer.status_code == status, (role, account_id)
    asked = await ask("operator", "adatum", mine, "POST", "/v1/transfers", json={"consent_id": attempt.id})
    body = asked.json()
    assert (asked.status_code, body["direction"], body["tenant_id"]) == (201, "outgoing", CONTOSO)
    (seen,) = (await ask("viewer", "northwind", "v", "GET", "/v1/transfers")).json()["items"]
    assert (seen["id"], seen["direction"], seen["claimant"]) == (body["id"], "incoming", None)
    # A browser that has another session is not let in by being nobody in particular.
    nobody = replace(OTHER_OPERATOR, session_hash="another")
    with pytest.raises(Refused, match="not_found"):
        await core.flow.transfers.request(attempt.id, nobody, tell_name=False)


async def test_what_would_stop_is_told_before_it_does(core: Core, ask: Ask) -> None:
    await accepted_on(core, CONTOSO, OPERATOR, SET, SECOND)
    url = f"/v1/tenants/{CONTOSO}/impact"
    whole = (await ask("viewer", "northwind", "v", "GET", url)).json()
    part = (await ask("viewer", "northwind", "v", "GET", url, params={"permission_set_id": SECOND})).json()
    assert (sorted(whole["permission_set_ids"]), part["permission_set_ids"]) == (sorted([SET, SECOND]), [SECOND])
    assert (await ask("viewer", "adatum", "v", "GET", url)).status_code == 404
    assert (await ask("app", "northwind", "v", "GET", url)).status_code == 403
