"""Each flaw of an ID token breaks the check it is named after and no other.

The checks here are those of the Microsoft identity platform ("Access tokens", "Claims validation"), each made on its
own, so that a platform which leaves one of them out is sure to accept the token with that flaw.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import jwt
import pytest

CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
GLOBAL_ADMINISTRATOR = "62e90394-69f5-4237-9190-012177145e10"
TENANT_CHECKS = {"tid is a GUID", "tid is the bound tenant", "iss belongs to tid"}

EXPECTED = {
    "wrong_signature": {"signature"},
    "unknown_key": {"key is published"},
    "alg_none": {"alg is RS256"},
    "alg_hs256": {"alg is RS256"},
    "key_of_other_issuer": {"key belongs to iss"},
    "wrong_audience": {"aud is the client"},
    "missing_audience": {"aud is the client"},
    "wrong_issuer": {"iss belongs to tid"},
    "missing_issuer": {"iss belongs to tid", "key belongs to iss"},
    "issuer_tenant_mismatch": {"iss belongs to tid"},
    "expired": {"exp is ahead"},
    "missing_expiry": {"exp is ahead"},
    "not_yet_valid": {"nbf is over"},
    "wrong_nonce": {"nonce"},
    "missing_nonce": {"nonce"},
    "other_tenant": {"tid is the bound tenant"},
    # Under /organizations no tenant is bound, and this is the only check that is left.
    "consumer_tenant": {"tid is the bound tenant", "tid is not that of personal accounts"},
    "missing_tenant": TENANT_CHECKS | {"key belongs to iss"},
    "tenant_not_a_guid": {"tid is a GUID", "tid is the bound tenant"},
    "missing_object_id": {"oid"},
    "missing_wids": {"wids has an administrator"},
    "wids_without_admin": {"wids has an administrator"},
}


def failed_checks(token: str, keys: list[dict[str, Any]], template: str, *, client: str, tenant: str) -> set[str]:
    header = jwt.get_unverified_header(token)
    claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    key = next((item for item in keys if item["kid"] == header.get("kid")), None)
    tid, issuer, now = str(claims.get("tid")), claims.get("iss"), time.time()
    # What the key says of itself is compared with the issuer of the token.
    in_issuer = str(issuer).split("/")[-2] if issuer and "tid" in claims else None
    passed = {
        "alg is RS256": header["alg"] == "RS256",
        "key is published": key is not None,
        "signature": header["alg"] != "RS256" or key is None or verifies(token, key),
        "key belongs to iss": key is None or key["issuer"].replace("{tenantid}", str(in_issuer)) == issuer,
        "aud is the client": claims.get("aud") == client,
        "iss belongs to tid": issuer == template.replace("{tenantid}", tid),
        "tid is a GUID": is_guid(tid),
        "tid is the bound tenant": tid == tenant or not is_bound(tenant),
        "tid is not that of personal accounts": tid != CONSUMERS,
        "exp is ahead": claims.get("exp", 0) > now,
        "nbf is over": claims.get("nbf", 0) <= now,
        "nonce": claims.get("nonce") == "n-1",
        "oid": is_guid(str(claims.get("oid"))),
        "wids has an administrator": GLOBAL_ADMINISTRATOR in claims.get("wids", ()),
    }
    return {name for name, good in passed.items() if not good}


def verifies(token: str, key: dict[str, Any]) -> bool:
    try:
        jwt.decode(
            token,
            jwt.PyJWK(key, algorithm="RS256"),
            algorithms=["RS256"],
            options={"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except jwt.InvalidSignatureError:
        return False
    return True


def is_guid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def is_bound(tenant: str) -> bool:
    return tenant != "organizations"


@pytest.fixture
def check(
    consented: Any, token_request: Callable[..., httpx.Response], wire: httpx.Client, sandbox: Any, ids: Any
) -> Callable[..., set[str]]:
    """Signs in and says which checks the ID token fails."""

    def sign_in(tenant: str = ids.contoso) -> set[str]:
        code = consented.authorize(tenant, prompt="none").callback["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": ids.proof, "scope": ""}
        token = token_request(**form).json()["id_token"]
        keys = wire.get(f"{sandbox.login}/{tenant}/discovery/v2.0/keys").json()["keys"]
        template = f"{sandbox.login}/{{tenantid}}/v2.0"
        return failed_checks(token, keys, template, client=ids.client, tenant=tenant)

    return sign_in


def test_every_flaw_has_its_expectation(admin: httpx.Client) -> None:
    schema = httpx.get(f"{str(admin.base_url).partition('/sandbox')[0]}/sandbox/openapi.json").json()

    assert set(schema["components"]["schemas"]["Flaw"]["enum"]) == set(EXPECTED)


@pytest.mark.parametrize("flaw", EXPECTED)
def test_a_flaw_breaks_its_check_once(check: Callable[..., set[str]], admin: httpx.Client, flaw: str) -> None:
    admin.post("token-flaws", json={"flaw": flaw}).raise_for_status()

    assert check() == EXPECTED[flaw]
    assert check() == set()


def test_personal_accounts_are_the_only_thing_wrong_where_no_tenant_is_bound(
    check: Callable[..., set[str]], admin: httpx.Client
) -> None:
    admin.post("token-flaws", json={"flaw": "consumer_tenant"}).raise_for_status()

    assert check("organizations") == {"tid is not that of personal accounts"}


def test_flaws_can_be_for_one_tenant_and_client_and_last_until_they_are_disarmed(
    check: Callable[..., set[str]], admin: httpx.Client, ids: Any
) -> None:
    admin.post("token-flaws", json={"flaw": "expired", "tenant_id": ids.fabrikam}).raise_for_status()
    other = "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a02"
    admin.post("token-flaws", json={"flaw": "expired", "client_id": other}).raise_for_status()
    assert check() == set()

    lasting = {"flaw": "missing_wids", "remaining": None, "tenant_id": ids.contoso, "client_id": ids.client}
    admin.post("token-flaws", json=lasting).raise_for_status()
    assert [check(), check()] == [{"wids has an administrator"}] * 2

    admin.delete("token-flaws").raise_for_status()
    assert check() == set()


@pytest.mark.parametrize(("claims", "there"), [("None", False), ("SecurityGroup", False), ("All", True)])
def test_wids_come_only_where_the_registration_asks_for_directory_roles(
    check: Callable[..., set[str]], admin: httpx.Client, ids: Any, claims: str, *, there: bool
) -> None:
    admin.patch(f"registrations/{ids.client}", json={"group_membership_claims": claims}).raise_for_status()

    assert ("wids has an administrator" not in check()) is there


@pytest.mark.parametrize("keep", [True, False])
def test_rotated_keys_are_published_before_they_sign_and_kept_only_if_asked_for(
    check: Callable[..., set[str]], admin: httpx.Client, wire: httpx.Client, sandbox: Any, ids: Any, *, keep: bool
) -> None:
    def kids() -> list[str]:
        keys = wire.get(f"{sandbox.login}/{ids.contoso}/discovery/v2.0/keys").json()["keys"]
        return [key["kid"] for key in keys]

    current, following = kids()[:2]
    admin.post("signing-keys/rotate", json={"keep_previous": keep}).raise_for_status()

    assert kids()[0] == following
    assert (current in kids()) is keep
    assert check() == set()
