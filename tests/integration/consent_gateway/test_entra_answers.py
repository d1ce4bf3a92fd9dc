"""What the gateway makes of Entra's stranger answers, with the sandbox giving them."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from consent_gateway.consent.attempts import AttemptView, Ended, Redirect
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Grant, Status
from shared.events import Actor
from support.entra_sandbox import EntraSandbox, Visitor
from support.gateway import CLIENT_IDS, CONTOSO, OPERATOR

SET, ACTIVITY = "read-directory-data", "read-activity-data"
MANAGEMENT = "c5393580-f805-4401-95e8-94b7a6ef2fc2"


async def finish(core: Core, visitor: Visitor, set_id: str) -> AttemptView:
    """Go through Entra as often as the gateway sends the browser there."""
    url = await core.consent.start(OPERATOR, permission_set_ids=(set_id,), tenant_id=CONTOSO)
    step: Any = Redirect(url)
    while isinstance(step, Redirect):
        use = core.consent.callback if "adminconsent" in step.url else core.consent.prove
        step = await use(await visitor.go(step.url), person=OPERATOR, session_hash=OPERATOR.session_hash)
    assert isinstance(step, Ended)
    return await core.consent.attempt(step.attempt_id, session_hash=OPERATOR.session_hash)


async def there(core: Core) -> Grant:
    (grant,) = await core.store.grants.grants_on("northwind", CONTOSO)
    return grant


async def test_an_api_that_stops_the_consent_is_named(core: Core, entra: EntraSandbox, visitor: Visitor) -> None:
    await entra.api("PATCH", f"tenants/{CONTOSO}", missing_resources=[MANAGEMENT], missing_resource_policy="fail")
    view = await finish(core, visitor, ACTIVITY)
    assert (view.failure, view.services) == (Kind.SERVICE_MISSING, ("Office 365 Management APIs",))
    assert view.resource_app_id == "c5393580-f805-4401-95e8-94b7a6ef2fc2"
    row = await core.database["outbox"].find_one({})
    assert row is not None
    assert json.loads(row["value"])["resource_app_id"] == view.resource_app_id
    attempt = await core.store.attempts.get(view.id)
    assert attempt is not None
    assert attempt.detail == MANAGEMENT


async def test_an_api_that_is_skipped_leaves_the_rest_usable(core: Core, entra: EntraSandbox, visitor: Visitor) -> None:
    await entra.api("PATCH", f"tenants/{CONTOSO}", missing_resources=[MANAGEMENT], missing_resource_policy="skip")
    await finish(core, visitor, ACTIVITY)
    for _ in range(2):
        if (await there(core)).status is Status.VERIFYING:
            await core.verification.check("northwind", CONTOSO, {ACTIVITY})
    grant = await there(core)
    assert (grant.status, grant.usable, grant.health.absent) == (Status.PARTIAL, True, (MANAGEMENT,))
    assert {permission.resource_app_id for permission in grant.missing} == {MANAGEMENT}
    await entra.api("PATCH", f"tenants/{CONTOSO}", missing_resources=[])
    await entra.api("POST", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[ACTIVITY]}/consent")
    await core.verification.check("northwind", CONTOSO, {ACTIVITY})
    assert (await there(core)).status is Status.GRANTED


async def test_blocking_and_unblocking_leave_entra_as_it_is(core: Core, entra: EntraSandbox, visitor: Visitor) -> None:
    await finish(core, visitor, SET)
    there_in_entra = await entra.api("GET", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[SET]}")
    asked, actor = len(await entra.requests()), Actor(kind="user", id=OPERATOR.subject)
    for blocked, status in ((True, Status.BLOCKED), (False, Status.GRANTED)):
        await core.operations.block("northwind", CONTOSO, SET, blocked=blocked, actor=actor, now=utc_now())
        grant = await there(core)
        assert (grant.status, grant.usable) == (status, not blocked)
        assert len(await entra.requests()) == asked
        # It is looked at all the same: what the customer takes away meanwhile is noticed.
        await core.verification.check("northwind", CONTOSO, {SET})
        assert (await there(core)).status is status
        asked = len(await entra.requests())
    assert await entra.api("GET", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[SET]}") == there_in_entra


async def test_tokens_that_cannot_be_read_are_verified_all_the_same(
    core: Core, entra: EntraSandbox, visitor: Visitor
) -> None:
    await entra.api("PATCH", "behaviour", opaque_access_tokens=True)
    await finish(core, visitor, SET)
    assert (await there(core)).status is Status.GRANTED
    await entra.api("DELETE", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[SET]}")
    for _ in range(2):
        await core.verification.check("northwind", CONTOSO, {SET})
    assert (await there(core)).status is Status.REVOKED


@pytest.mark.parametrize("code", [90002, 700016, 7000229, 7000112, 65001, 500011])
async def test_an_outage_that_carries_a_destructive_code_takes_nothing_away(
    core: Core, entra: EntraSandbox, visitor: Visitor, code: int
) -> None:
    await entra.api("POST", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[SET]}/consent")
    await finish(core, visitor, SET)
    await entra.api("POST", "faults", kind="error", endpoint="token", tenant_id=CONTOSO, code=code, status=503)
    for _ in range(3):
        await core.verification.check("northwind", CONTOSO, {SET})
    grant = await there(core)
    assert (grant.status, grant.health.negatives, grant.health.failures) == (Status.GRANTED, 0, 3)


@pytest.mark.parametrize(
    ("error", "code", "prompt", "kind"),
    [
        ("interaction_required", 16000, "select_account", Kind.WRONG_ACCOUNT),
        ("interaction_required", 50058, None, Kind.PROOF_FAILED),
        ("access_denied", 53003, None, Kind.BLOCKED_BY_POLICY),
        ("consent_required", 90099, None, Kind.NOT_CONSENTED),
        ("something_new", 424242, None, Kind.UNKNOWN_ANSWER),
    ],
)
async def test_what_a_person_can_help_with_gets_pages_once(
    core: Core, visitor: Visitor, *, error: str, code: int, prompt: str | None, kind: Kind
) -> None:
    def answer(step: Any) -> list[tuple[str, str]]:
        state = parse_qs(urlsplit(step.url).query)["state"][0]
        return [("error", error), ("error_description", f"AADSTS{code}: in English"), ("state", state)]

    url = await core.consent.start(OPERATOR, permission_set_ids=(SET,), tenant_id=CONTOSO)
    session = OPERATOR.session_hash
    silent = await core.consent.callback(await visitor.go(url), person=OPERATOR, session_hash=session)
    paged = await core.consent.prove(answer(silent), person=OPERATOR, session_hash=session)
    assert isinstance(paged, Redirect)
    assert parse_qs(urlsplit(paged.url).query).get("prompt", [None])[0] == prompt
    ended = await core.consent.prove(answer(paged), person=OPERATOR, session_hash=session)
    assert isinstance(ended, Ended)
    assert (await core.consent.attempt(ended.attempt_id, session_hash=session)).failure is kind
