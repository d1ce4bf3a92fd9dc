"""Authorization codes and refresh tokens at the token endpoint."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def code(consented: Any, ids: Any) -> Callable[..., str]:
    def get(**overrides: str) -> str:
        wanted = {"code_challenge": CHALLENGE, "code_challenge_method": "S256", "prompt": "none", **overrides}
        return str(consented.authorize(ids.contoso, **wanted).callback["code"])

    return get


@pytest.fixture
def redeem(token_request: Callable[..., httpx.Response], ids: Any) -> Callable[..., httpx.Response]:
    def ask(code: str, *, tenant: str = ids.contoso, **overrides: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": ids.proof,
            "code_verifier": VERIFIER,
            "scope": "",
            **overrides,
        }
        return token_request(tenant, **form)

    return ask


def refused(response: httpx.Response) -> tuple[int, str, int]:
    body = response.json()
    return response.status_code, body["error"], body["error_codes"][0]


def test_a_code_gives_tokens_once(code: Callable[..., str], redeem: Callable[..., httpx.Response]) -> None:
    given = code()

    body = redeem(given).json()
    assert body["id_token"]
    assert body["access_token"]
    assert body["scope"] == "User.Read openid profile"
    assert "refresh_token" not in body
    assert refused(redeem(given)) == (400, "invalid_grant", 54005)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"code_verifier": "w" * 50}, (400, "invalid_grant", 501481)),
        ({"code_verifier": ""}, (400, "invalid_grant", 50148)),
        ({"redirect_uri": "http://localhost:8080/consent/callback"}, (401, "invalid_client", 500112)),
        ({"client_secret": "wrong"}, (401, "invalid_client", 7000215)),
        ({"client_secret": ""}, (401, "invalid_client", 7000218)),
        ({"tenant": "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21"}, (400, "invalid_grant", 700005)),
        ({"client_id": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a02"}, (400, "invalid_grant", 70000)),
    ],
)
def test_a_code_is_good_for_its_own_request_alone(
    code: Callable[..., str],
    redeem: Callable[..., httpx.Response],
    overrides: dict[str, str],
    expected: tuple[int, str, int],
) -> None:
    given = code()

    assert refused(redeem(given, **overrides)) == expected
    assert redeem(given).status_code == 200


def test_what_is_not_a_code_is_malformed(consented: Any, redeem: Callable[..., httpx.Response]) -> None:
    assert refused(redeem("1.Anonsense")) == (400, "invalid_grant", 70000)
    assert refused(redeem("")) == (400, "invalid_request", 900144)


def test_a_code_of_organizations_is_redeemed_there_or_in_the_tenant(
    consented: Any, redeem: Callable[..., httpx.Response], ids: Any
) -> None:
    for tenant in ("organizations", ids.contoso):
        given = consented.authorize("organizations", prompt="none").callback["code"]
        assert redeem(given, tenant=tenant, code_verifier="").status_code == 200


def test_a_refresh_token_comes_with_offline_access_and_gives_new_tokens(
    code: Callable[..., str],
    redeem: Callable[..., httpx.Response],
    token_request: Callable[..., httpx.Response],
    admin: httpx.Client,
    ids: Any,
) -> None:
    refresh = redeem(code(scope="openid profile offline_access")).json()["refresh_token"]

    def renew(tenant: str = ids.contoso) -> httpx.Response:
        return token_request(tenant, grant_type="refresh_token", refresh_token=refresh, scope="openid")

    assert renew().json()["id_token"]
    assert refused(renew(ids.fabrikam)) == (400, "invalid_grant", 700005)
    admin.delete(f"tenants/{ids.contoso}/apps/{ids.client}").raise_for_status()
    assert refused(renew()) == (400, "invalid_grant", 65001)
