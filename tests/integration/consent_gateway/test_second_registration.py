"""A visit that fails at its second client registration: what was accepted before stays, and the person reads so."""

import asyncio
import html
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from consent_gateway.checks.verification import Verification
from consent_gateway.core import Core
from consent_gateway.grants.grants import Status
from consent_gateway.web.texts import plain
from support import gateway, gateway_site
from support.entra_sandbox import EntraSandbox, Visitor
from support.eventually import eventually
from support.gateway import CLIENT_IDS, CONTOSO
from support.gateway_site import Visit

SCREEN = "/integrations/microsoft-entra-id"
FIRST, SECOND = "read-directory-data", "read-activity-data"
MANAGEMENT_APIS = "c5393580-f805-4401-95e8-94b7a6ef2fc2"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What goes wrong with the second registration alone, and how its run is to end."""

    method: str
    path: str
    body: dict[str, Any]
    ends_with: str
    status: int
    stage: str
    error_code: str | None
    detail: str | None = None


SECOND_ONLY = {"client_id": CLIENT_IDS[SECOND]}
TROUBLES = {
    "missing API": Trouble(
        method="PATCH",
        path=f"tenants/{CONTOSO}",
        body={"missing_resources": [MANAGEMENT_APIS]},
        ends_with="service_missing",
        status=409,
        stage="consent",
        error_code="AADSTS650052",
        detail=MANAGEMENT_APIS,
    ),
    "policy": Trouble(
        method="POST",
        path="faults",
        body={"kind": "error", "endpoint": "authorize", "code": 53003, **SECOND_ONLY},
        ends_with="blocked_by_policy",
        status=403,
        stage="sign_in",
        error_code="AADSTS53003",
    ),
    "proof": Trouble(
        method="POST",
        path="token-flaws",
        body={"flaw": "wrong_signature", **SECOND_ONLY},
        ends_with="proof_failed",
        status=403,
        stage="redeem",
        error_code=None,
        detail="InvalidSignatureError",
    ),
    "secret": Trouble(
        method="POST",
        path="faults",
        body={"kind": "error", "endpoint": "token", "code": 7000222, **SECOND_ONLY},
        ends_with="misconfigured",
        status=502,
        stage="redeem",
        error_code="AADSTS7000222",
    ),
}


@pytest_asyncio.fixture
async def visit(core: Core, entra: EntraSandbox, mongo_url: str, mongo_database: str) -> AsyncIterator[Visit]:
    """An operator's browser in front of the gateway."""
    settings = gateway.settings(
        mongo_url=mongo_url, database=mongo_database, login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca
    )
    async with gateway_site.site(settings, core.database) as site:
        yield await site.signed_in()


async def through(visit: Visit, visitor: Visitor, *sets: str) -> httpx.Response:
    """Go through Entra as often as the gateway sends the browser there; the page of the end."""
    step = await visit.post(f"{SCREEN}/consents", {"permission_set_id": list(sets), "tenant_id": CONTOSO})
    while not (url := step.headers["location"]).startswith("/consent/attempts/"):
        leg = "callback" if "adminconsent" in url else "proof"
        step = await visit.get(f"/consent/{leg}", params=dict(await visitor.go(url)))
    return await visit.get(step.headers["location"])


async def is_granted(core: Core) -> bool:
    (grant,) = await core.store.grants.grants_on("northwind", CONTOSO)
    return grant.status is Status.GRANTED


async def test_nobody_waits_between_two_registrations(
    visit: Visit, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted first may take its time to show: the way to the second page is open at once."""
    go_on = asyncio.Event()

    async def settle(*_: object, **__: object) -> None:
        await go_on.wait()

    monkeypatch.setattr(Verification, "settle", settle)
    step = await visit.post(f"{SCREEN}/consents", {"permission_set_id": [FIRST, SECOND], "tenant_id": CONTOSO})
    for leg in ("callback", "proof"):
        params = dict(await visitor.go(step.headers["location"]))
        step = await asyncio.wait_for(visit.get(f"/consent/{leg}", params=params), timeout=30)
    assert CLIENT_IDS[SECOND] in step.headers["location"]
    assert "adminconsent" in step.headers["location"]
    go_on.set()


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
async def test_what_was_committed_before_the_second_one_failed_stays(
    core: Core, entra: EntraSandbox, visitor: Visitor, visit: Visit, trouble: Trouble
) -> None:
    await entra.api(trouble.method, trouble.path, **trouble.body)

    page = await through(visit, visitor, FIRST, SECOND)

    (grant,) = await core.store.grants.grants_on("northwind", CONTOSO)
    assert (grant.permission_set_id, grant.live, "mobile-security" in grant.apps) == (FIRST, True, True)
    link = await core.database["links"].find_one({"_id": CONTOSO})
    slot = await core.database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert ((link or {})["account_ids"], (slot or {})["tenant_id"]) == (["northwind"], CONTOSO)
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    events = [json.loads(row["value"]) for row in rows]
    (failed,) = [one for one in events if "stage" in one]
    assert {one["permission_set_id"] for one in events if one is not failed} == {FIRST}
    wanted: dict[str, Any] = {
        "tenant_id": CONTOSO,
        "permission_set_ids": [SECOND],
        "versions": {SECOND: core.catalog.sets[SECOND].version},
        "apps": list(core.catalog.sets[SECOND].apps),
        "reason": trouble.ends_with,
        "stage": trouble.stage,
        "error_code": trouble.error_code,
        "detail": trouble.detail,
        "attempt_id": grant.attempt_id,
        "actor": {"kind": "user", "id": "operator-1"},
    }
    assert {name: failed[name] for name in wanted} == wanted

    assert page.status_code == trouble.status
    shown = html.unescape(page.text)
    for text in (f"problem.{trouble.ends_with}.title", f"problem.{trouble.ends_with}.next"):
        assert plain(text) in shown
    assert plain("attempt.partly", done=1, all=2) in shown
    assert ("Office 365 Management APIs" in shown) == (trouble.ends_with == "service_missing")
    # What was accepted is looked at all the same.
    await eventually(lambda: is_granted(core), what="the first grant")

    # Once more, where that may help, is for what is missing and not for what is there.
    assert (f'value="{SECOND}"' in shown) == (trouble.ends_with != "misconfigured")
    assert f'value="{FIRST}"' not in shown
