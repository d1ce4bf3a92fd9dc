"""What the app remembers, and what outlives a crash."""

import json
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sample_app.pushes import Verdict, read
from sample_app.store import Store

CONTOSO = {"id": "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10", "name": "Contoso Ltd"}
FABRIKAM = {"id": "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21", "name": "Fabrikam Inc"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "data")
    yield store
    store.close()


def push(kind: str = "permission.status_changed", **changes: Any) -> dict[str, Any]:
    data = {
        "account_id": "northwind",
        "tenant": CONTOSO,
        "permission_set_id": "read-directory-data",
        "status": "granted",
        "usable": True,
        "access": "gained",
        "revision": 1,
        **changes,
    }
    return {"type": kind, "timestamp": "2026-11-23T12:00:00Z", "data": data}


_ids = iter(range(1_000_000))


def accept(
    store: Store, content: dict[str, Any], *, webhook_id: str | None = None, app_id: str = "mobile-security"
) -> Verdict:
    text = json.dumps(content)
    return store.accept(
        app_id=app_id, webhook_id=webhook_id or f"msg_{next(_ids)}", push=read(text.encode()), body=text
    )


def test_a_push_is_applied_once(store: Store) -> None:
    assert accept(store, push(), webhook_id="a") is Verdict.APPLIED
    assert accept(store, push(), webhook_id="a") is Verdict.DUPLICATE
    assert accept(store, push(revision=2), webhook_id="a") is Verdict.DUPLICATE

    assert [arrival.verdict for arrival in store.arrivals(limit=9)] == ["duplicate", "duplicate", "applied"]
    assert [grant.revision for grant in store.grants()] == [1]


def test_one_event_reaches_each_app_that_it_concerns(store: Store) -> None:
    """The notifier sends an event to every subscription under the same id."""
    assert accept(store, push(), webhook_id="a", app_id="search") is Verdict.APPLIED
    assert accept(store, push(), webhook_id="a", app_id="workbench") is Verdict.APPLIED

    assert [grant.app_id for grant in store.grants()] == ["search", "workbench"]


def test_state_never_goes_back(store: Store) -> None:
    accept(store, push(revision=7, status="revoked", usable=False, access="lost", reason="removed"))

    assert accept(store, push(revision=6)) is Verdict.STALE_REVISION
    (grant,) = store.grants()
    assert (grant.status, grant.usable, grant.reason, grant.revision) == ("revoked", False, "removed", 7)


def test_revisions_are_kept_apart(store: Store) -> None:
    """By account, tenant and permission set: a newer push about one says nothing about another."""
    accept(store, push(revision=9))

    assert accept(store, push(revision=3, permission_set_id="manage-accounts")) is Verdict.APPLIED
    assert accept(store, push(revision=3, tenant=FABRIKAM)) is Verdict.APPLIED
    assert accept(store, push(revision=3, account_id="adatum")) is Verdict.APPLIED
    assert len(store.grants()) == 4


def test_a_one_tenant_app_follows_its_slot(store: Store) -> None:
    accept(store, push(revision=5, epoch=1))
    accept(store, push(revision=2, epoch=2, tenant=FABRIKAM))
    assert {grant.tenant_name: grant.usable for grant in store.grants()} == {
        "Contoso Ltd": False,
        "Fabrikam Inc": True,
    }

    late = push(revision=6, epoch=1)
    assert accept(store, late) is Verdict.STALE_EPOCH
    loss = push(revision=7, epoch=2, usable=False, access="lost")
    assert accept(store, loss) is Verdict.APPLIED
    moved_back = push(revision=8, epoch=3)
    assert accept(store, moved_back) is Verdict.APPLIED
    assert {grant.tenant_name: grant.usable for grant in store.grants()} == {
        "Contoso Ltd": True,
        "Fabrikam Inc": False,
    }


def test_a_loss_that_comes_first_announces_the_move(store: Store) -> None:
    accept(store, push(revision=5, epoch=1))
    accept(store, push(revision=6, epoch=2, usable=False, access="lost"))

    assert accept(store, push(revision=1, epoch=1, tenant=FABRIKAM)) is Verdict.STALE_EPOCH
    assert accept(store, push(revision=2, epoch=2, tenant=FABRIKAM)) is Verdict.APPLIED


def test_a_late_loss_does_not_take_the_slot_back(store: Store) -> None:
    """A loss is applied whatever its epoch; what the slot has come to, it leaves."""
    accept(store, push(revision=2, epoch=3, tenant=FABRIKAM))
    assert accept(store, push(revision=5, epoch=1, usable=False, access="lost")) is Verdict.APPLIED

    assert accept(store, push(revision=6, epoch=2)) is Verdict.STALE_EPOCH
    assert {grant.tenant_name: grant.usable for grant in store.grants()} == {
        "Contoso Ltd": False,
        "Fabrikam Inc": True,
    }


def test_a_removed_tenant_stays_removed_until_it_is_connected_again(store: Store) -> None:
    accept(store, push(revision=1))
    accept(store, push(revision=9, permission_set_id="manage-accounts"))
    assert accept(store, push("tenant.removed", revision=5)) is Verdict.APPLIED

    assert [grant.permission_set_id for grant in store.grants()] == ["manage-accounts"]
    assert accept(store, push(revision=4)) is Verdict.STALE_REVISION
    assert accept(store, push(revision=6)) is Verdict.APPLIED
    assert accept(store, push("tenant.removed", revision=5)) is Verdict.STALE_REVISION


def test_the_newest_name_wins(store: Store) -> None:
    accept(store, push(revision=3))
    assert accept(store, push("tenant.updated", revision=4, tenant={**CONTOSO, "name": "Contoso AG"})) == "applied"
    assert accept(store, push("tenant.updated", revision=2, tenant={**CONTOSO, "name": "Older"})) == "stale_revision"
    accept(store, push(revision=5, tenant={"id": CONTOSO["id"], "name": None}))
    late = push(revision=1, permission_set_id="manage-accounts", tenant={**CONTOSO, "name": "Oldest"})
    assert accept(store, late) is Verdict.APPLIED  # news about its permission set, but not about the name

    assert {grant.tenant_name for grant in store.grants()} == {"Contoso AG"}


def test_what_cannot_be_read_is_kept_aside(store: Store) -> None:
    assert store.accept(app_id="search", webhook_id="a", push=None, body="{}") is Verdict.UNREADABLE
    assert store.accept(app_id="search", webhook_id="a", push=None, body="{}") is Verdict.DUPLICATE

    assert [arrival.body for arrival in store.arrivals(limit=9)] == ["{}", "{}"]


def test_strangers_cannot_fill_the_disk(store: Store) -> None:
    accept(store, push())
    for _ in range(1_100):
        store.turn_away(webhook_id="x" * 5_000, verdict=Verdict.REJECTED)

    arrivals = store.arrivals(limit=5_000)
    assert len(arrivals) == 1_001
    assert {len(arrival.webhook_id) for arrival in arrivals[:-1]} == {200}
    assert arrivals[-1].verdict is Verdict.APPLIED


def test_arrivals_are_paged_and_filtered(store: Store) -> None:
    for number in range(5):
        accept(store, push(revision=number), webhook_id=f"id-{number}", app_id="search" if number % 2 else "workbench")

    newest = store.arrivals(limit=2)
    assert [arrival.webhook_id for arrival in newest] == ["id-4", "id-3"]
    assert [a.webhook_id for a in store.arrivals(limit=9, before=newest[-1].seq)] == ["id-2", "id-1", "id-0"]
    assert [a.webhook_id for a in store.arrivals(limit=9, app_id="search")] == ["id-3", "id-1"]
    assert [a.webhook_id for a in store.arrivals(limit=9, webhook_id="id-2")] == ["id-2"]


def test_the_last_two_secrets_of_an_app_are_kept(store: Store) -> None:
    for number in range(3):
        store.keep_secret(app_id="search", subscription_id="s1", secret=f"whsec_{number}")
    store.keep_secret(app_id="workbench", subscription_id="s2", secret="whsec_w")

    assert store.secrets() == [("workbench", "whsec_w"), ("search", "whsec_2"), ("search", "whsec_1")]
    assert store.has_secret(app_id="search", subscription_id="s1")
    assert not store.has_secret(app_id="search", subscription_id="s2")


def test_old_pushes_are_forgotten_and_what_is_known_stays(store: Store) -> None:
    accept(store, push(), webhook_id="a")
    store.forget_before(1)
    assert len(store.arrivals(limit=9)) == 1
    store.forget_before(-1)

    assert store.arrivals(limit=9) == []
    assert len(store.grants()) == 1
    assert store.last_accepted_at("mobile-security") is None


def test_a_second_process_finds_everything_and_the_file_is_private(store: Store, tmp_path: Path) -> None:
    accept(store, push(), webhook_id="a")
    store.keep_secret(app_id="mobile-security", subscription_id="s1", secret="whsec_x")

    again = Store(tmp_path / "data")  # the first never closed, as after kill -9
    assert accept(again, push(), webhook_id="a") is Verdict.DUPLICATE
    assert again.secrets() == [("mobile-security", "whsec_x")]
    assert again.last_accepted_at("mobile-security") is not None
    again.close()
    for path in (tmp_path / "data").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_a_push_is_remembered_whole_or_not_at_all(store: Store) -> None:
    """If acting on it fails, its id is not remembered either: the retry must not count as a duplicate."""
    store._connection.execute("ALTER TABLE grants RENAME TO elsewhere")
    with pytest.raises(sqlite3.Error):
        accept(store, push(), webhook_id="a")
    store._connection.execute("ALTER TABLE elsewhere RENAME TO grants")

    assert accept(store, push(), webhook_id="a") is Verdict.APPLIED
    assert len(store.arrivals(limit=9)) == 1
