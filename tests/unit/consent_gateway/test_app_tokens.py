"""How our registrations authenticate: which refusals turn to the other credential, and what is remembered."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
import pytest

from consent_gateway.entra import app_tokens
from consent_gateway.entra.answers import EntraFailed
from consent_gateway.entra.app_tokens import AppTokens, _Signer
from consent_gateway.entra.credentials import Credentials, _certificate
from consent_gateway.entra.discovery import Discovery
from consent_gateway.settings import EntraSettings
from support.certificates import pem
from support.gateway import CLIENT_IDS, CONTOSO, HOME, SETS

CLIENT = CLIENT_IDS[SETS[0]]
ENDPOINT = "https://login.entra.test/one/oauth2/v2.0/token"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def claims(assertion: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    return decoded


def test_an_assertion_is_used_again_for_half_of_its_life(clock: list[float]) -> None:
    signer, credential = _Signer(), _certificate(pem(), "a.pem")
    first = signer.assertion(CLIENT, ENDPOINT, credential)
    said = claims(first)
    assert (said["aud"], said["iss"], said["sub"]) == (ENDPOINT, CLIENT, CLIENT)
    assert said["exp"] - said["iat"] == app_tokens.ASSERTION_SECONDS
    clock[0] += app_tokens.ASSERTION_SECONDS / 2 - 1
    assert signer.assertion(CLIENT, ENDPOINT, credential) == first
    clock[0] += 1
    assert signer.assertion(CLIENT, ENDPOINT, credential) != first


def test_another_endpoint_registration_or_certificate_has_one_of_its_own(clock: list[float]) -> None:
    signer, credential, successor = _Signer(), _certificate(pem(), "a.pem"), _certificate(pem(), "b.pem")
    made = {
        signer.assertion(CLIENT, ENDPOINT, credential),
        signer.assertion(CLIENT, ENDPOINT.replace("one", "two"), credential),
        signer.assertion(CLIENT_IDS[SETS[1]], ENDPOINT, credential),
        signer.assertion(CLIENT, ENDPOINT, successor),
    }
    assert len({claims(one)["jti"] for one in made}) == 4


def test_however_many_tenants_are_asked_few_assertions_and_keys_are_remembered(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_tokens, "ASSERTIONS", 3)
    monkeypatch.setattr(app_tokens, "KEYS", 2)
    signer, credential = _Signer(), _certificate(pem(), "a.pem")
    for number in range(10):
        signer.assertion(CLIENT, f"{ENDPOINT}/{number}", credential)
    assert [endpoint.rpartition("/")[2] for _, endpoint, _ in signer._assertions] == ["7", "8", "9"]
    for _ in range(3):
        signer.assertion(CLIENT, ENDPOINT, _certificate(pem(), "a.pem"))
    assert len(signer._keys) == 2


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        *((code, ["old", "new", "new"]) for code in (7000215, 7000222, 700027, 700030, 50012)),
        # Nobody knows that the other one would do better here.
        *((code, ["old", "old"]) for code in (7000229, 90002, 50196, 424242)),
    ],
)
async def test_words_for_a_refused_credential_turn_to_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, sent: list[str]
) -> None:
    (tmp_path / f"{CLIENT}.secret").write_text("old")
    (tmp_path / f"{CLIENT}.next.secret").write_text("new")
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(parse_qs(request.content.decode())["client_secret"][0])
        if seen[-1] == "new":
            return httpx.Response(200, json={"access_token": "token"})
        return httpx.Response(401, json={"error": "refused", "error_codes": [code]})

    async def token_endpoint(*_: object) -> str:
        return ENDPOINT

    monkeypatch.setattr(Discovery, "token_endpoint", token_endpoint)
    settings = EntraSettings(home_tenant_id=HOME, credentials_dir=tmp_path)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        tokens = AppTokens(Discovery(settings, client), client, Credentials(settings), deadline_seconds=5)
        for _ in range(2):
            with suppress(EntraFailed):
                await tokens.app_token(tenant_id=CONTOSO, client_id=CLIENT, scope="s")
    assert seen == sent
