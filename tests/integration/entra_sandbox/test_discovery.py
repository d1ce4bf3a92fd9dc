"""Discovery and keys, per tenant and under the shared names."""

from typing import Any

import httpx
import pytest

CONFIGURATION = "/v2.0/.well-known/openid-configuration"


def test_a_tenant_is_found_by_id_and_by_each_verified_domain(sandbox: Any, wire: httpx.Client, ids: Any) -> None:
    documents = [
        wire.get(f"{sandbox.login}/{name}{CONFIGURATION}").json()
        for name in (ids.contoso, ids.contoso.upper(), "contoso.com", "contoso.onmicrosoft.com")
    ]

    assert all(document == documents[0] for document in documents)
    assert documents[0]["issuer"] == f"{sandbox.login}/{ids.contoso}/v2.0"
    assert documents[0]["token_endpoint"] == f"{sandbox.login}/{ids.contoso}/oauth2/v2.0/token"
    assert documents[0]["authorization_endpoint"] == f"{sandbox.browser}/{ids.contoso}/oauth2/v2.0/authorize"


@pytest.mark.parametrize("name", ["organizations", "common"])
def test_the_issuer_of_a_shared_name_is_a_template(sandbox: Any, wire: httpx.Client, name: str) -> None:
    document = wire.get(f"{sandbox.login}/{name}{CONFIGURATION}").json()

    assert document["issuer"] == f"{sandbox.login}/{{tenantid}}/v2.0"
    assert document["token_endpoint"] == f"{sandbox.login}/{name}/oauth2/v2.0/token"


def test_keys_name_their_issuer_and_carry_their_certificate(sandbox: Any, wire: httpx.Client, ids: Any) -> None:
    keys = wire.get(f"{sandbox.login}/{ids.contoso}/discovery/v2.0/keys").json()["keys"]

    assert all(key["kid"] == key["x5t"] and key["x5c"] and key["use"] == "sig" and "alg" not in key for key in keys)
    issuers = [key["issuer"] for key in keys]
    assert f"{sandbox.login}/{{tenantid}}/v2.0" in issuers
    assert f"{sandbox.login}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0" in issuers


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("00000000-1111-2222-3333-444444444444", 90002),
        ("adatum.example", 90002),
        ("not_a_name", 900023),
        ("contoso", 900023),
    ],
)
def test_a_tenant_that_does_not_exist_is_refused(sandbox: Any, wire: httpx.Client, name: str, code: int) -> None:
    response = wire.get(f"{sandbox.login}/{name}{CONFIGURATION}")

    body = response.json()
    assert response.status_code == 400
    assert body["error_codes"] == [code]
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert "\r\nTrace ID: " in body["error_description"]
    assert body["trace_id"] in body["error_description"]
    assert set(body) == {
        *("error", "error_description", "error_codes", "timestamp", "trace_id", "correlation_id", "error_uri")
    }


def test_the_certificate_is_good_for_every_loopback_name(sandbox: Any, wire: httpx.Client) -> None:
    port = sandbox.login.rpartition(":")[2]

    for host in ("localhost", "127.0.0.1"):
        assert wire.get(f"https://{host}:{port}/readyz").json() == {"status": "ok"}


def test_nobody_gets_far_without_trusting_the_ca(sandbox: Any) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{sandbox.login}/readyz", trust_env=False)
