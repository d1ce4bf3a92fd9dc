"""Invitations against the sandbox: the proof comes first, one yes uses the link, an operator confirms the rest."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from consent_gateway.consent.attempts import Asked, Ended, Phase, Redirect
from consent_gateway.consent.invited import InvitationStatus
from consent_gateway.consent.legs import hashed
from consent_gateway.consent.starts import MOST_OPEN
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Status
from support.browsing import Browser
from support.entra_sandbox import EntraSandbox, Visitor
from support.gateway import CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR
from support.inviting import invited, standing
from support.ledger import accepted_on

SET = "read-directory-data"
SECOND = "manage-accounts"


async def nothing_changed(core: Core) -> bool:
    names = ("grants", "links", "slots", "tenants")
    return not any([await core.database[name].count_documents({}) for name in names])


async def test_a_named_tenant_is_granted_to_the_account_that_invited(core: Core, visitor: Visitor) -> None:
    invitation_id, guest = await invited(core, visitor, tenant_id=CONTOSO, sets=(SET, SECOND))
    asking = await core.flow.invitations.open(guest.token, guest=None)
    assert (asking.inviter, asking.proven) == ("Operator One", None)
    assert isinstance(await guest.sign_in(), Asked)
    assert await standing(core, invitation_id) is InvitationStatus.PENDING
    asking = await core.flow.invitations.open(guest.token, guest=guest.guest)
    assert asking.proven is not None
    assert (asking.proven.tenant_id, asking.administrator) == (CONTOSO, "Contoso Administrator")
    assert await nothing_changed(core)

    ended = await guest.say_yes()

    view = await core.consent.attempt(ended.attempt_id, session_hash=None, guest=guest.guest)
    assert [(one.permission_set_id, one.status) for one in view.results] == [(SET, "granted"), (SECOND, "granted")]
    assert await standing(core, invitation_id) is InvitationStatus.SUCCEEDED
    grants = await core.store.grants.grants_on("northwind", CONTOSO)
    assert {grant.granted_by for grant in grants} == {asking.proven.object_id}
    with pytest.raises(Refused, match="used"):
        await guest.sign_in()
    with pytest.raises(Refused, match="conflict"):
        await core.flow.invitations.revoke("northwind", invitation_id)


async def test_without_a_tenant_named_nothing_is_granted_before_an_operator_confirms(
    core: Core, visitor: Visitor
) -> None:
    invitation_id, guest = await invited(core, visitor)
    assert isinstance(await guest.sign_in(), Asked)
    ended = await guest.say_yes()

    view = await core.consent.attempt(ended.attempt_id, session_hash=None, guest=guest.guest)
    assert view.status == "awaiting_confirmation"
    assert await standing(core, invitation_id) is InvitationStatus.AWAITING_CONFIRMATION
    assert await nothing_changed(core)
    confirm = core.flow.confirmations.confirm
    with pytest.raises(Refused, match="not_found"):
        await confirm("adatum", invitation_id, subject="operator-2")

    answers = await asyncio.gather(
        *(confirm("northwind", invitation_id, subject="operator-1") for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(one, tuple) for one in answers) == 1
    assert {one.kind for one in answers if isinstance(one, Refused)} == {Kind.CONFLICT}
    (grant,) = await core.store.grants.grants_on("northwind", CONTOSO)
    assert grant.status is Status.GRANTED
    assert await standing(core, invitation_id) is InvitationStatus.SUCCEEDED


async def test_a_confirmed_tenant_of_another_account_is_not_taken_over(core: Core, visitor: Visitor) -> None:
    invitation_id, guest = await invited(core, visitor)
    await guest.sign_in()
    await guest.say_yes()
    await accepted_on(core, CONTOSO, OTHER_OPERATOR, SET)
    with pytest.raises(Refused, match="tenant_taken"):
        await core.flow.confirmations.confirm("northwind", invitation_id, subject="operator-1")
    assert await standing(core, invitation_id) is InvitationStatus.FAILED
    assert await core.store.grants.grants_on("northwind", CONTOSO) == []


async def test_the_invited_person_must_be_an_administrator_of_the_named_tenant(
    core: Core, entra: EntraSandbox, visitor: Visitor
) -> None:
    invitation_id, guest = await invited(core, visitor)
    ended = await guest.sign_in(name="user@contoso.com")
    assert isinstance(ended, Ended)
    view = await core.consent.attempt(ended.attempt_id, session_hash=None, guest=guest.guest)
    assert view.failure is Kind.NOT_ADMINISTRATOR
    # The link is as good as before: somebody else may follow it.
    assert await standing(core, invitation_id) is InvitationStatus.PENDING
    async with Browser() as another:
        other = replace(guest, visitor=Visitor(entra, another), guest="guest-2")
        assert isinstance(await other.sign_in(name="admin@fabrikam.com"), Asked)
        asking = await core.flow.invitations.open(guest.token, guest="guest-2")
        assert asking.proven is not None
        assert asking.proven.tenant_id == FABRIKAM
        # What one browser has proven is nothing to another.
        assert (await core.flow.invitations.open(guest.token, guest="guest-3")).proven is None
        with pytest.raises(Refused, match="unknown"):
            await core.flow.invitations.connect(guest.token, guest="guest-3")


async def test_one_yes_of_many_uses_the_link(core: Core, entra: EntraSandbox, visitor: Visitor) -> None:
    _, guest = await invited(core, visitor)
    await guest.sign_in()
    async with Browser() as another:
        other = replace(guest, visitor=Visitor(entra, another), guest="guest-2")
        await other.sign_in(name="admin@fabrikam.com")
    connect = core.flow.invitations.connect
    answers = await asyncio.gather(
        *(connect(guest.token, guest=one) for one in ("guest-1", "guest-2") * 10), return_exceptions=True
    )
    assert sum(isinstance(one, str) for one in answers) == 1
    assert {one.kind for one in answers if isinstance(one, Refused)} <= {Kind.USED, Kind.UNKNOWN}


async def test_a_link_that_was_taken_back_ends_whoever_follows_it(core: Core, visitor: Visitor) -> None:
    invitation_id, guest = await invited(core, visitor, tenant_id=CONTOSO)
    await guest.sign_in()
    with pytest.raises(Refused, match="not_found"):
        await core.flow.invitations.revoke("adatum", invitation_id)
    url = await core.flow.invitations.connect(guest.token, guest=guest.guest)
    step = await core.consent.callback(await visitor.go(url), person=None, session_hash=None, guest=guest.guest)
    assert isinstance(step, Redirect)
    params = await visitor.go(step.url)
    # At the very last moment: the proof is under way.
    attempt = await core.store.attempts.take(
        state_hash=hashed(dict(params)["state"]),
        session_hash="guest-1",
        account_id=None,
        phase=Phase.PROOF,
        now=utc_now(),
    )
    assert attempt is not None
    await core.flow.invitations.revoke("northwind", invitation_id)
    await core.flow.invitations.revoke("northwind", invitation_id)
    proven = await accepted_on(core, CONTOSO, attempt)
    assert proven == "withdrawn"
    assert await nothing_changed(core)
    for use in (guest.sign_in, guest.say_yes):
        with pytest.raises(Refused, match="withdrawn"):
            await use()


async def test_links_end_after_seven_days_and_are_kept_as_hashes(core: Core, visitor: Visitor) -> None:
    invitation_id, guest = await invited(core, visitor)
    assert guest.token not in str(await core.database["invitations"].find({}).to_list(None))
    view = await core.flow.invitations.get("northwind", invitation_id)
    assert view.invitation.expires_at - view.invitation.created_at == timedelta(days=7)
    await core.database["invitations"].update_one({}, {"$set": {"expires_at": utc_now()}})
    assert await standing(core, invitation_id) is InvitationStatus.EXPIRED
    with pytest.raises(Refused, match="expired"):
        await guest.sign_in()


async def test_the_console_of_the_same_browser_cannot_finish_an_invitation_nor_the_other_way_round(
    core: Core, visitor: Visitor
) -> None:
    _, guest = await invited(core, visitor)
    url = await core.flow.invitations.begin(guest.token, guest=guest.guest)
    params = await visitor.go(url)
    for wrong in ({"person": OPERATOR, "session_hash": "session-1"}, {"person": None, "session_hash": guest.guest}):
        with pytest.raises(Refused, match=r"other_browser|not_signed_in"):
            await core.consent.prove(params, **wrong)
    started = await core.consent.start(OPERATOR, permission_set_ids=[SET], tenant_id=CONTOSO)
    state = dict(item.split("=", 1) for item in started.split("?")[1].split("&"))["state"]
    claim = [("admin_consent", "True"), ("tenant", CONTOSO), ("state", state)]
    with pytest.raises(Refused, match="other_browser"):
        await core.consent.callback(claim, person=None, session_hash=None, guest=guest.guest)


async def test_a_link_that_went_to_many_is_followed_by_a_bounded_number_at_once(
    core: Core, visitor: Visitor, entra: EntraSandbox
) -> None:
    """Opening costs nothing; each sign-in that is begun is an attempt, and a request to Entra."""
    _, guest = await invited(core, visitor)
    for number in range(MOST_OPEN):
        await core.flow.invitations.begin(guest.token, guest=f"guest-{number}")
    asked = len(await entra.requests())
    with pytest.raises(Refused, match="too_many"):
        await core.flow.invitations.begin(guest.token, guest="one more")
    assert await core.database["attempts"].count_documents({}) == MOST_OPEN
    assert len(await entra.requests()) == asked
