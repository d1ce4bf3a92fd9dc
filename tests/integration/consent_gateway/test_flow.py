"""The consent flow from the start to the verified grant, against the sandbox."""

from dataclasses import replace
from typing import Any

import pytest

from consent_gateway.consent.attempts import AttemptStatus, AttemptView, Ended, NextStep, Person, Redirect, Requester
from consent_gateway.core import Core
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Grant, Status
from shared.events import decode
from support.browsing import Browser
from support.entra_sandbox import EntraSandbox, Visitor
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR

SET = "read-directory-data"


async def start(core: Core, person: Person = OPERATOR, tenant_id: str | None = CONTOSO, *sets: str) -> str:
    return await core.consent.start(person, permission_set_ids=sets or (SET,), tenant_id=tenant_id)


async def finish(core: Core, visitor: Visitor, url: str, person: Person = OPERATOR, **how: Any) -> AttemptView:
    """Go through Entra as often as the gateway sends the browser there; the view of the end."""
    step: Any = Redirect(url)
    while isinstance(step, Redirect):
        consent_page = "adminconsent" in step.url
        params = await visitor.go(step.url, **how)
        use = core.consent.callback if consent_page else core.consent.prove
        step = await use(params, person=person, session_hash=person.session_hash)
    return await core.consent.attempt(step.attempt_id, session_hash=person.session_hash)


async def events(core: Core) -> list[Any]:
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    return [decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows]


async def grants(core: Core, account_id: str = "northwind") -> list[Grant]:
    return [grant for tenant in await core.store.grants.grants_of(account_id) for grant in tenant.grants]


async def principal_id(core: Core, tenant_id: str) -> str:
    """Object id of the service principal, as the tenant's directory has it."""
    graph = await core.entra.app_tokens.app_token(
        tenant_id=tenant_id, client_id=CLIENT_IDS[SET], scope="https://graph.microsoft.com/.default"
    )
    found = await core.entra.settings._reads.one(f"/v1.0/servicePrincipals(appId='{CLIENT_IDS[SET]}')", graph)
    assert found is not None
    return str(found["id"])


async def test_an_accepted_and_proven_consent_is_granted_with_name_and_events(core: Core, visitor: Visitor) -> None:
    view = await finish(core, visitor, await start(core))

    assert (view.status, view.failure, view.next_step) == (AttemptStatus.SUCCEEDED, None, NextStep.NONE)
    assert (view.tenant_id, view.tenant_name, view.primary_domain) == (CONTOSO, "Contoso Ltd", "contoso.com")
    assert [(result.permission_set_id, result.status) for result in view.results] == [(SET, "granted")]
    (grant,) = await grants(core)
    assert grant.status is Status.GRANTED
    assert {p.value for p in grant.permissions} >= {"Directory.Read.All", "Group.Read.All", "GroupMember.Read.All"}
    assert grant.apps[0] == "mobile-security"
    assert grant.app_epochs == {"mobile-security": 1}
    assert grant.service_principal_id == await principal_id(core, CONTOSO)
    accepted, granted = await events(core)
    assert (type(accepted).__name__, accepted.status, accepted.previous_status) == (
        "PermissionChanged",
        "verifying",
        None,
    )
    assert (type(granted).__name__, granted.status, granted.previous_status) == (
        "PermissionGranted",
        "granted",
        "verifying",
    )
    assert granted.previous_revision == accepted.revision
    assert granted.tenant_name == "Contoso Ltd"
    assert granted.actor.kind == "administrator"
    assert granted.actor.id == granted.granted_by
    (tenant,) = await core.store.grants.grants_of("northwind")
    assert tenant.people == {grant.granted_by: "Contoso Administrator"}


async def test_without_a_tenant_named_the_one_that_was_proven_is_granted(core: Core, visitor: Visitor) -> None:
    view = await finish(core, visitor, await start(core, OPERATOR, None), name="admin@fabrikam.com")
    assert (view.status, view.tenant_id) == (AttemptStatus.SUCCEEDED, FABRIKAM)


async def test_several_sets_are_granted_in_one_visit_with_one_sign_in(core: Core, visitor: Visitor) -> None:
    url = await start(core, OPERATOR, None, "manage-accounts", SET)
    view = await finish(core, visitor, url)
    assert view.status is AttemptStatus.SUCCEEDED
    assert {grant.permission_set_id: grant.status for grant in await grants(core)} == {
        SET: Status.GRANTED,
        "manage-accounts": Status.GRANTED,
    }


async def test_a_decline_ends_the_attempt_with_an_event_and_nothing_else(core: Core, visitor: Visitor) -> None:
    view = await finish(core, visitor, await start(core), accept=False)
    assert (view.status, view.failure, view.http_status) == (AttemptStatus.DECLINED, Kind.DECLINED, 200)
    assert await grants(core) == []
    (failed,) = await events(core)
    assert (type(failed).__name__, failed.tenant_id, failed.reason) == ("ConsentFailed", None, "declined")
    assert failed.key() == "northwind:-"


@pytest.mark.parametrize(
    ("flaw", "kind"),
    [
        ("wrong_signature", Kind.PROOF_FAILED),
        ("unknown_key", Kind.PROOF_FAILED),
        ("alg_none", Kind.PROOF_FAILED),
        ("alg_hs256", Kind.PROOF_FAILED),
        ("key_of_other_issuer", Kind.PROOF_FAILED),
        ("wrong_audience", Kind.PROOF_FAILED),
        ("missing_audience", Kind.PROOF_FAILED),
        ("wrong_issuer", Kind.PROOF_FAILED),
        ("missing_issuer", Kind.PROOF_FAILED),
        ("issuer_tenant_mismatch", Kind.PROOF_FAILED),
        ("expired", Kind.PROOF_FAILED),
        ("missing_expiry", Kind.PROOF_FAILED),
        ("not_yet_valid", Kind.PROOF_FAILED),
        ("wrong_nonce", Kind.PROOF_FAILED),
        ("missing_nonce", Kind.PROOF_FAILED),
        ("other_tenant", Kind.OTHER_TENANT),
        ("consumer_tenant", Kind.PERSONAL_ACCOUNT),
        ("missing_tenant", Kind.PROOF_FAILED),
        ("tenant_not_a_guid", Kind.PROOF_FAILED),
        ("missing_object_id", Kind.PROOF_FAILED),
        ("missing_wids", Kind.ROLE_NOT_PROVEN),
        ("wids_without_admin", Kind.NOT_ADMINISTRATOR),
    ],
)
async def test_a_flawed_id_token_proves_nothing(
    core: Core, entra: EntraSandbox, visitor: Visitor, flaw: str, kind: Kind
) -> None:
    await entra.api("POST", "token-flaws", flaw=flaw)
    view = await finish(core, visitor, await start(core))
    assert (view.status, view.failure) == (AttemptStatus.FAILED, kind)
    assert await grants(core) == []
    for name in ("links", "slots", "tenants"):
        assert await core.database[name].count_documents({}) == 0
    (told,) = await events(core)
    assert (type(told).__name__, told.reason, told.tenant_id) == ("ConsentFailed", kind, None)
    # The history tells the operator what to set; the person is told to ask.
    assert ("groupMembershipClaims" in (told.detail or "")) is (kind is Kind.ROLE_NOT_PROVEN)


async def test_the_app_being_consented_before_does_not_let_a_forged_callback_in(
    core: Core, entra: EntraSandbox, visitor: Visitor
) -> None:
    """A stranger who never consents claims a tenant that somebody else consented: app-only tokens would be issued."""
    await entra.api("POST", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[SET]}/consent")
    url = await start(core, OTHER_OPERATOR, None)
    state = dict(item.split("=", 1) for item in url.split("?")[1].split("&"))["state"]
    forged = [("admin_consent", "True"), ("tenant", CONTOSO), ("state", state)]
    step = await core.consent.callback(forged, person=OTHER_OPERATOR, session_hash=OTHER_OPERATOR.session_hash)
    assert isinstance(step, Redirect)
    assert "prompt=none" in step.url
    params = await visitor.go(step.url)
    assert dict(params)["error"] == "login_required"
    again = await core.consent.prove(params, person=OTHER_OPERATOR, session_hash=OTHER_OPERATOR.session_hash)
    assert isinstance(again, Redirect)
    assert "prompt=none" not in again.url
    params = await visitor.go(again.url, name="user@contoso.com")
    ended = await core.consent.prove(params, person=OTHER_OPERATOR, session_hash=OTHER_OPERATOR.session_hash)
    assert isinstance(ended, Ended)
    view = await core.consent.attempt(ended.attempt_id, session_hash=OTHER_OPERATOR.session_hash)
    assert view.failure is Kind.NOT_ADMINISTRATOR
    assert await grants(core, "adatum") == []


async def back_with_a_code(core: Core, visitor: Visitor, person: Person, *sets: str) -> dict[str, str]:
    """A run up to where Entra sends the browser back with the code of its sign-in."""
    params = await visitor.go(await start(core, person, CONTOSO, *sets))
    while "code" not in dict(params):
        use: Any = core.consent.callback if "admin_consent" in dict(params) else core.consent.prove
        step = await use(params, person=person, session_hash=person.session_hash)
        assert isinstance(step, Redirect)
        params = await visitor.go(step.url)
    return dict(params)


async def test_a_code_of_another_run_proves_nothing(core: Core, entra: EntraSandbox, visitor: Visitor) -> None:
    """Codes are bound to their run by verifier, nonce and registration: no run gets anything by another one's."""
    mine = await back_with_a_code(core, visitor, OPERATOR)
    of_another_registration = await back_with_a_code(core, visitor, OPERATOR, "manage-accounts")
    async with Browser() as another:
        of_another_account = await back_with_a_code(core, Visitor(entra, another), OTHER_OPERATOR)
    for run, other, person in (
        (mine, of_another_account, OPERATOR),
        (of_another_account, of_another_registration, OTHER_OPERATOR),
        (of_another_registration, mine, OPERATOR),
    ):
        swapped = [("code", other["code"]), ("state", run["state"])]
        ended = await core.consent.prove(swapped, person=person, session_hash=person.session_hash)
        assert isinstance(ended, Ended)
        view = await core.consent.attempt(ended.attempt_id, session_hash=person.session_hash)
        assert view.failure is Kind.PROOF_FAILED
    for name in ("grants", "links", "slots", "tenants"):
        assert await core.database[name].count_documents({}) == 0


async def test_another_tenant_than_the_named_one_is_refused(core: Core, visitor: Visitor) -> None:
    url = await start(core, OPERATOR, FABRIKAM)
    state = dict(item.split("=", 1) for item in url.split("?")[1].split("&"))["state"]
    step = await core.consent.callback(
        [("admin_consent", "True"), ("tenant", CONTOSO), ("state", state)], person=OPERATOR, session_hash="session-1"
    )
    assert isinstance(step, Ended)
    view = await core.consent.attempt(step.attempt_id, session_hash="session-1")
    assert (view.failure, view.next_step) == (Kind.OTHER_TENANT, NextStep.TRY_WITHOUT_TENANT)


async def test_a_tenant_of_one_account_is_not_taken_over_by_another(core: Core, visitor: Visitor) -> None:
    await finish(core, visitor, await start(core))
    view = await finish(core, visitor, await start(core, OTHER_OPERATOR), OTHER_OPERATOR)
    assert (view.status, view.failure, view.http_status) == (AttemptStatus.FAILED, Kind.TENANT_TAKEN, 409)
    assert await grants(core, "adatum") == []
    failed = (await events(core))[-1]
    assert (type(failed).__name__, failed.account_id, failed.tenant_id) == ("ConsentFailed", "adatum", CONTOSO)


async def test_a_limited_app_keeps_its_tenant_and_the_other_apps_are_granted(
    core: Core, entra: EntraSandbox, visitor: Visitor
) -> None:
    await finish(core, visitor, await start(core))
    async with Browser() as another:
        url = await start(core, OPERATOR, FABRIKAM)
        view = await finish(core, Visitor(entra, another), url, name="admin@fabrikam.com")
    assert view.next_step is NextStep.MOVE_APP
    held = {grant.tenant_id: (grant.apps, grant.held_apps) for grant in await grants(core)}
    assert "mobile-security" in held[CONTOSO][0]
    assert "mobile-security" not in held[FABRIKAM][0]
    assert "user-accounts" in held[FABRIKAM][0]
    assert [(one.app_id, one.tenant_id, one.epoch) for one in held[FABRIKAM][1]] == [("mobile-security", CONTOSO, 1)]


async def test_what_entra_does_not_show_yet_is_verifying_and_then_granted_by_the_monitor(
    make_core: Any, entra: EntraSandbox, visitor: Visitor
) -> None:
    core = await make_core(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca, wait_seconds=0.5)
    await entra.api("PATCH", f"tenants/{CONTOSO}", propagation={"hold": True})
    view = await finish(core, visitor, await start(core))
    assert (view.status, view.next_step) == (AttemptStatus.SUCCEEDED, NextStep.WAIT)
    (grant,) = await grants(core)
    assert (grant.status, grant.usable) == (Status.VERIFYING, False)

    await entra.api("POST", f"tenants/{CONTOSO}/release")
    await core.verification.check("northwind", CONTOSO, {SET})
    (grant,) = await grants(core)
    assert (grant.status, grant.usable) == (Status.GRANTED, True)


async def test_a_refused_secret_of_ours_never_changes_a_grant(
    core: Core, entra: EntraSandbox, visitor: Visitor
) -> None:
    await finish(core, visitor, await start(core))
    await entra.api("POST", "faults", kind="error", endpoint="token", code=7000222)
    for _ in range(3):
        await core.verification.check("northwind", CONTOSO, {SET})
    (grant,) = await grants(core)
    assert grant.status is Status.GRANTED
    assert grant.health.failures >= 1
    *of_grants, alert = await events(core)
    assert len(of_grants) == 2
    assert (alert.type_name, alert.status, alert.error_code) == (
        "RegistrationStatusChanged",
        "failing",
        "AADSTS7000222",
    )


async def test_what_the_customer_removes_is_believed_after_several_answers(
    core: Core, entra: EntraSandbox, visitor: Visitor
) -> None:
    await finish(core, visitor, await start(core))
    await entra.api("DELETE", f"tenants/{CONTOSO}/apps/{CLIENT_IDS[SET]}")
    await core.verification.check("northwind", CONTOSO, {SET})
    assert [grant.status for grant in await grants(core)] == [Status.GRANTED]
    await core.verification.check("northwind", CONTOSO, {SET})
    (grant,) = await grants(core)
    assert (grant.status, grant.reason, grant.apps) == (Status.REVOKED, "removed", ())
    revoked = (await events(core))[-1]
    assert type(revoked).__name__ == "PermissionRevoked"
    assert "mobile-security" in revoked.previous_apps
    link = await core.database["links"].find_one({"_id": CONTOSO})
    slot = await core.database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert (link or {})["account_ids"] == []
    assert (slot or {})["tenant_id"] is None


async def test_a_link_of_an_app_is_followed_once(core: Core, visitor: Visitor) -> None:
    requester = Requester(account_id="northwind", account_name=None, subject="app", app_id="mobile-security")
    view, token = await core.consent.create_link(requester, permission_set_ids=[SET])
    assert view.consent_url is not None
    assert view.consent_url.endswith(token)
    assert (await core.consent.open_link(token, OPERATOR)).app_id == "mobile-security"
    with pytest.raises(Refused, match="unknown"):
        await core.consent.open_link(token, OTHER_OPERATOR)
    ended = await finish(core, visitor, await core.consent.follow_link(token, OPERATOR))
    assert ended.id == view.id
    with pytest.raises(Refused, match="used"):
        await core.consent.follow_link(token, replace(OPERATOR, session_hash="session-9"))


async def test_a_decline_of_one_registration_keeps_what_was_accepted_and_offers_the_others(
    core: Core, visitor: Visitor
) -> None:
    sets = (SET, "manage-accounts", "read-saas-posture")
    step: Any = Redirect(await start(core, OPERATOR, CONTOSO, *sets))
    accepted = 0
    while isinstance(step, Redirect):
        consent_page = "adminconsent" in step.url
        params = await visitor.go(step.url, accept=accepted == 0)
        accepted += consent_page
        use: Any = core.consent.callback if consent_page else core.consent.prove
        step = await use(params, person=OPERATOR, session_hash=OPERATOR.session_hash)
    view = await core.consent.attempt(step.attempt_id, session_hash=OPERATOR.session_hash)
    assert (view.status, view.failure, view.done) == (AttemptStatus.DECLINED, Kind.DECLINED, 1)
    assert (view.remaining, view.others) == (sets[1:], sets[2:])
    failed = (await events(core))[-1]
    assert (type(failed).__name__, failed.tenant_id, failed.permission_set_ids) == ("ConsentFailed", CONTOSO, sets[1:])
    (grant,) = await grants(core)
    assert (grant.permission_set_id, grant.live) == (SET, True)
    assert (await finish(core, visitor, await start(core, OPERATOR, CONTOSO, *view.others))).failure is None
