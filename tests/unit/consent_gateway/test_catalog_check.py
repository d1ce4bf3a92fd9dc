"""What a new file would do: faults first, then the sets, then the grants."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consent_gateway.catalog.check import Conflict, Impact, Report, as_text, faults, set_changes
from consent_gateway.catalog.file import read_catalog
from consent_gateway.catalog.model import Catalog
from consent_gateway.grants.grants import Entra, Grant
from support.catalogs import IDS, app, catalog_file, granted, graph


def load(folder: Path, **changes: Any) -> Catalog:
    return read_catalog(catalog_file(folder, **changes)).catalog(IDS)


def report(active: Catalog, new: Catalog, *grants: Grant) -> Report:
    impact = Impact(active, new)
    for grant in grants:
        impact.add(grant)
    return impact.report(faults(active, new, same_content=active == new), set_changes(active, new))


def test_the_same_file_changes_nothing(tmp_path: Path) -> None:
    found = report(load(tmp_path), load(tmp_path), granted())
    assert (found.exit_code, found.faults, found.sets) == (0, (), ())
    assert "1 grants: nothing changes" in as_text(found)


def test_a_version_that_asks_for_more_names_the_grants_that_are_to_be_updated(tmp_path: Path) -> None:
    new = load(
        tmp_path,
        version=2,
        sets={"one": {"version": 2, "permissions": ("A.Read", "C.Read")}},
        apps=[app("reader", "one"), app("writer", "one")],
    )
    partial = granted(entra=Entra.INCOMPLETE, permissions=graph("A.Read"), missing=graph("B.Read"), apps=())
    found = report(load(tmp_path), new, granted(), granted(), partial)
    assert found.exit_code == 1
    (change,) = found.sets
    assert (change.from_version, change.to_version) == (1, 2)
    assert change.adds == ("Graph C.Read (application)",)
    assert change.removes == ("Graph B.Read (application)",)
    assert change.apps_added == ("writer",)
    (effect,) = found.effects
    assert (effect.grants, effect.update_available, effect.more_extra, effect.apps_changed) == (3, 3, 2, 2)
    assert effect.no_longer_partial == 1
    text = as_text(found)
    for line in ("+ Graph C.Read", "- Graph B.Read", "+ app writer", "3 become update_available"):
        assert line in text
    assert json.loads(json.dumps(found.as_json()))["exit_code"] == 1


def test_what_a_running_job_has_yet_to_do_is_not_the_new_files_doing(tmp_path: Path) -> None:
    more = {"one": {"version": 2, "permissions": ("A.Read", "B.Read", "C.Read")}}
    active, new = load(tmp_path, version=2, sets=more), load(tmp_path, version=3, sets=more)
    found = report(active, new, granted())
    assert (found.exit_code, found.effects[0].update_available) == (0, 0)
    # Unless the file asks for something else again.
    other = load(tmp_path, version=3, sets={"one": {"version": 3, "permissions": ("A.Read", "B.Read", "D.Read")}})
    assert report(active, other, granted()).effects[0].update_available == 1


def test_a_conflict_alone_is_a_change() -> None:
    conflict = Conflict(app_id="reader", accounts=1)
    found = Report(from_version=1, to_version=2, faults=(), sets=(), conflicts=(conflict,))
    assert found.exit_code == 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"version": 1}, "lower than the active version 2"),
        ({"version": 2, "apps": [app("writer", "one")]}, "active with another content"),
        ({"version": 3, "sets": {"one": {"permissions": ("A.Read",)}}}, "its version is still 1"),
    ],
)
def test_what_must_not_be_rolled_out_is_a_fault(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    found = report(load(tmp_path, version=2), load(tmp_path, **changes))
    assert found.exit_code == 2
    assert fault in found.faults[0]
    assert f"fault: {found.faults[0]}" in as_text(found)


def test_a_set_with_another_registration_is_a_fault(tmp_path: Path) -> None:
    active, new = load(tmp_path), load(tmp_path, version=2)
    moved = {"one": replace(new.sets["one"], client_id="5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a09")}
    assert "another client registration" in report(active, replace(new, sets=moved)).faults[0]


def test_an_app_that_comes_to_be_limited_is_named_with_the_accounts_that_use_more(tmp_path: Path) -> None:
    new = load(tmp_path, version=2, apps=[app("reader", "one", tenant_limit=1)])
    elsewhere = replace(granted(), tenant_id="1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21")
    alone = replace(granted(), account_id="adatum")
    found = report(load(tmp_path), new, granted(), elsewhere, alone)
    assert [(one.app_id, one.accounts) for one in found.conflicts] == [("reader", 1)]
    assert found.exit_code == 1
    assert "1 accounts would use more" in as_text(found)
