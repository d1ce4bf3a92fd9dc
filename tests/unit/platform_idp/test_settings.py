"""Settings are checked at once, and a wrong one is named without its value."""

import pytest

from platform_idp.people import app_subject, find_person, people
from platform_idp.settings import Settings, WrongSetting, describe, load


def test_the_issuer_follows_the_port_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP__PORT", "9001")
    assert load().issuer == "http://localhost:9001"
    monkeypatch.setenv("ISSUER", "https://id.visionone.example")
    assert load().issuer == "https://id.visionone.example"
    assert load().backchannel == "https://id.visionone.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP__PORT", "sesame"),
        ("LOG__LEVEL", "sesame"),
        ("ISSUER", "http://localhost:8091/sesame"),
        ("BACKCHANNEL_URL", "sesame"),
        ("CONSOLE__REDIRECT_URIS", '["sesame"]'),
        ("CONSOLE__REDIRECT_URIS", "[]"),
        ("APPS__IDS", "sesame"),
        ("TOKENS__CODE_SECONDS", "601"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSetting) as wrong:
        load()

    assert str(wrong.value).startswith(f"{name}: ")
    assert "\n" not in str(wrong.value)
    assert "sesame" not in str(wrong.value)


def test_access_and_id_tokens_cannot_share_an_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIENCE", "consent-console")
    with pytest.raises(WrongSetting, match="AUDIENCE must differ"):
        load()


def test_help_names_every_setting_and_no_secret() -> None:
    text = "\n".join(describe())

    assert "CONSOLE__REDIRECT_URIS" in text
    assert "demo-secret" not in text
    assert Settings().console.client_secret.get_secret_value() == "console-demo-secret"


def test_subjects_never_change() -> None:
    """A token of last week must mean the same person: these values are part of the demo's data."""
    assert {person.key: person.subject for person in people()}["northwind.operator"] == (
        "e8a7d34f-5972-5cd2-8383-283590f14e6d"
    )
    assert app_subject("identity-security") == "8f168a30-9b0c-500d-a3d5-1b4ff752a12f"
    assert len({person.subject for person in people()}) == 8


def test_people_are_found_by_their_key_only() -> None:
    for key, name in (("adatum.staff", "Vision One staff (Adatum)"), ("northwind.operator", "Northwind operator")):
        person = find_person(key)
        assert person is not None
        assert person.display_name == name
    for unknown in ("", "northwind", "northwind.app", "contoso.admin", "northwind.admin.x"):
        assert find_person(unknown) is None
