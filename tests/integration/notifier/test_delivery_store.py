"""Deliveries in MongoDB, on both drivers: idempotent, leased, fenced, never forgotten."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from notifier.deliveries import Attempt, Result, Verdict
from notifier.delivery_documents import NewDelivery
from notifier.delivery_store import DeliveryStore

if TYPE_CHECKING:
    from shared.mongo import Database

pytestmark = pytest.mark.parametrize("driver", ["motor", "pymongo"], indirect=True)

NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=60)


@pytest_asyncio.fixture
async def store(database: "Database") -> DeliveryStore:
    store = DeliveryStore(database, retention_seconds=3600)
    await store.create_indexes()
    return store


def row(name: str, *, subscription: str = "s", claim: str | None = None, next_at: datetime = NOW) -> NewDelivery:
    return NewDelivery(
        id=name,
        event_id=f"event-{name}",
        event_at=NOW,
        type="t",
        subscription_id=subscription,
        claim=claim,
        next_at=next_at,
    )


def result(name: str, claim: str, verdict: Verdict, *, status_code: int = 204, body: str = "") -> Result:
    attempt = Attempt(at=NOW, duration_ms=7, status_code=status_code, response_body=body)
    return Result(delivery_id=name, claim=claim, attempt=attempt, verdict=verdict)


DELIVERED = Verdict(status="delivered")


async def test_inserting_twice_changes_nothing_and_says_which_were_there(store: DeliveryStore) -> None:
    assert await store.insert([row("a", claim="mine"), row("b")], now=NOW) == set()
    assert await store.insert([row("c"), row("a", claim="other"), row("b")], now=LATER) == {1, 2}
    assert await store.record([result("a", "mine", DELIVERED)], now=NOW) == 1


async def test_due_names_the_earliest_of_each_subscription(store: DeliveryStore) -> None:
    await store.insert([row("a", next_at=LATER), row("b"), row("c", subscription="t", next_at=LATER)], now=NOW)
    assert await store.due() == {"s": NOW, "t": LATER}


async def test_a_row_is_claimed_once_until_its_lease_ends(store: DeliveryStore) -> None:
    await store.insert([row("a")], now=NOW)
    (claimed,), more = await store.claim({"s": 10}, claim="one", now=NOW, until=LATER)
    assert (claimed.id, claimed.event_id, claimed.tries, more) == ("a", "event-a", 0, False)
    assert await store.claim({"s": 10}, claim="two", now=NOW, until=LATER) == ([], False)
    (again,), _ = await store.claim({"s": 10}, claim="two", now=LATER, until=LATER + timedelta(seconds=60))
    assert again.id == "a"


async def test_of_two_replicas_that_find_the_same_row_due_one_claims_it(
    store: DeliveryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert([row("a")], now=NOW)
    find = store._due_of

    async def found_by_both(*arguments: Any) -> list[str]:
        monkeypatch.setattr(store, "_due_of", find)
        found = await find(*arguments)
        (claimed,), _ = await store.claim({"s": 10}, claim="one", now=NOW, until=LATER)
        assert found == [claimed.id]
        return found

    monkeypatch.setattr(store, "_due_of", found_by_both)
    assert await store.claim({"s": 10}, claim="two", now=NOW, until=LATER) == ([], False)


async def test_a_claim_takes_no_more_than_there_is_room_for_the_longest_due_first(store: DeliveryStore) -> None:
    await store.insert(
        [
            row("late", next_at=NOW - timedelta(seconds=1)),
            row("later"),
            row("earliest", next_at=NOW - timedelta(days=1)),
        ],
        now=NOW,
    )
    claimed, more = await store.claim({"s": 2}, claim="one", now=NOW, until=LATER)
    assert ({each.id for each in claimed}, more) == ({"late", "earliest"}, True)


async def test_who_comes_after_the_lease_changes_nothing(store: DeliveryStore) -> None:
    await store.insert([row("a", claim="old")], now=NOW)
    await store.claim({"s": 1}, claim="new", now=NOW, until=LATER)
    retry = Verdict(status="pending", next_at=NOW)
    assert await store.record([result("a", "old", retry), result("a", "old", DELIVERED)], now=NOW) == 0
    assert await store.record([result("a", "new", DELIVERED)], now=NOW) == 1
    delivery = await store.get("a")
    assert delivery is not None
    assert len(delivery.attempts) == 1


async def test_each_attempt_is_written_with_the_state_it_led_to(store: DeliveryStore) -> None:
    names = ["good", "also-good", "again", "dead"]
    await store.insert([row(name, claim="c") for name in names], now=NOW)
    results = [
        result("good", "c", DELIVERED, status_code=200, body="$name"),
        result("also-good", "c", DELIVERED, status_code=201),
        result("again", "c", Verdict(status="pending", next_at=LATER), status_code=500),
        result("dead", "c", Verdict(status="dead", reason="attempts_exhausted"), status_code=404),
    ]
    assert await store.record(results, now=NOW) == 4
    found = {name: await store.get(name) for name in names}
    states = {name: (d.status, d.reason, d.next_at, d.ended_at) for name, d in found.items() if d is not None}
    assert states == {
        "good": ("delivered", None, None, NOW),
        "also-good": ("delivered", None, None, NOW),
        "again": ("pending", None, LATER, None),
        "dead": ("dead", "attempts_exhausted", None, NOW),
    }
    codes = {name: [each.status_code for each in d.attempts] for name, d in found.items() if d is not None}
    assert codes == {"good": [200], "also-good": [201], "again": [500], "dead": [404]}
    # A body that looks like an expression is text.
    assert found["good"] is not None
    assert found["good"].attempts[0].response_body == "$name"
    assert await store.due() == {"s": LATER}


async def test_attempts_add_up_and_only_the_latest_are_kept(store: DeliveryStore) -> None:
    await store.insert([row("a", claim="c")], now=NOW)
    for number in range(25):
        await store.record([result("a", "c", Verdict(status="pending", next_at=NOW), status_code=number)], now=NOW)
        await store.claim({"s": 1}, claim="c", now=NOW, until=NOW)
    # While it is tried, when it has died, and when it has arrived: three statements.
    assert await codes_of(store, "a") == [*range(5, 25)]
    await store.record([result("a", "c", Verdict(status="dead", reason="too_old"), status_code=500)], now=NOW)
    assert await codes_of(store, "a") == [*range(6, 25), 500]
    await store.resend("a", "s", now=NOW)
    await store.claim({"s": 1}, claim="c", now=NOW, until=NOW)
    await store.record([result("a", "c", DELIVERED, status_code=200)], now=NOW)
    assert await codes_of(store, "a") == [*range(7, 25), 500, 200]


async def codes_of(store: DeliveryStore, name: str) -> list[int | None]:
    delivery = await store.get(name)
    assert delivery is not None
    return [each.status_code for each in delivery.attempts]


async def test_how_many_attempts_are_kept_is_a_setting(database: "Database", store: DeliveryStore) -> None:
    frugal = DeliveryStore(database, retention_seconds=3600, attempts_kept=2)
    await store.insert([row("a", claim="c")], now=NOW)
    for number in range(3):
        await frugal.record([result("a", "c", Verdict(status="pending", next_at=NOW), status_code=number)], now=NOW)
        await frugal.claim({"s": 1}, claim="c", now=NOW, until=NOW)
    await frugal.record([result("a", "c", DELIVERED, status_code=200)], now=NOW)
    delivery = await store.get("a")
    assert delivery is not None
    assert [each.status_code for each in delivery.attempts] == [2, 200]


async def test_what_is_given_up_is_due_for_others_at_once(store: DeliveryStore) -> None:
    await store.insert([row("a", claim="c", next_at=LATER), row("b", claim="d", next_at=LATER)], now=NOW)
    await store.release({"a": "c", "b": "not mine"}, now=NOW)
    claimed, _ = await store.claim({"s": 9}, claim="e", now=NOW, until=LATER)
    assert [each.id for each in claimed] == ["a"]


async def test_the_end_of_a_subscription_ends_its_pending_rows_alone(store: DeliveryStore) -> None:
    await store.insert([row("a", claim="c"), row("b"), row("done", claim="c"), row("x", subscription="t")], now=NOW)
    await store.record([result("done", "c", DELIVERED)], now=NOW)
    assert await store.end_all("s", reason="subscription_deleted", before=LATER, now=NOW) == 2
    # The attempt that was under way finds its claim gone.
    assert await store.record([result("a", "c", Verdict(status="pending", next_at=NOW))], now=NOW) == 0
    reasons = [(each.id, each.reason) for each in await store.list_of("s", status="dead", after=None, limit=9)]
    assert sorted(reasons) == [("a", "subscription_deleted"), ("b", "subscription_deleted")]
    assert list(await store.due()) == ["t"]


async def test_what_an_endpoint_took_is_on_record_even_if_its_subscription_ended_meanwhile(
    store: DeliveryStore,
) -> None:
    await store.insert([row("taken", claim="c"), row("gone", claim="c")], now=NOW)
    assert await store.end_all("s", reason="subscription_disabled", before=LATER, now=NOW) == 2
    gone = Verdict(status="dead", reason="endpoint_gone")
    assert await store.record([result("taken", "c", DELIVERED), result("gone", "c", gone)], now=NOW) == 2
    found = {each.id: (each.status, each.reason) for each in await store.list_of("s", status=None, after=None, limit=9)}
    assert found == {"taken": ("delivered", None), "gone": ("dead", "endpoint_gone")}


async def test_what_was_begun_later_does_not_end_with_what_was_there_before(store: DeliveryStore) -> None:
    """The subscription was read as disabled at NOW; its owner has recovered it since."""
    await store.insert([row("before", claim="c")], now=NOW - timedelta(seconds=1))
    await store.insert([row("revived", claim="c")], now=NOW - timedelta(seconds=1))
    await store.record([result("revived", "c", Verdict(status="dead", reason="too_old"))], now=NOW)
    await store.revive("s", ["revived"], before=NOW, now=LATER)
    assert await store.end_all("s", reason="subscription_disabled", before=NOW, now=LATER) == 1
    claimed, _ = await store.claim({"s": 9}, claim="d", now=LATER, until=LATER)
    assert [each.id for each in claimed] == ["revived"]


async def test_what_died_again_since_is_not_revived_a_second_time(store: DeliveryStore) -> None:
    await store.insert([row("a", claim="c")], now=LATER)
    await store.record([result("a", "c", Verdict(status="dead", reason="too_old"))], now=LATER)
    assert await store.revive("s", ["a"], before=NOW, now=LATER) == 0


async def test_the_dead_are_revived_and_the_delivered_are_not(store: DeliveryStore) -> None:
    await store.insert([row("dead", claim="c"), row("delivered", claim="c")], now=NOW)
    await store.record([result("delivered", "c", DELIVERED)], now=NOW)
    await store.record([result("dead", "c", Verdict(status="dead", reason="too_old"))], now=NOW)
    assert await store.revive("other", ["dead", "delivered"], before=LATER, now=LATER) == 0
    assert await store.revive("s", ["dead", "delivered"], before=LATER, now=LATER) == 1
    (claimed,), _ = await store.claim({"s": 9}, claim="d", now=LATER, until=LATER)
    assert (claimed.id, claimed.tries, claimed.started_at) == ("dead", 0, LATER)
    revived = await store.get("dead")
    assert revived is not None
    # Only what has ended expires.
    assert (revived.status, revived.reason, revived.ended_at) == ("pending", None, None)


async def test_resending_never_takes_a_row_from_whom_it_is_being_sent_by(store: DeliveryStore) -> None:
    await store.insert([row("held", claim="c", next_at=LATER), row("waiting", next_at=LATER)], now=NOW)
    assert not await store.resend("held", "s", now=NOW)
    assert await store.resend("waiting", "s", now=NOW)
    await store.record([result("held", "c", DELIVERED)], now=NOW)
    assert await store.resend("held", "s", now=NOW)
    claimed, _ = await store.claim({"s": 9}, claim="d", now=NOW, until=LATER)
    assert {each.id for each in claimed} == {"held", "waiting"}


@pytest.mark.parametrize("status", [None, "pending", "dead"])
async def test_pages_hold_everything_once(store: DeliveryStore, status: str | None) -> None:
    for number in range(7):
        await store.insert([row(f"{number}-{side}") for side in "ab"], now=NOW + timedelta(milliseconds=number // 2))
    if status == "dead":
        await store.end_all("s", reason="subscription_disabled", before=LATER, now=NOW)
    seen: list[str] = []
    after = None
    while page := await store.list_of("s", status=status, after=after, limit=4):  # type: ignore[arg-type] # one of them
        seen += [each.id for each in page]
        after = (page[-1].created_at, page[-1].id)
    assert len(seen) == len(set(seen)) == 14
    assert seen[0].startswith("6-")


async def test_the_retention_can_be_changed(database: "Database", store: DeliveryStore) -> None:
    await DeliveryStore(database, retention_seconds=7200).create_indexes()
    indexes = await database["deliveries"].index_information()
    assert indexes["ended_at_ttl"]["expireAfterSeconds"] == 7200
