"""Who is let in: one check of a token removed is one test here failing."""

import asyncio
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
from shared.auth import (
    InvalidToken,
    KeySet,
    KeysUnavailable,
    Principal,
    TokenVerifier,
    bearer,
    principal_of,
    require,
)

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
        self.keys: Any = [jwk(KEY, "k1")]
        self.asked = 0
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        await self.answers.wait()
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
        lambda: token(account_id="Northwind Traders"),
        lambda: token(account_id="northwind:-"),
        lambda: token(account_id="northwind\n"),
        lambda: token(account_id="n" * 64),
        lambda: token(app_id="../search", roles=["app"]),
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
        "account-with-spaces",
        "account-with-a-separator",
        "account-with-a-line-end",
        "account-too-long",
        "app-not-an-id",
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


async def test_an_issuer_that_hangs_holds_up_nobody_whose_key_is_known(
    verifier: TokenVerifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("shared.auth.monotonic", lambda: now)
    await verifier.principal(token())
    issuer.answers.clear()
    issuer.keys, now = [jwk(OTHER_KEY, "k2")], now + 3600
    for _ in range(20):
        await verifier.principal(token())
    unknown = asyncio.create_task(verifier.principal(token(OTHER_KEY, key_id="k2")))
    await verifier.principal(token())
    assert not unknown.done()
    issuer.answers.set()
    assert (await unknown).account_id == "northwind"
    assert issuer.asked == 2
    with pytest.raises(InvalidToken):
        await verifier.principal(token())


async def test_a_fetch_of_keys_has_an_end(
    verifier: TokenVerifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.auth.FETCH_SECONDS", 0.01)
    issuer.answers.clear()
    with pytest.raises(KeysUnavailable):
        await verifier.principal(token())


async def test_an_issuer_that_is_down_is_not_asked_once_per_request_and_soon_again(
    verifier: TokenVerifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("shared.auth.monotonic", lambda: now)
    issuer.down = True
    asked = await asyncio.gather(*(verifier.principal(token()) for _ in range(50)), return_exceptions=True)
    with pytest.raises(KeysUnavailable):
        await verifier.principal(token())
    assert {type(outcome) for outcome in asked} == {KeysUnavailable}
    assert issuer.asked == 1
    issuer.down, now = False, now + 1.5
    await verifier.principal(token())
    assert issuer.asked == 2


@pytest.mark.parametrize(
    "keys", [[], {}, None, "keys", [{"kty": "OCT?"}], ["k1"], [{"kty": "RSA", "kid": "k1", "n": "?", "e": "AQAB"}]]
)
async def test_keys_that_cannot_be_used_are_the_issuers_fault_and_not_the_callers(
    verifier: TokenVerifier, issuer: Issuer, keys: Any
) -> None:
    issuer.keys = keys
    with pytest.raises(KeysUnavailable):
        await verifier.principal(token())


@pytest.mark.parametrize("answer", [b"[]", b'"keys"', b"<html>", b"null", b"\xff"])
async def test_an_answer_that_is_no_key_set_is_never_a_defect_of_ours(answer: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=answer))
    keys = KeySet(f"{ISSUER}/keys", httpx.AsyncClient(transport=transport))
    with pytest.raises(KeysUnavailable):
        await TokenVerifier(issuer=ISSUER, audience=AUDIENCE, keys=keys).principal(token())


async def test_a_key_that_cannot_be_used_takes_none_of_the_others_away(verifier: TokenVerifier, issuer: Issuer) -> None:
    issuer.keys = [{"kty": "RSA", "kid": "k0", "n": "?", "e": "AQAB"}, None, *issuer.keys]
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


async def test_http_answers_say_what_to_send(
    verifier: TokenVerifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("shared.auth.monotonic", lambda: now)
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
        issuer.down, now = False, now + 1.5
        assert (await client.get("/x", headers={"authorization": f"Bearer {token()}"})).status_code == 403
        allowed = await client.get("/x", headers={"authorization": f"bearer {token(roles=['admin'])}"})
        assert allowed.status_code == 200
