"""Settings: the names, the defaults, and one readable line for a wrong one."""

import json

import pytest

from notifier.settings import STANDARD_WEBHOOKS_SCHEDULE, Settings, key_bytes
from shared.settings import load

GOOD = {
    "PUBLIC_URL": "http://localhost:8082",
    "KAFKA__BOOTSTRAP_SERVERS": "localhost:9092",
    "MONGO__URL": "mongodb://localhost",
    "MONGO__DATABASE": "notifier",
    "AUTH__ISSUER": "http://localhost:8091",
    "AUTH__AUDIENCE": "consent-platform",
    "AUTH__JWKS_URL": "http://localhost:8091/.well-known/jwks.json",
    "DELIVERY__SECRETS_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
}


def loaded(monkeypatch: pytest.MonkeyPatch, **changes: str) -> Settings:
    for name, value in {**GOOD, **changes}.items():
        monkeypatch.setenv(name, value)
    return load(Settings)


def test_defaults_are_safe_and_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = loaded(monkeypatch).delivery
    assert delivery.retry_schedule == STANDARD_WEBHOOKS_SCHEDULE
    assert delivery.allow_private_networks is False
    assert key_bytes(delivery.secrets_key) == b"0123456789abcdef0123456789abcdef"


def test_lists_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    previous = json.dumps([GOOD["DELIVERY__SECRETS_KEY"]])
    made = loaded(monkeypatch, DELIVERY__RETRY_SCHEDULE="[0.5, 5]", DELIVERY__PREVIOUS_SECRETS_KEYS=previous)
    assert list(made.delivery.retry_schedule) == [0.5, 5]
    assert len(made.delivery.previous_secrets_keys) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DELIVERY__SECRETS_KEY", "c2hvcnQ"),
        ("DELIVERY__SECRETS_KEY", "not base64 at all, but long enough to be a key!!"),
        ("DELIVERY__RETRY_SCHEDULE", "[-1]"),
        ("DELIVERY__RETRY_SCHEDULE", "5,300"),
        ("DELIVERY__LEASE_SECONDS", "10"),
        ("DELIVERY__CONCURRENCY", "0"),
        ("DELIVERY__PROXY_URL", "socks5://user:hidden@proxy.example:1080"),
        ("DELIVERY__PROXY_URL", "proxy.example:3128"),
        ("DELIVERY__PROXY_URL", "http://proxy.example:port"),
        ("RETENTION__EVENTS_SECONDS", "3600"),
        ("RETENTION__DELIVERIES_SECONDS", "604800"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_its_name_and_without_its_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        loaded(monkeypatch, **{name: value})
    line = capsys.readouterr().err
    assert name.partition("__")[0] in line
    assert "SECRETS_KEY" not in name or value not in line
