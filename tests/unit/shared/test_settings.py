"""A wrong setting ends the process with one readable line that names the variable and not its value."""

import pytest

from shared.settings import ServiceSettings, load

GOOD = {
    "PUBLIC_URL": "http://localhost:8080/",
    "KAFKA__BOOTSTRAP_SERVERS": "localhost:9092",
    "MONGO__URL": "mongodb://user:hunter2@localhost/?replicaSet=rs0",
    "MONGO__DATABASE": "x",
    "AUTH__ISSUER": "http://localhost:8091",
    "AUTH__AUDIENCE": "consent-platform",
    "AUTH__JWKS_URL": "http://localhost:8091/.well-known/jwks.json",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def test_settings_are_read_from_nested_variables() -> None:
    settings = load(ServiceSettings)
    assert settings.kafka.bootstrap_servers == "localhost:9092"
    assert settings.public_url == "http://localhost:8080"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HTTP__PORT", "eighty", "HTTP__PORT: Input should be a valid integer"),
        ("HTTP__PORT", "70000", "HTTP__PORT: Input should be less than or equal to 65535"),
        ("PUBLIC_URL", "localhost", "PUBLIC_URL: must start with http:// or https://"),
        ("MONGO__DRIVER", "mysql", "MONGO__DRIVER: Input should be 'motor' or 'pymongo'"),
        ("AUTH__AUDIENCE", None, "AUTH__AUDIENCE: is not set"),
        ("KAFKA__BOOTSTRAP_SERVERS", None, "KAFKA__BOOTSTRAP_SERVERS: is not set"),
        ("PUBLIC_URL", "", "PUBLIC_URL: is not set"),
        ("MONGO__URL", "localhost:27017", "MONGO__URL: is not a connection string like mongodb://"),
        ("MONGO__URL", "mongodb://user:pa/ss@localhost", "MONGO__URL: is not a connection string like mongodb://"),
        ("MONGO__URL", "mongodb://localhost:port", "MONGO__URL: is not a connection string like mongodb://"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str | None, said: str
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as stop:
        load(ServiceSettings)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "KAFKA__SASL_PASSWORD": "p"},
            "KAFKA__SASL_USERNAME: is needed where KAFKA__SECURITY_PROTOCOL is SASL_SSL",
        ),
        (
            {"KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA__SASL_USERNAME": "u"},
            "KAFKA__SASL_PASSWORD: is needed where KAFKA__SECURITY_PROTOCOL is SASL_PLAINTEXT",
        ),
        (
            {"KAFKA__SECURITY_PROTOCOL": "SSL", "KAFKA__SSL_CA_FILE": "/nowhere/ca.pem"},
            "KAFKA__SSL_CA_FILE: is not a readable PEM file of certificates (FileNotFoundError)",
        ),
        (
            {"KAFKA__SECURITY_PROTOCOL": "SSL", "KAFKA__SSL_CA_FILE": __file__},
            "KAFKA__SSL_CA_FILE: is not a readable PEM file of certificates (SSLError)",
        ),
    ],
)
def test_what_a_protocol_of_kafka_needs_is_asked_for_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        load(ServiceSettings)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize("url", ["mongodb+srv://user:pass@cluster.example.com/", "mongodb://a:1,b:2/?replicaSet=rs0"])
def test_a_connection_string_of_any_form_is_accepted_without_asking_the_network(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("MONGO__URL", url)
    assert load(ServiceSettings).mongo.url.get_secret_value() == url


def test_an_issuer_is_kept_to_the_last_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """`iss` is compared exactly, and the issuers of Auth0 and of Entra's version 1 end in a slash."""
    monkeypatch.setenv("AUTH__ISSUER", "https://northwind.example/")
    monkeypatch.setenv("AUTH__JWKS_URL", "https://northwind.example/keys/")
    settings = load(ServiceSettings)
    assert settings.auth.issuer == "https://northwind.example/"
    assert settings.auth.jwks_url == "https://northwind.example/keys/"


def test_the_value_of_a_wrong_setting_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA__SASL_MECHANISM", "pa55word-in-the-wrong-place")
    monkeypatch.setenv("AUTH__ISSUER", "pa55word-too")
    with pytest.raises(SystemExit):
        load(ServiceSettings)
    assert "pa55word" not in capsys.readouterr().err
