"""Settings, and what a start says about wrong ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from entra_sandbox import settings
from entra_sandbox.seed import SeedError, load
from entra_sandbox.server import CannotStart, SandboxServer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    def put(**values: str) -> None:
        for name in ("HTTP__PORT", "LOGIN__PORT", "GRAPH__PORT"):
            monkeypatch.setenv(name, "0")
        monkeypatch.setenv("DATA_DIR", str(tmp_path))
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP__PORT", "ninety"),
        ("HTTP__PORT", "65536"),
        ("LOGIN__PUBLIC_URL", "localhost:8443"),
        ("GRAPH__PUBLIC_URL", "https://localhost:8444/v1.0"),
        ("PUBLIC_URL", "ftp://localhost"),
        ("GATEWAY__PUBLIC_URLS", "localhost"),
        ("LOG__LEVEL", "loud"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    environment: Callable[..., None], capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    environment(**{variable: value})

    with pytest.raises(SystemExit) as ended:
        settings.load([])

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith(f"entra-sandbox: {variable}")
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "value", ["https://one.example, https://two.example/", '["https://one.example", "https://two.example"]']
)
def test_lists_are_json_or_have_commas(environment: Callable[..., None], value: str) -> None:
    environment(GATEWAY__PUBLIC_URLS=value)

    assert settings.load([]).gateway.public_urls == ("https://one.example", "https://two.example")


def test_the_command_line_goes_before_the_environment(environment: Callable[..., None]) -> None:
    environment(LOG__LEVEL="error")

    assert settings.load(["--log.level", "debug"]).log.level == "debug"


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.load(["--help"])

    shown = capsys.readouterr().out
    names = ("http.port", "login.public-url", "gateway.public-urls", "seed-path", "data-dir", "tls.hosts")
    assert ended.value.code == 0
    assert [name for name in names if f"--{name}" not in shown] == []


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SEED_PATH", "/nowhere.yaml", "SEED_PATH: /nowhere.yaml: cannot be read: No such file or directory"),
        ("DATA_DIR", "/proc/nowhere", "DATA_DIR: /proc/nowhere cannot be used: No such file or directory"),
        ("HTTP__HOST", "no.such.host.invalid", "HTTP__HOST: no.such.host.invalid cannot be resolved"),
    ],
)
def test_what_the_machine_cannot_give_is_named_too(
    environment: Callable[..., None], variable: str, value: str, message: str
) -> None:
    environment(**{variable: value})

    with pytest.raises(CannotStart) as caught:
        SandboxServer(settings.load([]))

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not YAML: "),
        ("tenants: []\nresources: []\nusers: [{user_principal_name: a@b.example}]", "users: no tenant has the domain"),
        ("tenants: [{id: x, display_name: X, domains: [x.example]}]\nresources: []", "id: "),
        ("tenants: []", "does not have the expected form: KeyError('resources')"),
        ("just a sentence", "does not have the expected form: "),
    ],
)
def test_a_wrong_seed_is_explained_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "seed.yaml"
    path.write_text(text)

    with pytest.raises(SeedError) as caught:
        load(path)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_registration_of_the_seed_asks_only_for_what_there_is(tmp_path: Path) -> None:
    registration = "{name: r, client_id: x, display_name: R, permissions: {Graph: {application: [Nothing.Read]}}}"
    resource = "{app_id: 00000003-0000-0000-c000-000000000000, name: Graph, identifiers: [g]}"
    path = tmp_path / "seed.yaml"
    path.write_text(f"tenants: []\nresources: [{resource}]\nregistrations: [{registration}]")

    with pytest.raises(SeedError, match=r"registrations: r: Graph has no application permission Nothing\.Read"):
        load(path)
