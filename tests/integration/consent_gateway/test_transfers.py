"""Transfers on a real ledger: asked for by a proof, given by the holder alone, in one transaction."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from consent_gateway.consent.attempts import Attempt, Person, Proven
from consent_gateway.consent.transfers import TransferStatus
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Status
from consent_gateway.grants.ledger import Books
from shared.events import Actor, decode
from support.gateway import CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR
from support.ledger import accepted_on, take, waiting

SET = "read-directory-data"
SECOND = "manage-accounts"
ADMINISTRATOR = "6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22"
ACTOR = Actor(kind="user", id="admin-1")
LOSER, WINNER = OPERATOR, OTHER_OPERATOR


@pytest_asyncio.fixture
async def core(make_core: Any) -> Core:
    core: Core = await make_core(wait_seconds=0)
    return core


async def refused(
    core: Core,
    person: Person = WINNER,
    *,
    sets: tuple[str, ...] = (SET,),
    proven_at: Any = None,
    kind: Kind = Kind.TENANT_TAKEN,
) -> str:
    """An attempt that proved a tenant of somebody else's."""
    _, state = await waiting(core, person, *sets)
    attempt: Attempt | None = await take(core, state, person)
    assert attempt is not None
    proven = Proven(tenant_id=CONTOSO, object_id=ADMINISTRATOR, at=proven_at or utc_now())
    await core.store.fail_attempt(attempt, kind=kind, stage="redeem", error_code=None, tenant_id=CONTOSO, proven=proven)
    return attempt.id


async def ask(core: Core, person: Person = WINNER, *, tell_name: bool = False) -> Any:
    return await core.flow.transfers.request(await refused(core, person), person, tell_name=tell_name)


async def events(core: Core) -> list[Any]:
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    return [decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows]


async def test_the_holder_gives_a_tenant_away_at_once_and_as_a_whole(core: Core) -> None:
    await accepted_on(core, CONTOSO, LOSER, SET, SECOND)
    asked = await ask(core)
    assert (asked.incoming, asked.claimant, asked.tenant_name) == (False, None, None)
    (seen,) = await core.flow.transfers.of_account("northwind")
    assert (seen.id, seen.incoming, seen.claimant, seen.status) == (asked.id, True, None, TransferStatus.PENDING)

    given = await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)

    assert given.status is TransferStatus.ACCEPTED
    lost = await core.store.grants.grants_on("northwind", CONTOSO)
    assert {(grant.status, grant.reason) for grant in lost} == {(Status.REVOKED, "disconnected")}
    (won,) = await core.store.grants.grants_on("adatum", CONTOSO)
    assert (won.status, won.permission_set_id, won.granted_by) == (Status.VERIFYING, SET, ADMINISTRATOR)
    link = await core.database["links"].find_one({"_id": CONTOSO})
    assert (link or {})["account_ids"] == ["adatum"]
    slots = {one["_id"]: one["tenant_id"] for one in await core.database["slots"].find({}).to_list(None)}
    assert slots == {"northwind:mobile-security": None, "adatum:mobile-security": CONTOSO}
    said = [(type(one).__name__, one.account_id) for one in await events(core)][-4:]
    assert sorted(said) == [
        ("PermissionChanged", "adatum"),
        ("PermissionRevoked", "northwind"),
        ("PermissionRevoked", "northwind"),
        ("TenantRemoved", "northwind"),
    ]
    with pytest.raises(Refused, match="conflict"):
        await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)


async def test_neither_account_learns_who_the_other_is_unless_it_was_agreed(core: Core) -> None:
    await accepted_on(core, CONTOSO, LOSER, SET)
    await ask(core, tell_name=True)
    (incoming,) = await core.flow.transfers.of_account("northwind")
    (outgoing,) = await core.flow.transfers.of_account("adatum")
    assert (incoming.claimant, outgoing.claimant) == ("Adatum Corporation", None)
    assert "northwind" not in str(outgoing).lower()
    assert await core.flow.transfers.of_account("contoso") == []


async def test_only_the_holder_accepts(core: Core) -> None:
    await accepted_on(core, CONTOSO, LOSER, SET)
    asked = await ask(core)
    for account_id in ("adatum", "contoso"):
        with pytest.raises(Refused, match="not_found"):
            await core.flow.transfers.accept(asked.id, account_id, actor=ACTOR)
    assert [one.status for one in await core.store.grants.grants_on("northwind", CONTOSO)] == [Status.VERIFYING]


async def test_silence_never_transfers_and_may_be_broken_again(core: Core) -> None:
    await accepted_on(core, CONTOSO, LOSER, SET)
    asked = await ask(core)
    assert asked.expires_at - asked.created_at == timedelta(days=7)
    await core.database["transfers"].update_one({}, {"$set": {"expires_at": utc_now()}})
    with pytest.raises(Refused, match="expired"):
        await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)
    assert [one.account_id for one in await core.store.grants.grants_on("northwind", CONTOSO)] == ["northwind"]
    again = await ask(core)
    assert again.id != asked.id
    assert {one.status for one in await core.flow.transfers.of_account("adatum")} == {
        TransferStatus.EXPIRED,
        TransferStatus.PENDING,
    }


async def test_a_tenant_that_the_account_does_not_hold_alone_is_not_given_away(make_core: Any, core: Core) -> None:
    await accepted_on(core, CONTOSO, LOSER, SET)
    asked = await ask(core)
    await core.operations.disconnect("northwind", CONTOSO, actor=ACTOR)
    before = await core.database["outbox"].count_documents({})
    with pytest.raises(Refused, match="conflict"):
        await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)
    await accepted_on(core, CONTOSO, LOSER, SET)
    shared: Core = await make_core(wait_seconds=0, sharing="shared")
    await accepted_on(shared, CONTOSO, replace(WINNER, account_id="contoso"), SET)
    with pytest.raises(Refused, match="conflict"):
        await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)
    assert await core.database["outbox"].count_documents({}) == before + 2
    assert await core.store.grants.grants_on("adatum", CONTOSO) == []


async def test_a_request_is_good_for_one_transfer(core: Core) -> None:
    await accepted_on(core, CONTOSO, LOSER, SET)
    asked = await ask(core)
    await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)
    # The tenant comes back, and nobody has asked for it since.
    await core.operations.disconnect("adatum", CONTOSO, actor=ACTOR)
    await accepted_on(core, CONTOSO, LOSER, SET)
    with pytest.raises(Refused, match="given away already"):
        await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)
    assert [one.status for one in await core.store.grants.grants_on("northwind", CONTOSO)] == [Status.VERIFYING]


async def test_a_transfer_needs_a_fresh_proof_of_the_same_session_and_a_holder(core: Core) -> None:
    request = core.flow.transfers.request
    nobody = await refused(core)
    with pytest.raises(Refused, match="conflict"):
        await request(nobody, WINNER, tell_name=False)
    await accepted_on(core, CONTOSO, LOSER, SET)
    fresh = await refused(core)
    late = await refused(core, proven_at=utc_now() - timedelta(minutes=11))
    other = await refused(core, kind=Kind.NOT_ADMINISTRATOR)
    for attempt_id, person, kind in (
        (fresh, replace(WINNER, session_hash="session-9"), Kind.NOT_FOUND),
        (fresh, LOSER, Kind.NOT_FOUND),
        (fresh, replace(WINNER, account_id="contoso"), Kind.NOT_FOUND),
        (fresh, replace(WINNER, roles=frozenset({"viewer"})), Kind.FORBIDDEN),
        ("nothing", WINNER, Kind.NOT_FOUND),
        (late, WINNER, Kind.EXPIRED),
        (other, WINNER, Kind.CONFLICT),
    ):
        with pytest.raises(Refused) as error:
            await request(attempt_id, person, tell_name=False)
        assert error.value.kind is kind
    assert await core.database["transfers"].count_documents({}) == 0


async def test_only_what_was_accepted_and_proven_is_transferred(core: Core) -> None:
    """The visit was to go on to the set of another registration: the holder's consent to that one is not theirs."""
    await accepted_on(core, CONTOSO, LOSER, SET, SECOND)
    asked = await core.flow.transfers.request(await refused(core, sets=(SET, SECOND)), WINNER, tell_name=False)
    await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)
    assert [one.permission_set_id for one in await core.store.grants.grants_on("adatum", CONTOSO)] == [SET]


async def test_a_tenant_is_not_given_away_for_nothing(core: Core) -> None:
    await accepted_on(core, CONTOSO, LOSER, SET)
    asked = await ask(core)
    await core.database["transfers"].update_one({}, {"$set": {"permission_set_ids": ["left-the-catalogue"]}})
    with pytest.raises(Refused, match="conflict"):
        await core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR)
    assert [one.status for one in await core.store.grants.grants_on("northwind", CONTOSO)] == [Status.VERIFYING]


async def test_with_a_token_only_who_went_through_the_attempt_asks(core: Core) -> None:
    """An inviter didn't, nor did who made a link that somebody else followed."""
    await accepted_on(core, CONTOSO, LOSER, SET)
    maker, follower = (replace(WINNER, session_hash="", subject=one) for one in (WINNER.subject, "follower"))
    attempts, request = core.database["attempts"], core.flow.transfers.request
    invited, followed = await refused(core), await refused(core)
    await attempts.update_one({"_id": invited}, {"$set": {"invitation_id": "i"}})
    await attempts.update_one({"_id": followed}, {"$set": {"follower": follower.subject}})
    for attempt_id, person in ((invited, maker), (followed, maker), (invited, follower)):
        with pytest.raises(Refused, match="not_found"):
            await request(attempt_id, person, tell_name=False)
    assert await core.database["transfers"].count_documents({}) == 0
    assert not (await request(followed, follower, tell_name=False)).incoming


async def test_a_transfer_meets_a_disconnection_and_both_end_in_one_holder(make_core: Any, core: Core) -> None:
    """Over two replicas: whoever comes second sees what the first has done."""
    other = await make_core(wait_seconds=0)
    await accepted_on(core, CONTOSO, LOSER, SET)
    await accepted_on(core, FABRIKAM, LOSER, SET)
    asked = await ask(core)
    answers = await asyncio.gather(
        core.flow.transfers.accept(asked.id, "northwind", actor=ACTOR),
        other.operations.disconnect("northwind", CONTOSO, actor=ACTOR),
        *(other.flow.transfers.accept(asked.id, "northwind", actor=ACTOR) for _ in range(5)),
        return_exceptions=True,
    )
    unexpected = [one for one in answers if isinstance(one, BaseException) and not isinstance(one, Refused)]
    assert unexpected == []
    link = await core.database["links"].find_one({"_id": CONTOSO})
    live = [one for one in await core.store.grants.grants_on("adatum", CONTOSO) if one.live]
    assert (link or {})["account_ids"] == (["adatum"] if live else [])
    assert not any(one.live for one in await core.store.grants.grants_on("northwind", CONTOSO))
    slot = await core.database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert (slot or {})["tenant_id"] == FABRIKAM


async def test_of_two_requests_at_once_over_two_replicas_one_is_made_and_both_are_told_of_it(
    make_core: Any, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have looked, and found that nobody had asked, before either writes: only the index stands between them."""
    await accepted_on(core, CONTOSO, LOSER, SET)
    replicas = [core, await make_core(wait_seconds=0)]
    attempts = [await refused(core) for _ in replicas]
    both_have_looked, holders, looks = asyncio.Barrier(len(replicas)), Books.holders, 0

    async def holders_of(self: Books, tenant_id: str) -> list[str]:
        nonlocal looks
        looks += 1
        if looks <= len(replicas):
            await both_have_looked.wait()
        return await holders(self, tenant_id)

    monkeypatch.setattr(Books, "holders", holders_of)
    first, second = await asyncio.gather(
        *(
            one.flow.transfers.request(attempt_id, WINNER, tell_name=False)
            for one, attempt_id in zip(replicas, attempts, strict=True)
        )
    )
    assert first == second
    assert [one.id for one in await core.flow.transfers.of_account("northwind")] == [first.id]
