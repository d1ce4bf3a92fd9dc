"""Consents put straight into the gateway's ledger, as they are after the proof."""

from datetime import datetime, timedelta
from uuid import uuid4

from consent_gateway.checks.verification import SYSTEM
from consent_gateway.consent.attempts import Attempt, Leg, Person, Phase
from consent_gateway.consent.legs import hashed
from consent_gateway.consent.proof import Administrator
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Refused
from consent_gateway.grants.change import Change
from consent_gateway.grants.grants import Grant, Reason, gone
from consent_gateway.grants.ledger import Books
from support.gateway import CLIENT_IDS, SETS


async def waiting(core: Core, person: Person, *sets: str, seconds: float = 600) -> tuple[Attempt, str]:
    """An attempt that waits for its callback, and its state."""
    state = uuid4().hex
    attempt = Attempt(
        id=uuid4().hex,
        account_id=person.account_id,
        account_name=None,
        subject=person.subject,
        app_id=None,
        permission_set_ids=sets,
        remaining=sets,
        tenant_id=None,
        session_hash=person.session_hash,
        phase=Phase.CONSENT,
        leg=Leg(state_hash=hashed(state), client_id=CLIENT_IDS[SETS[0]], tenant_id=None),
        created_at=utc_now(),
        expires_at=utc_now() + timedelta(seconds=seconds),
    )
    await core.store.attempts.insert(attempt)
    return attempt, state


async def take(core: Core, state: str, person: Person) -> Attempt | None:
    """Consume the state."""
    return await core.store.attempts.take(
        state_hash=hashed(state),
        session_hash=person.session_hash,
        account_id=person.account_id,
        phase=Phase.CONSENT,
        now=utc_now(),
    )


async def accepted(
    core: Core, administrator: Administrator, person: Person, *sets: str, first_check_at: datetime | None = None
) -> tuple[Grant, ...]:
    """A proven consent, committed and not yet verified."""
    _, state = await waiting(core, person, *sets)
    attempt = await take(core, state, person)
    assert attempt is not None
    now = utc_now()
    return await core.store.commit_consent(
        attempt,
        [core.catalog.sets[one] for one in attempt.permission_set_ids],
        administrator=administrator,
        now=now,
        verify_until=now + timedelta(days=1),
        first_check_at=first_check_at or now + timedelta(seconds=7),
    )


async def accepted_on(core: Core, tenant_id: str, who: Person | Attempt, *sets: str) -> tuple[Grant, ...] | str:
    """A proven consent of some administrator; of an attempt that was taken also the kind of its refusal."""
    administrator = Administrator(tenant_id=tenant_id, object_id=str(uuid4()), name="Admin", roles=None)
    if isinstance(who, Person):
        return await accepted(core, administrator, who, *sets)
    now = utc_now()
    try:
        return await core.store.commit_consent(
            who,
            [core.catalog.sets[one] for one in who.remaining],
            administrator=administrator,
            now=now,
            verify_until=now + timedelta(days=1),
            first_check_at=now + timedelta(seconds=7),
        )
    except Refused as refused:
        return str(refused.kind)


async def lost(core: Core, grant: Grant, reason: Reason = Reason.REMOVED) -> None:
    """The grant is gone in Entra, and that was believed."""

    async def work(books: Books) -> None:
        turn = await books.open(grant.account_id, grant.tenant_id)
        now = turn.grants[grant.permission_set_id]
        await books.write(turn, Change(grants=[gone(now, reason)], cause="check", actor=SYSTEM))

    await core.operations._ledger.transact(grant.account_id, work)
