"""What the issuer accepts at ``/authorize``, and whom it tells about the rest."""

import pytest

from platform_idp.authorization import AuthorizationRequest, parse_authorization_request
from platform_idp.errors import AuthorizationRefused, UntrustedRequest
from platform_idp.settings import ConsoleSettings

CONSOLE = ConsoleSettings()
REDIRECT_URI = "http://localhost:8080/auth/callback"
GOOD = {
    "client_id": "consent-console",
    "redirect_uri": REDIRECT_URI,
    "response_type": "code",
    "scope": "openid profile",
    "state": "s1",
    "nonce": "n1",
    "code_challenge": "A" * 43,
    "code_challenge_method": "S256",
}


def parse(
    changes: dict[str, str | None] | None = None, *, extra: list[tuple[str, str]] | None = None
) -> AuthorizationRequest:
    values = {**GOOD, **(changes or {})}
    pairs = [(name, value) for name, value in values.items() if value is not None]
    return parse_authorization_request([*pairs, *(extra or [])], console=CONSOLE)


def test_a_good_request_is_read_in_full() -> None:
    asked = parse({"prompt": "login consent", "max_age": "60", "scope": "openid unknown offline_access"})

    assert asked.redirect_uri == REDIRECT_URI
    assert (asked.state, asked.nonce, asked.max_age) == ("s1", "n1", 60)
    assert asked.prompts == {"login", "consent"}
    assert asked.scopes == ("openid", "offline_access")


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "identity-security"},
        {"redirect_uri": None},
        {"redirect_uri": REDIRECT_URI + "/"},
        {"redirect_uri": REDIRECT_URI + "?x=1"},
        {"redirect_uri": "http://localhost:8080.evil.example/auth/callback"},
    ],
)
def test_an_unknown_client_or_address_gets_no_redirect(changes: dict[str, str | None]) -> None:
    with pytest.raises(UntrustedRequest):
        parse(changes)


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
def test_a_repeated_address_gets_no_redirect(name: str) -> None:
    with pytest.raises(UntrustedRequest):
        parse(extra=[(name, GOOD[name])])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "A" * 42}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "create"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1e3"}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://x.example"}, "request_uri_not_supported"),
    ],
)
def test_the_client_is_told_what_is_wrong(changes: dict[str, str | None], error: str) -> None:
    with pytest.raises(AuthorizationRefused) as refused:
        parse(changes)

    assert refused.value.error == error
    assert refused.value.redirect_uri == REDIRECT_URI
    assert refused.value.state == "s1"


def test_a_repeated_parameter_is_refused_and_a_repeated_state_is_not_echoed() -> None:
    with pytest.raises(AuthorizationRefused) as refused:
        parse(extra=[("state", "s2")])

    assert refused.value.error == "invalid_request"
    assert refused.value.state is None
