"""Sessions in a real database, through either driver, with a clock that the test moves."""

from datetime import UTC, datetime, timedelta

import pytest

from consent_gateway.web.sessions import SIGN_IN_SECONDS, Identity, Sessions, SignIn
from shared.auth import Principal
from shared.mongo import Database

SECRET = "s" * 32


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(database: Database, clock: Clock) -> Sessions:
    return Sessions(database, secret=SECRET, seconds=1000, idle_seconds=200, now=clock)


def identity(subject: str = "person", account_id: str = "northwind") -> Identity:
    principal = Principal(
        subject=subject,
        account_id=account_id,
        account_name="Northwind Traders",
        app_id=None,
        roles=frozenset({"operator"}),
        expires_at=2_000_000_000,
    )
    return Identity(principal=principal, name="Somebody", access_token="ACCESS-TOKEN", id_token="ID-TOKEN")


async def test_a_session_gives_back_whom_it_was_started_for(sessions: Sessions) -> None:
    session = await sessions.open(await sessions.start(identity(), replacing=None))
    assert session is not None
    assert session.identity == identity()


async def test_the_database_holds_neither_cookies_nor_tokens(sessions: Sessions, database: Database) -> None:
    token = await sessions.start(identity(), replacing=None)
    session = await sessions.open(token)
    stored = str(await database["sessions"].find_one({}))
    assert session is not None
    for secret in (token, "ACCESS-TOKEN", "ID-TOKEN", session.csrf_token):
        assert secret not in stored


async def test_a_copy_of_the_database_opens_nothing_under_another_secret(
    sessions: Sessions, database: Database
) -> None:
    token = await sessions.start(identity(), replacing=None)
    assert await Sessions(database, secret="t" * 32).open(token) is None


async def test_what_is_stored_of_one_session_cannot_be_moved_to_another(sessions: Sessions, database: Database) -> None:
    mine = await sessions.start(identity("mine"), replacing=None)
    await sessions.start(identity("theirs"), replacing=None)
    theirs = await database["sessions"].find_one({"subject": "theirs"})
    assert theirs is not None
    await database["sessions"].update_one({"subject": "mine"}, {"$set": {"tokens": theirs["tokens"]}})
    assert await sessions.open(mine) is None


async def test_a_session_ends_when_nobody_uses_it(sessions: Sessions, clock: Clock) -> None:
    token = await sessions.start(identity(), replacing=None)
    clock.move(199)
    assert await sessions.open(token) is not None
    clock.move(199)
    assert await sessions.open(token) is not None
    clock.move(201)
    assert await sessions.open(token) is None


async def test_looking_without_touching_is_no_use(sessions: Sessions, clock: Clock) -> None:
    token = await sessions.start(identity(), replacing=None)
    clock.move(150)
    assert await sessions.open(token, touch=False) is not None
    clock.move(51)
    assert await sessions.open(token) is None


async def test_a_session_ends_at_its_absolute_end_however_much_it_is_used(sessions: Sessions, clock: Clock) -> None:
    token = await sessions.start(identity(), replacing=None)
    for _ in range(9):
        clock.move(110)
        assert await sessions.open(token) is not None
    clock.move(11)
    assert await sessions.open(token) is None


async def test_a_session_that_was_ended_is_over(sessions: Sessions) -> None:
    token = await sessions.start(identity(), replacing=None)
    await sessions.end(token)
    assert await sessions.open(token) is None


async def test_signing_in_again_replaces_the_cookie_and_keeps_what_attempts_are_bound_to(sessions: Sessions) -> None:
    first = await sessions.start(identity(), replacing=None)
    before = await sessions.open(first)
    second = await sessions.start(identity(), replacing=first)
    after = await sessions.open(second)
    assert before is not None
    assert after is not None
    assert second != first
    assert after.id != before.id
    assert after.csrf_token != before.csrf_token
    assert after.binding == before.binding
    assert await sessions.open(first) is None


@pytest.mark.parametrize("other", [identity("somebody-else"), identity(account_id="adatum")])
async def test_another_person_in_the_same_browser_inherits_nothing(sessions: Sessions, other: Identity) -> None:
    first = await sessions.start(identity(), replacing=None)
    before = await sessions.open(first)
    after = await sessions.open(await sessions.start(other, replacing=first))
    assert before is not None
    assert after is not None
    assert after.binding != before.binding
    assert await sessions.open(first) is None


async def test_an_ended_session_passes_nothing_on(sessions: Sessions, clock: Clock) -> None:
    first = await sessions.start(identity(), replacing=None)
    before = await sessions.open(first)
    clock.move(201)
    after = await sessions.open(await sessions.start(identity(), replacing=first))
    assert before is not None
    assert after is not None
    assert after.binding != before.binding


async def test_a_sign_in_is_taken_once_by_the_browser_that_began_it_and_in_time(
    sessions: Sessions, clock: Clock
) -> None:
    sign_in = SignIn(nonce="n", code_verifier="v", next="/integrations")
    await sessions.begin(sign_in, state="one", browser="mine")
    assert await sessions.take(state="one", browser="theirs") is None
    assert await sessions.take(state="two", browser="mine") is None
    assert await sessions.take(state="one", browser="mine") == sign_in
    assert await sessions.take(state="one", browser="mine") is None
    await sessions.begin(sign_in, state="three", browser="mine")
    clock.move(SIGN_IN_SECONDS + 1)
    assert await sessions.take(state="three", browser="mine") is None


async def test_where_a_sign_in_leads_is_readable_by_its_browser_only(sessions: Sessions, database: Database) -> None:
    sign_in = SignIn(nonce="n", code_verifier="v", next="/connect/a-link-of-an-app")
    await sessions.begin(sign_in, state="one", browser="mine")
    assert "a-link-of-an-app" not in str(await database["sign_ins"].find({}).to_list(None))
    assert await sessions.take(state="one", browser="mine") == sign_in


async def test_the_database_forgets_what_has_ended(sessions: Sessions, database: Database) -> None:
    await sessions.create_indexes()
    await sessions.create_indexes()
    for name in ("sessions", "sign_ins"):
        indexes = await database[name].index_information()
        assert indexes["expires_at_1"]["expireAfterSeconds"] == 0
