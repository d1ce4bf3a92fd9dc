"""The fleet view: what an address asks for, what the counts lead to, and what a tenant's line says."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from consent_gateway.web.fleet import Filters, cursor_in, fleet_view
from consent_gateway.web.fleet_reader import Counts, FleetGrant, FleetTenant, SetCounts
from support.console import CONTOSO, SETS, packaged_catalog

CATALOG = packaged_catalog()
DIRECTORY, ACTIVITY = SETS[0], SETS[1]


def filters(query: Mapping[str, str] | None = None, *, staff: bool = False, **more: str) -> Filters:
    return Filters.of({**(query or {}), **more}, CATALOG, staff=staff)


def counts(**changes: Any) -> Counts:
    of_directory = SetCounts(
        permission_set_id=DIRECTORY, statuses={"granted": 2, "revoked": 1}, versions={1: 2}, not_consented=3
    )
    values = {"tenants": 5, "statuses": {}, "permission_sets": (of_directory,), "counted_at": datetime.now(UTC)}
    return Counts(**(values | changes))


def test_an_address_becomes_a_question_to_the_registry_and_an_address_again() -> None:
    query = {"q": "contoso", "set": DIRECTORY, "status": "partial", "version": "2", "app": "search"}
    asked = {"q": "contoso", "permission_set_id": DIRECTORY, "status": "partial", "version": "2", "app_id": "search"}
    assert filters(query).asked == asked
    assert filters(query).fields == query
    assert filters(query).any


def test_who_has_not_consented_is_asked_of_one_set() -> None:
    assert filters(set=DIRECTORY, status="not_consented").asked == {"not_consented": DIRECTORY}
    assert filters(status="not_consented").asked == {}
    assert filters(status="not_consented").lacks_set
    assert filters(version="2").lacks_set
    assert filters(version="2").asked == {}
    assert not filters(set=DIRECTORY, version="2").lacks_set


@pytest.mark.parametrize(
    "query",
    [
        {"set": "../x"},
        {"status": "$ne"},
        {"version": "-1"},
        {"version": "1" * 20},
        {"version": "\u0661"},
        {"app": "nobody"},
        {"account": "adatum"},
    ],
)
def test_what_nobody_knows_is_left_out(query: dict[str, str]) -> None:
    assert not filters(query).asked


def test_staff_alone_choose_an_account() -> None:
    assert filters(staff=True, account="adatum").asked == {"account_id": "adatum"}
    assert not filters(staff=True, account="a:b").asked
    assert not filters(staff=True, account="adatum").any


def test_a_cursor_of_the_address_is_one_or_is_left_out() -> None:
    assert cursor_in({"cursor": "Im5vcnRo"}) == "Im5vcnRo"
    assert cursor_in({"cursor": "a&b"}) is None
    assert cursor_in({}) is None


def test_every_set_is_counted_and_each_number_leads_to_its_tenants() -> None:
    view = fleet_view(CATALOG, filters(staff=True, account="adatum", q="x"), counts=counts(), tenants=(), path="/fleet")
    assert [line.title for line in view.sets] == [one.title for one in CATALOG.sets.values()]
    directory, activity = view.sets[0], view.sets[1]
    found = {count.status: (count.tenants, count.href) for count in directory.counts}
    assert found["granted"] == (2, f"/fleet?set={DIRECTORY}&status=granted&account=adatum#tenants")
    assert found["not_consented"] == (3, f"/fleet?set={DIRECTORY}&status=not_consented&account=adatum#tenants")
    assert found["partial"] == (0, None)
    assert [(each.status, each.tenants) for each in directory.versions] == [("1", 2)]
    # Nobody ever consented to it.
    assert [count.tenants for count in activity.counts] == [0, 0, 0, 0, 0, 0, 5]


def test_a_tenant_shows_each_set_or_the_one_that_is_asked_for() -> None:
    grants = (
        FleetGrant(permission_set_id=DIRECTORY, status="update_available", version=0),
        FleetGrant(permission_set_id=ACTIVITY, status="of_tomorrow", version=1),
    )
    tenant = FleetTenant(account_id="northwind", tenant_id=CONTOSO, tenant_name="Contoso Ltd", grants=grants)
    (line,) = fleet_view(CATALOG, filters(), counts=None, tenants=[tenant], path="/fleet").tenants
    assert [(cell.status, cell.icon, cell.old) for cell in line.cells[:3]] == [
        ("update_available", "update", 0),
        ("of_tomorrow", "unverified", None),
        (None, "none", None),
    ]
    assert len(line.cells) == len(CATALOG.sets)
    view = fleet_view(CATALOG, filters(set=ACTIVITY), counts=None, tenants=[tenant], path="/fleet")
    assert [cell.status for cell in view.tenants[0].cells] == ["of_tomorrow"]
    assert view.columns == (CATALOG.sets[ACTIVITY].title,)
