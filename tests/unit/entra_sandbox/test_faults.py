"""Which trouble meets which request."""

from pathlib import Path

import pytest

from entra_sandbox.faults import Faults, NewFault
from entra_sandbox.flaws import Flaw
from entra_sandbox.store import Store

ONE, TWO = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
ALL = frozenset({"throttle", "unavailable", "hang", "reset", "error"})


@pytest.fixture
def faults(store: Store) -> Faults:
    return Faults(store)


def test_a_fault_meets_its_endpoint_tenant_and_client_alone(faults: Faults) -> None:
    faults.add(NewFault(kind="throttle", endpoint="token", tenant_id=ONE, client_id=TWO))

    assert faults.take("token", tenant_id=ONE, client_id=TWO, kinds=ALL)
    assert not faults.take("graph", tenant_id=ONE, client_id=TWO, kinds=ALL)
    assert not faults.take("token", tenant_id=TWO, client_id=TWO, kinds=ALL)
    assert not faults.take("token", tenant_id=ONE, client_id=ONE, kinds=ALL)
    assert not faults.take("token", tenant_id=ONE, client_id=TWO, kinds=frozenset({"error"}))


def test_counts_outlive_the_process(tmp_path: Path) -> None:
    first = Faults(Store(tmp_path / "x.sqlite3"))
    first.add(NewFault(kind="hang", remaining=2))
    first.arm(Flaw.EXPIRED, remaining=2)
    first.take("token", tenant_id=ONE, client_id=None, kinds=ALL)
    first.take_flaw(tenant_id=ONE, client_id=TWO)

    second = Faults(Store(tmp_path / "x.sqlite3"))

    assert second.take("token", tenant_id=ONE, client_id=None, kinds=ALL)
    assert not second.take("token", tenant_id=ONE, client_id=None, kinds=ALL)
    assert second.take_flaw(tenant_id=ONE, client_id=TWO) is Flaw.EXPIRED
    assert second.take_flaw(tenant_id=ONE, client_id=TWO) is None


def test_the_oldest_fault_goes_first(faults: Faults) -> None:
    for status in (500, 501):
        faults.add(NewFault(kind="unavailable", status=status, remaining=1))

    met = [faults.take("token", tenant_id=None, client_id=None, kinds=ALL) for _ in range(3)]

    assert [fault and fault.status for fault in met] == [500, 501, None]
