"""When the end of a credential is said: each threshold once, the nearest alone after a gap, successors counted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consent_gateway.entra.credential_expiry import Ending, alert_of, ending_of, moment, shown, with_home
from consent_gateway.entra.credentials import Held

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CLIENT = "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01"


def ending(days: float, **changes: Any) -> Ending:
    values: dict[str, Any] = {
        "registration": "one",
        "client_id": CLIENT,
        "credential": "one.pem",
        "kind": "certificate",
        "fingerprint": "abcd",
        "expires_at": NOW + timedelta(days=days),
    }
    return Ending(**(values | changes))


def held(days: float | None, **changes: Any) -> Held:
    values: dict[str, Any] = {
        "client_id": CLIENT,
        "name": "one.pem",
        "kind": "certificate",
        "fingerprint": "abcd",
        "expires_at": NOW + timedelta(days=days) if days is not None else None,
    }
    return Held(**(values | changes))


@pytest.mark.parametrize(
    ("days", "threshold"),
    [(90, None), (60.1, None), (60, 60), (31, 60), (30, 30), (8, 30), (7, 7), (1.5, 7), (1, 1), (0, 1), (-3, 1)],
)
def test_the_nearest_threshold_that_was_crossed_is_said(days: float, threshold: int | None) -> None:
    alert = alert_of(ending(days), NOW)
    assert (alert.id if alert else None) == (f"{CLIENT}:abcd:{threshold}" if threshold else None)


def test_another_credential_is_another_alert() -> None:
    first, second = alert_of(ending(5), NOW), alert_of(ending(5, fingerprint="ef01"), NOW)
    assert first is not None
    assert second is not None
    assert first.id != second.id


@pytest.mark.parametrize(("minutes", "said"), [(5, False), (-4, False), (-5, True)])
def test_a_federated_assertion_is_said_only_when_its_file_is_stale(minutes: float, said: bool) -> None:
    one = ending(minutes / 1440, kind="assertion")
    assert (alert_of(one, NOW) is not None) is said
    assert shown(one, NOW) is said


@pytest.mark.parametrize(("days", "seen"), [(31, False), (30, True), (-1, True)])
def test_the_screen_says_it_for_the_last_month(days: float, seen: bool) -> None:
    assert shown(ending(days), NOW) is seen


def test_what_counts_is_when_no_credential_is_left() -> None:
    found = ending_of("one", [held(5), held(400, name="one.next.pem", fingerprint="ef01")])
    assert found is not None
    assert (found.credential, found.days_left(NOW)) == ("one.next.pem", 400)
    assert ending_of("one", [held(None)]) is None


def test_the_home_tenant_knows_when_a_secret_ends_by_its_first_characters() -> None:
    application = {
        "passwordCredentials": [
            {"hint": "abc", "endDateTime": "2027-01-01T00:00:00Z"},
            {"hint": "abc", "endDateTime": "2026-12-01T00:00:00.1234567Z"},
            {"hint": "xyz", "endDateTime": "2026-11-24T00:00:00Z"},
            {"hint": "abc", "endDateTime": None},
            "strange",
        ]
    }
    secret = held(None, kind="secret", hint="abc")
    (found,) = with_home([secret], application)
    assert found.expires_at == moment("2026-12-01T00:00:00.123456Z")
    (configured,) = with_home([held(3, kind="secret", hint="abc")], application)
    assert configured.expires_at == NOW + timedelta(days=3)
    assert with_home([secret], None) == (secret,)
    assert with_home([held(None)], application) == (held(None),)
