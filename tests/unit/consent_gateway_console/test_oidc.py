"""The provider's answers, each wrong in one way; the keys and tokens are real, only the wire is not."""

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from consent_gateway.settings import ConsoleSettings
from consent_gateway.web.oidc import Provider, ProviderUnavailable, SignInRefused

ISSUER = "https://issuer.test"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SETTINGS = ConsoleSettings.model_validate(
    {"issuer": ISSUER, "client_id": "console", "client_secret": "se:cret/ü", "session_secret": "s" * 32}
)
NUMBERS = KEY.public_key().public_numbers()
PUBLISHED = {
    "kty": "RSA",
    "kid": "k1",
    "alg": "RS256",
    "use": "sig",
    "n": base64.urlsafe_b64encode(NUMBERS.n.to_bytes(256, "big")).rstrip(b"=").decode(),
    "e": "AQAB",
}


def token(key: Any = KEY, *, algorithm: str = "RS256", without: tuple[str, ...] = (), **changes: Any) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": "console",
        "sub": "person",
        "iat": now,
        "exp": now + 300,
        "nonce": "NONCE",
        "account_id": "northwind",
        "roles": ["operator"],
        "name": "Northwind operator",
    }
    claims = {name: value for name, value in (claims | changes).items() if name not in without}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "k1"})


class Issuer:
    """Answers as a provider does; a test replaces what it wants to be wrong."""

    def __init__(self) -> None:
        self.discovery: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
            "end_session_endpoint": f"{ISSUER}/logout",
            "authorization_response_iss_parameter_supported": True,
        }
        self.tokens: Callable[[], httpx.Response] = lambda: httpx.Response(
            200, json={"access_token": "AT", "id_token": token()}
        )
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path == "/token":
            return self.tokens()
        if request.url.path == "/keys":
            return httpx.Response(200, json={"keys": [PUBLISHED]})
        return httpx.Response(200, json=self.discovery)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def provider(issuer: Issuer) -> Provider:
    client = httpx.AsyncClient(transport=httpx.MockTransport(issuer))
    return Provider(SETTINGS, redirect_uri="https://console.test/auth/callback", client=client)


async def redeem(provider: Provider, *, iss: str | None = ISSUER) -> Any:
    return await provider.redeem(code="CODE", code_verifier="VERIFIER", nonce="NONCE", iss=iss)


async def test_the_request_carries_state_nonce_and_challenge(provider: Provider) -> None:
    url = await provider.authorization_url(state="STATE", nonce="NONCE", code_verifier="VERIFIER")
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"VERIFIER").digest()).rstrip(b"=").decode()
    assert url.startswith(f"{ISSUER}/authorize?")
    assert query == {
        "response_type": "code",
        "client_id": "console",
        "redirect_uri": "https://console.test/auth/callback",
        "scope": "openid profile",
        "state": "STATE",
        "nonce": "NONCE",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }


async def test_a_code_becomes_a_person(provider: Provider, issuer: Issuer) -> None:
    identity = await redeem(provider)
    assert (identity.principal.subject, identity.principal.account_id) == ("person", "northwind")
    assert identity.principal.may("operator")
    assert (identity.name, identity.access_token) == ("Northwind operator", "AT")
    assert "AT" not in repr(identity)
    exchange = next(each for each in issuer.asked if each.url.path == "/token")
    assert parse_qs(exchange.content.decode())["code_verifier"] == ["VERIFIER"]
    sent = base64.b64decode(exchange.headers["authorization"].removeprefix("Basic ")).decode()
    assert sent == "console:se%3Acret%2F%C3%BC"


WRONG_ID_TOKENS: dict[str, Callable[[], str]] = {
    "another key": lambda: token(OTHER_KEY),
    "another issuer": lambda: token(iss="https://evil.test"),
    "another audience": lambda: token(aud="another"),
    "a further audience": lambda: token(aud=["console", "another"]),
    "expired": lambda: token(exp=int(time.time()) - 3600),
    "not yet valid": lambda: token(nbf=int(time.time()) + 3600),
    "another nonce": lambda: token(nonce="OTHER"),
    "no nonce": lambda: token(without=("nonce",)),
    "no expiry": lambda: token(without=("exp",)),
    "no subject": lambda: token(without=("sub",)),
    "no signature": lambda: token(None, algorithm="none"),
    "a shared secret": lambda: token("k" * 32, algorithm="HS256"),
    "a role without an account": lambda: token(without=("account_id",)),
    "roles of the wrong type": lambda: token(roles="operator"),
    "no token at all": lambda: "nonsense",
}


@pytest.mark.parametrize("wrong", WRONG_ID_TOKENS.values(), ids=WRONG_ID_TOKENS)
async def test_an_id_token_that_is_wrong_in_one_way_signs_nobody_in(
    provider: Provider, issuer: Issuer, wrong: Callable[[], str]
) -> None:
    issuer.tokens = lambda: httpx.Response(200, json={"access_token": "AT", "id_token": wrong()})
    with pytest.raises(SignInRefused):
        await redeem(provider)


@pytest.mark.parametrize("iss", [None, "https://evil.test", ISSUER + "/"])
async def test_an_answer_of_another_issuer_is_refused_before_the_code_goes_anywhere(
    provider: Provider, issuer: Issuer, iss: str | None
) -> None:
    with pytest.raises(SignInRefused):
        await redeem(provider, iss=iss)
    assert not [each for each in issuer.asked if each.url.path == "/token"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(400, json={"error": "invalid_grant"}), SignInRefused),
        (httpx.Response(401, json={"error": "invalid_client"}), SignInRefused),
        (httpx.Response(200, json=["not", "an", "object"]), SignInRefused),
        (httpx.Response(200, json={"access_token": "AT"}), SignInRefused),
        (httpx.Response(200, json={"access_token": "", "id_token": "x"}), SignInRefused),
        (httpx.Response(503, json={"error": "temporarily_unavailable"}), ProviderUnavailable),
        (httpx.Response(502, text="<html>"), ProviderUnavailable),
    ],
)
async def test_what_the_token_endpoint_may_say_instead(
    provider: Provider, issuer: Issuer, answer: httpx.Response, error: type[Exception]
) -> None:
    issuer.tokens = lambda: answer
    with pytest.raises(error):
        await redeem(provider)


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.test"},
        {"token_endpoint": "http://issuer.test/token"},
        {"jwks_uri": "ftp://issuer.test/keys"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": None},
    ],
)
async def test_a_discovery_document_that_cannot_be_relied_on_is_not_used(
    provider: Provider, issuer: Issuer, change: dict[str, Any]
) -> None:
    issuer.discovery |= change
    with pytest.raises(ProviderUnavailable):
        await provider.authorization_url(state="s", nonce="n", code_verifier="v")


async def test_the_document_is_read_once_and_where_it_was_told() -> None:
    issuer = Issuer()
    client = httpx.AsyncClient(transport=httpx.MockTransport(issuer))
    inside = "http://issuer:8091/.well-known/openid-configuration"
    provider = Provider(SETTINGS, redirect_uri="https://c.test", client=client, metadata_url=inside)
    await provider.authorization_url(state="s", nonce="n", code_verifier="v")
    assert await provider.authorization_origin() == ISSUER
    assert [str(each.url) for each in issuer.asked] == [inside]


async def test_sign_out_leads_to_the_provider_and_back(provider: Provider) -> None:
    url = await provider.end_session_url(id_token="ID", return_to="https://console.test/integrations")
    assert url is not None
    assert parse_qs(urlsplit(url).query)["id_token_hint"] == ["ID"]
    assert parse_qs(urlsplit(url).query)["post_logout_redirect_uri"] == ["https://console.test/integrations"]
