"""Who is let in: one check of a token removed is one test here failing."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import Depends, FastAPI

from shared import problems
from shared.auth import InvalidToken, KeySet, Principal, TokenVerifier, bearer, principal_of, require

ISSUER, AUDIENCE = "https://issuer.example", "consent-platform"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(key: rsa.RSAPrivateKey, key_id: str) -> dict[str, Any]:
    return {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": key_id, "alg": "RS256"}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    values = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "s",
        "iat": now,
        "exp": now + 60,
        "account_id": "northwind",
        "roles": ["viewer"],
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def token(key: rsa.RSAPrivateKey = KEY, key_id: str = "k1", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm="RS256", headers={"kid": key_id})


class Issuer:
    """The issuer's key endpoint; counts how often it is asked."""

    def __init__(self) -> None:
        self.keys = [jwk(KEY, "k1")]
        self.asked = 0
        self.down = False

    def __call__(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(503) if self.down else httpx.Response(200, json={"keys": self.keys})


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def verifier(issuer: Issuer) -> TokenVerifier:
    client = httpx.AsyncClient(transport=httpx.MockTransport(issuer))
    return TokenVerifier(issuer=ISSUER, audience=AUDIENCE, keys=KeySet(f"{ISSUER}/keys", client))


async def test_a_good_token_names_its_principal(verifier: TokenVerifier) -> None:
    principal = await verifier.principal(token())
    assert principal.account_id == "northwind"
    assert principal.roles == frozenset({"viewer"})


def _hmac_with_the_public_key() -> str:
    return jwt.encode(claims(), "a" * 64, algorithm="HS256", headers={"kid": "k1"})


@pytest.mark.parametrize(
    "forged",
    [
        lambda: token(OTHER_KEY),
        lambda: token(iss="https://other.example"),
        lambda: token(aud="console"),
        lambda: token(exp=int(time.time()) - 3600),
        lambda: token(exp=None),
        lambda: token(sub=None),
        lambda: token(nbf=int(time.time()) + 3600),
        lambda: token(key_id="k2"),
        lambda: jwt.encode(claims(), "", algorithm="none"),
        _hmac_with_the_public_key,
        lambda: "not.a.token",
        lambda: "",
        lambda: token(roles="admin"),
        lambda: token(account_id=None),
        lambda: token(account_id={"$ne": None}),
        lambda: token(roles=["app"]),
    ],
    ids=[
        "signature",
        "issuer",
        "audience",
        "expired",
        "no-expiry",
        "no-subject",
        "not-yet",
        "unknown-key",
        "alg-none",
        "alg-hmac",
        "garbage",
        "empty",
        "roles-not-a-list",
        "no-account",
        "account-not-a-string",
        "app-without-id",
    ],
)
async def test_a_token_that_fails_one_check_is_refused(verifier: TokenVerifier, forged: Callable[[], str]) -> None:
    with pytest.raises(InvalidToken):
        await verifier.principal(forged())


async def test_a_rotated_key_is_fetched_once_and_unknown_keys_cannot_flood_the_issuer(
    verifier: TokenVerifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("shared.auth.monotonic", lambda: now)
    await verifier.principal(token())
    for attempt in range(50):
        with pytest.raises(InvalidToken):
            await verifier.principal(token(OTHER_KEY, key_id=f"made-up-{attempt}"))
    assert issuer.asked == 1
    issuer.keys.append(jwk(OTHER_KEY, "k2"))
    now += 11
    await verifier.principal(token(OTHER_KEY, key_id="k2"))
    assert issuer.asked == 2


async def test_known_keys_outlive_an_issuer_that_is_down(
    verifier: TokenVerifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("shared.auth.monotonic", lambda: now)
    await verifier.principal(token())
    issuer.down, now = True, now + 3600
    await verifier.principal(token())


def test_roles_include_those_below_them() -> None:
    def person(role: str) -> Principal:
        return principal_of(claims(roles=[role]))

    assert [person("admin").may(role) for role in ("viewer", "operator", "admin")] == [True, True, True]
    assert [person("operator").may(role) for role in ("viewer", "operator", "admin")] == [True, True, False]
    assert [person("viewer").may(role) for role in ("viewer", "operator", "admin")] == [True, False, False]
    staff = principal_of(claims(roles=["staff"], account_id=None))
    assert staff.may("staff")
    assert not staff.may("viewer")
    assert not person("admin").may("staff")


async def test_http_answers_say_what_to_send(verifier: TokenVerifier, issuer: Issuer) -> None:
    app = FastAPI()
    problems.install(app)
    caller = bearer(verifier)

    @app.get("/x")
    async def x(principal: Principal = Depends(caller)) -> dict[str, str]:
        require(principal, "operator", "staff")
        return {}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        nobody = await client.get("/x")
        assert nobody.status_code == 401
        assert nobody.headers["www-authenticate"].startswith("Bearer")
        assert nobody.headers["content-type"] == "application/problem+json"
        issuer.down = True
        assert (await client.get("/x", headers={"authorization": f"Bearer {token()}"})).status_code == 503
        issuer.down = False
        assert (await client.get("/x", headers={"authorization": f"Bearer {token()}"})).status_code == 403
        allowed = await client.get("/x", headers={"authorization": f"bearer {token(roles=['admin'])}"})
        assert allowed.status_code == 200
