"""Which failed runs the screen still shows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consent_gateway.consent.attempts import Attempt, Phase
from consent_gateway.consent.failures import FAILURES, standing
from consent_gateway.errors import Kind
from consent_gateway.grants.grants import Entra
from support.console import CONTOSO, FABRIKAM, SETS, grant, packaged_catalog

NOW = datetime.now(UTC)
CATALOG = packaged_catalog()


def failed(kind: Kind | None = Kind.ENTRA_UNAVAILABLE, *, minutes: int = 5, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "id": f"attempt-{minutes}-and-more",
        "account_id": "northwind",
        "account_name": None,
        "subject": "s",
        "app_id": None,
        "permission_set_ids": (SETS[0],),
        "remaining": (SETS[0],),
        "tenant_id": CONTOSO,
        "session_hash": None,
        "phase": Phase.CLOSED,
        "failure": kind,
        "created_at": NOW - timedelta(minutes=minutes),
        "expires_at": NOW,
    }
    return Attempt(**(values | changes))


def test_the_latest_of_equal_failures_stands_for_all() -> None:
    found = standing([failed(minutes=9), failed(minutes=3), failed(Kind.WRONG_CLOUD, minutes=4)], [])
    assert [(one.kind, one.reference) for one in found] == [
        (Kind.ENTRA_UNAVAILABLE, "attempt-3-an"),
        (Kind.WRONG_CLOUD, "attempt-4-an"),
    ]


@pytest.mark.parametrize("kind", [None, Kind.DECLINED, Kind.EXPIRED, Kind.WITHDRAWN])
def test_what_somebody_chose_or_left_is_no_failure(kind: Kind | None) -> None:
    assert standing([failed(kind)], []) == ()
    assert kind not in FAILURES


@pytest.mark.parametrize(
    ("named", "where", "changes", "stands"),
    [
        (CONTOSO, CONTOSO, {}, False),
        (None, CONTOSO, {}, False),
        (CONTOSO, FABRIKAM, {}, True),
        (CONTOSO, CONTOSO, {"accepted_at": NOW - timedelta(minutes=30)}, True),
        (CONTOSO, CONTOSO, {"entra": Entra.GONE}, True),
    ],
)
def test_what_was_granted_since_is_put_right(
    named: str | None, where: str, changes: dict[str, Any], *, stands: bool
) -> None:
    granted = grant(CATALOG, where, SETS[0], **({"accepted_at": NOW} | changes))
    found = standing([failed(tenant_id=named)], [granted])
    assert bool(found) is stands
    both = failed(tenant_id=named, remaining=SETS[:2])
    assert len(standing([both], [granted])) == 1
