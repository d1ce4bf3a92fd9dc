"""How invitations end that nobody brings to their end: taken back, run out of time, half accepted."""

import json
from datetime import timedelta
from typing import Any

import pytest

from consent_gateway.consent.invited import InvitationStatus
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Refused
from support.entra_sandbox import Visitor
from support.gateway import CONTOSO
from support.inviting import invited, standing

SET, SECOND = "read-directory-data", "manage-accounts"
PAST = timedelta(minutes=10)


async def failures(core: Core) -> list[dict[str, Any]]:
    rows = await core.database["outbox"].find({}).sort("_id", 1).to_list(None)
    events: list[dict[str, Any]] = [json.loads(row["value"]) for row in rows]
    return [one for one in events if "stage" in one]


async def granted(core: Core) -> list[str]:
    grants = await core.database["grants"].find({}).to_list(None)
    return sorted(one["permission_set_id"] for one in grants)


async def test_what_was_proven_for_one_link_is_nothing_to_another(core: Core, visitor: Visitor) -> None:
    first_id, first = await invited(core, visitor, tenant_id=CONTOSO)
    second_id, second = await invited(core, visitor, tenant_id=CONTOSO, sets=(SECOND,))
    await first.sign_in()
    assert (await core.flow.invitations.open(second.token, guest=first.guest)).proven is None
    with pytest.raises(Refused, match="unknown"):
        await core.flow.invitations.connect(second.token, guest=first.guest)
    assert {await standing(core, one) for one in (first_id, second_id)} == {InvitationStatus.PENDING}


async def test_a_proof_is_not_asked_about_for_ever(core: Core, visitor: Visitor) -> None:
    invitation_id, guest = await invited(core, visitor, tenant_id=CONTOSO)
    await guest.sign_in()
    await core.database["attempts"].update_one({}, {"$set": {"expires_at": utc_now()}})
    assert (await core.flow.invitations.open(guest.token, guest=guest.guest)).proven is None
    with pytest.raises(Refused, match="unknown"):
        await guest.say_yes()
    assert await standing(core, invitation_id) is InvitationStatus.PENDING


async def test_whoever_is_at_entra_when_the_link_is_taken_back_ends_there_with_an_event(
    core: Core, visitor: Visitor
) -> None:
    invitation_id, guest = await invited(core, visitor, tenant_id=CONTOSO)
    await guest.sign_in()
    url = await core.flow.invitations.connect(guest.token, guest=guest.guest)
    params = await visitor.go(url)
    await core.flow.invitations.revoke("northwind", invitation_id)
    with pytest.raises(Refused, match="used"):
        await core.consent.callback(params, person=None, session_hash=None, guest=guest.guest)
    (failed,) = await failures(core)
    assert (failed["reason"], failed["stage"], failed["tenant_id"]) == ("withdrawn", "consent", CONTOSO)
    assert (failed["actor"]["kind"], failed["channel"]) == ("administrator", "invitation")
    assert await granted(core) == []


async def test_what_waits_for_an_operator_is_gone_when_it_is_taken_back(core: Core, visitor: Visitor) -> None:
    invitation_id, guest = await invited(core, visitor)
    await guest.sign_in()
    await guest.say_yes()
    await core.flow.invitations.revoke("northwind", invitation_id)
    with pytest.raises(Refused, match="conflict"):
        await core.flow.confirmations.confirm("northwind", invitation_id, subject="operator-1")
    (failed,) = await failures(core)
    # All of it was accepted already, and still that is what failed.
    assert (failed["reason"], failed["stage"], failed["permission_set_ids"]) == ("withdrawn", "awaiting", [SET])
    assert await granted(core) == []


@pytest.mark.parametrize(
    ("collection", "field", "days", "why"),
    [
        ("invitations", "expires_at", 0, "expired"),
        ("attempts", "expires_at", 0, "conflict"),
        ("attempts", "proven.at", 7, "conflict"),
    ],
)
async def test_a_proof_that_waited_too_long_is_not_confirmed(  # noqa: PLR0917 - fixtures
    core: Core, visitor: Visitor, collection: str, field: str, days: int, why: str
) -> None:
    """Each of the three bounds by itself: that of the link, of the run, and of the proof."""
    invitation_id, guest = await invited(core, visitor)
    await guest.sign_in()
    await guest.say_yes()
    long_ago = utc_now() - timedelta(days=days) - PAST
    await core.database[collection].update_one({}, {"$set": {field: long_ago}})
    with pytest.raises(Refused, match=why):
        await core.flow.confirmations.confirm("northwind", invitation_id, subject="operator-1")
    assert await granted(core) == []


async def test_what_no_operator_confirmed_in_time_expires_with_an_event(core: Core, visitor: Visitor) -> None:
    invitation_id, guest = await invited(core, visitor)
    await guest.sign_in()
    await guest.say_yes()
    for collection in ("attempts", "invitations"):
        await core.database[collection].update_one({}, {"$set": {"expires_at": utc_now() - PAST}})
    assert await core.sweeper.sweep() == 1
    invitation = await core.database["invitations"].find_one({"_id": invitation_id}) or {}
    assert (invitation["status"], invitation["reason"]) == ("expired", "expired")
    (failed,) = await failures(core)
    assert (failed["reason"], failed["tenant_id"], failed["permission_set_ids"]) == ("expired", CONTOSO, [SET])


@pytest.mark.parametrize("named", [True, False])
async def test_a_decline_of_the_second_registration_keeps_what_was_granted_and_no_more(
    core: Core, visitor: Visitor, named: bool
) -> None:
    """Without a tenant named nothing is granted before an operator's yes, and there is none to a run that failed."""
    invitation_id, guest = await invited(core, visitor, tenant_id=CONTOSO if named else None, sets=(SET, SECOND))
    await guest.sign_in()
    await guest.say_yes(accepts=iter((True, False)))
    status = InvitationStatus.SUCCEEDED if named else InvitationStatus.FAILED
    view = await core.flow.invitations.get("northwind", invitation_id)
    assert (view.status, view.invitation.reason) == (status, "declined")
    assert await granted(core) == ([SET] if named else [])
    (failed,) = await failures(core)
    assert (failed["reason"], failed["permission_set_ids"], failed["tenant_id"]) == ("declined", [SECOND], CONTOSO)
