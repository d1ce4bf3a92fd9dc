"""The history's filters: days are whole days, and what nobody knows is left out."""

from collections.abc import Mapping
from datetime import date

import pytest

from consent_gateway.web.timeline import Timeline
from support.console import CONTOSO, SETS, packaged_catalog

CATALOG = packaged_catalog()


def of(query: Mapping[str, str] | None = None, *, staff: bool = False, **more: str) -> Timeline:
    asked = {**(query or {}), **more}
    return Timeline.of({name.rstrip("_"): value for name, value in asked.items()}, CATALOG, staff=staff)


def test_days_are_whole_and_both_are_in() -> None:
    asked = of(from_="2026-11-22", to="2026-11-23").asked
    assert asked == {"since": "2026-11-22T00:00:00Z", "until": "2026-11-24T00:00:00Z"}


def test_the_address_comes_back() -> None:
    found = of(tenant=CONTOSO.upper(), set=SETS[0], type="PermissionRevoked", from_="2026-11-22")
    assert found.asked == {
        "type": "PermissionRevoked",
        "permission_set_id": SETS[0],
        "since": "2026-11-22T00:00:00Z",
    }
    assert found.address("/h", cursor="c") == (
        f"/h?tenant={CONTOSO}&type=PermissionRevoked&set={SETS[0]}&from=2026-11-22&cursor=c"
    )
    assert found.any
    assert not of(tenant=CONTOSO).any
    assert Timeline().address("/h") == "/h"


@pytest.mark.parametrize(
    "query",
    [
        {"type": "Nothing"},
        {"from_": "yesterday"},
        {"from_": "20261122"},
        {"from_": "0001-01-01"},
        {"to": "9999-12-31"},
        {"to": "2026-02-30"},
        {"tenant": "x"},
        {"set": SETS[0]},  # without a tenant
        {"tenant": CONTOSO, "set": "nobody"},
        {"account": "adatum"},
    ],
)
def test_what_nobody_knows_is_left_out(query: dict[str, str]) -> None:
    assert not of(query).asked


def test_staff_name_the_account_of_a_tenant() -> None:
    assert of(staff=True, tenant=CONTOSO, account="adatum").asked == {"account_id": "adatum"}
    assert of(staff=True, last=date.max.isoformat()).asked == {}
