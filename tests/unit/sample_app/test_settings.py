"""Settings and knobs: checked at once, and a wrong one is named."""

import pytest

from sample_app.faults import Fault, FaultMode, Faults, parse_fault
from sample_app.pages import title_of
from sample_app.settings import WrongSetting, describe, load


@pytest.fixture(autouse=True)
def _only_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APP_ID", "PUBLIC_URL", "ISSUER", "NOTIFIER_URL", "GATEWAY_URL", "DATA_DIR", "CHECK_SECONDS"):
        monkeypatch.delenv(name, raising=False)


def test_the_public_url_follows_the_port_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP__PORT", "9002")
    assert load().webhook_url == "http://localhost:9002/webhooks"
    monkeypatch.setenv("PUBLIC_URL", "http://sample-app:8092/")
    assert load().webhook_url == "http://sample-app:8092/webhooks"


def test_it_stands_for_one_app_or_several(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().app_ids == ("identity-security",)
    monkeypatch.setenv("APP_ID", "identity-security,mobile-security,identity-security")
    assert load().app_ids == ("identity-security", "mobile-security")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP__PORT", "sesame"),
        ("LOG__LEVEL", "sesame"),
        ("APP_ID", "Sesame"),
        ("APP_ID", "search, sesame"),
        ("PUBLIC_URL", "sesame"),
        ("NOTIFIER_URL", "http://sesame?x=1"),
        ("RETENTION_DAYS", "1"),
        ("CHECK_SECONDS", "0"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSetting) as wrong:
        load()

    assert str(wrong.value).startswith(f"{name}: ")
    assert "\n" not in str(wrong.value)
    assert "sesame" not in str(wrong.value).lower()


def test_help_names_every_setting_and_no_secret() -> None:
    text = "\n".join(describe())

    assert "NOTIFIER_URL" in text
    assert "demo-secret" not in text


def test_apps_are_named_as_the_suite_names_them() -> None:
    assert title_of("email-and-collaboration-sensor") == "Email and Collaboration Sensor"


def test_a_fault_ends_after_its_number_of_pushes() -> None:
    faults = Faults()
    faults.set(parse_fault({"mode": "error", "times": "2"}))

    assert [faults.take().mode for _ in range(3)] == ["error", "error", "none"]
    faults.set(parse_fault({"mode": "hang", "seconds": "3"}))
    assert [faults.take() for _ in range(3)] == [Fault(FaultMode.HANG, 3.0)] * 3


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"mode": "explode"},
        {"mode": "hang", "seconds": "0"},
        {"mode": "hang", "seconds": "601"},
        {"mode": "hang", "seconds": "²"},
        {"mode": "error", "times": "0"},
        {"mode": "error", "times": "-1"},
        {"mode": "error", "times": "9" * 9_000},
    ],
)
def test_a_wrong_fault_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must be"):
        parse_fault(form)
