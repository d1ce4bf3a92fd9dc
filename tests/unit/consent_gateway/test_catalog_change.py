"""What another catalogue does to a grant, decided without a clock or a database."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from consent_gateway.catalog.change import apps_differ, reevaluate
from consent_gateway.catalog.file import read_catalog
from consent_gateway.catalog.model import Catalog
from consent_gateway.errors import CatalogError
from consent_gateway.grants.events import same_to_readers
from consent_gateway.grants.grants import Entra, Reason, Status, gone
from shared.events import HeldApp
from support.catalogs import IDS, app, catalog_file, granted, graph, permission

DAY = datetime(2026, 12, 1, tzinfo=UTC)


def load(folder: Path, *, at: datetime | None = None, **changes: Any) -> Catalog:
    return read_catalog(catalog_file(folder, **changes)).catalog(IDS, at=at, edition=2)


def test_a_version_that_asks_for_more_makes_an_update_available_with_the_difference(tmp_path: Path) -> None:
    more = load(tmp_path, version=2, sets={"one": {"version": 2, "permissions": ("A.Read", "B.Read", "C.Read")}})
    after = reevaluate(granted(), more)
    assert (after.status, after.usable) == (Status.UPDATE_AVAILABLE, True)
    assert (after.version, after.available_version, after.additional) == (1, 2, graph("C.Read"))
    assert after.permissions == granted().permissions
    assert same_to_readers(after, reevaluate(after, more))
    # What was accepted and is missing is another matter: an update would not bring it.
    partial = granted(entra=Entra.INCOMPLETE, permissions=graph("A.Read"), missing=graph("B.Read"))
    assert reevaluate(partial, more).additional == graph("C.Read")
    again = reevaluate(after, load(tmp_path, version=3))
    assert (again.status, again.additional, again.available_version) == (Status.GRANTED, (), None)


def test_a_removed_permission_becomes_extra_and_is_not_held_against_the_grant(tmp_path: Path) -> None:
    less = load(tmp_path, version=2, sets={"one": {"version": 2, "permissions": ("A.Read",)}})
    after = reevaluate(granted(), less)
    assert (after.status, after.accepted, after.permissions) == (Status.GRANTED, graph("A.Read"), graph("A.Read"))
    assert after.extra == graph("B.Read")
    partial = granted(entra=Entra.INCOMPLETE, permissions=graph("A.Read"), missing=graph("B.Read"))
    after = reevaluate(partial, less)
    assert (after.status, after.missing, after.extra) == (Status.GRANTED, (), ())


def test_a_removed_delegated_permission_is_not_extra(tmp_path: Path) -> None:
    """Whether one is there is seldom known, so none is ever called extra."""
    delegated = graph("User.Read")[0].model_copy(update={"type": "delegated"})
    had = (*graph("A.Read", "B.Read"), delegated)
    after = reevaluate(granted(accepted=had, permissions=had), load(tmp_path, version=2))
    assert (after.status, after.permissions, after.extra) == (Status.GRANTED, graph("A.Read", "B.Read"), ())


def test_what_another_set_of_the_registration_asks_for_is_not_extra(tmp_path: Path) -> None:
    sets = {
        "one": {"version": 2, "permissions": ("A.Read",), "registration": "one"},
        "two": {"permissions": ("B.Read",), "registration": "one"},
    }
    assert reevaluate(granted(), load(tmp_path, version=2, sets=sets)).extra == ()


@pytest.mark.parametrize("status", ["blocked", "verifying", "revoked"])
def test_an_update_waits_behind_what_is_more_urgent(tmp_path: Path, status: str) -> None:
    more = load(tmp_path, version=2, sets={"one": {"version": 2, "permissions": ("A.Read", "B.Read", "C.Read")}})
    before = {
        "blocked": granted(blocked=True),
        "verifying": granted(entra=Entra.VERIFYING),
        "revoked": gone(granted(), Reason.REMOVED),
    }[status]
    after = reevaluate(before, more)
    assert after.status == status
    assert (after.additional == ()) is (status == "revoked")


def test_a_set_that_is_gone_asks_for_nothing_and_has_no_apps(tmp_path: Path) -> None:
    without = load(tmp_path, version=2, sets={"two": {}}, apps=[app("reader", "two")])
    after = reevaluate(granted(), without)
    assert (after.status, after.accepted) == (Status.GRANTED, granted().accepted)
    assert apps_differ(after, without)
    assert not apps_differ(replace(after, apps=()), without)


@pytest.mark.parametrize(
    ("apps", "grant", "differ"),
    [
        ([app("reader", "one")], {}, False),
        ([app("reader", "one"), app("writer", "one")], {}, True),
        ([app("writer", "one")], {}, True),
        ([app("reader", "one", tenant_limit=1)], {}, True),
        ([app("reader", "one", tenant_limit=1)], {"app_epochs": {"reader": 1}}, False),
        (
            [app("reader", "one", tenant_limit=1)],
            {"apps": (), "held_apps": (HeldApp(app_id="reader", tenant_id="t", epoch=1),)},
            False,
        ),
        ([app("reader", "one")], {"app_epochs": {"reader": 1}}, True),
    ],
)
def test_apps_differ_by_membership_or_by_limit(
    tmp_path: Path, apps: list[dict[str, Any]], grant: dict[str, Any], differ: bool
) -> None:
    assert apps_differ(granted(**grant), load(tmp_path, apps=apps)) is differ


def planned(**changes: Any) -> dict[str, Any]:
    plan = {"version": 2, "from": date(2026, 12, 1), "reason": "because", "adds": [permission("C.Read")]}
    return {"one": {"planned": [plan | changes]}}


def test_a_planned_version_is_told_and_changes_nothing_before_its_date(tmp_path: Path) -> None:
    before = load(tmp_path, at=DAY.replace(day=1, month=11), sets=planned())
    after = reevaluate(granted(), before)
    assert (after.status, after.additional) == (Status.GRANTED, ())
    (plan,) = after.planned
    assert (plan.version, plan.effective_from, plan.adds, plan.reason) == (2, DAY, graph("C.Read"), "because")
    assert not same_to_readers(granted(), after)


def test_from_its_date_on_a_planned_version_is_the_version(tmp_path: Path) -> None:
    due = load(tmp_path, at=DAY, sets=planned(removes=[{"resource": "graph", "value": "A.Read"}]))
    assert (due.sets["one"].version, due.sets["one"].required) == (2, graph("B.Read", "C.Read"))
    after = reevaluate(granted(), due)
    assert (after.status, after.additional, after.planned) == (Status.UPDATE_AVAILABLE, graph("C.Read"), ())
    assert after.extra == graph("A.Read")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"version": 1}, "version: Input should be greater than or equal to 2"),
        ({"adds": []}, "neither adds nor removes"),
        ({"adds": [permission("A.Read")]}, "adds what is there"),
        ({"removes": [{"resource": "graph", "value": "X"}]}, "removes what is not"),
        ({"from": "soon"}, "from"),
    ],
)
def test_a_plan_that_makes_no_sense_is_one_readable_line(tmp_path: Path, plan: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        load(tmp_path, sets=planned(**plan))


def test_planned_versions_and_their_dates_grow(tmp_path: Path) -> None:
    first = {"version": 3, "from": date(2026, 12, 1), "reason": "r", "adds": [permission("C.Read")]}
    second = first | {"version": 2, "adds": [permission("D.Read")]}
    with pytest.raises(CatalogError, match="must grow"):
        load(tmp_path, sets={"one": {"planned": [first, second]}})


def test_comments_and_order_are_not_another_content(tmp_path: Path) -> None:
    path = catalog_file(tmp_path)
    digest = read_catalog(path).digest
    path.write_text("# a comment\n" + path.read_text() + "\n")
    assert read_catalog(path).digest == digest
    path.write_text(path.read_text().replace("for A.Read", "for something else"))
    assert read_catalog(path).digest != digest


def test_a_field_of_a_later_release_is_left_out_by_an_older_one(tmp_path: Path) -> None:
    content = read_catalog(catalog_file(tmp_path))
    newer = replace(content, text=content.text.replace('"title": "One"', '"title": "One", "colour": "red"'))
    assert "colour" in newer.text
    assert newer.catalog(IDS) == content.catalog(IDS)
