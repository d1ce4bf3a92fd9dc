"""App-only tokens: what they say, and how the token endpoint refuses."""

import base64
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

Ask = Callable[..., httpx.Response]
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def claims_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return jwt.decode(response.json()["access_token"], options={"verify_signature": False})


def refused(response: httpx.Response) -> tuple[int, str, int]:
    body = response.json()
    assert body["error_description"].startswith(f"AADSTS{body['error_codes'][0]}: ")
    return response.status_code, body["error"], body["error_codes"][0]


def test_a_token_has_the_shape_of_version_1(consented: Any, token_request: Ask, ids: Any) -> None:
    response = token_request()

    claims = claims_of(response)
    assert response.json()["token_type"] == "Bearer"
    assert response.json()["expires_in"] == 3599
    assert "refresh_token" not in response.json()
    assert claims["aud"] == "https://graph.microsoft.com"
    assert claims["iss"] == f"https://sts.windows.net/{ids.contoso}/"
    assert (claims["ver"], claims["idtyp"], claims["appidacr"]) == ("1.0", "app", "1")
    assert claims["exp"] - claims["iat"] == 3900
    assert "scp" not in claims


def test_a_token_without_any_granted_permission_is_issued_and_has_no_roles_at_all(
    consented: Any, token_request: Ask, admin: httpx.Client, ids: Any
) -> None:
    for value in ("Directory.Read.All", "Group.Read.All", "GroupMember.Read.All"):
        admin.delete(f"tenants/{ids.contoso}/apps/{ids.client}/app-roles/{ids.graph_app}/{value}").raise_for_status()

    assert "roles" not in claims_of(token_request())


def test_the_home_tenant_knows_the_app_without_any_consent(token_request: Ask, ids: Any) -> None:
    assert "roles" not in claims_of(token_request(ids.home))


def test_one_token_is_for_one_resource(person: Any, token_request: Ask, ids: Any) -> None:
    client = "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a05"
    person.adminconsent(ids.contoso, client_id=client).sign_in("admin@contoso.com").accept()

    def roles(scope: str) -> list[str]:
        return list(claims_of(token_request(client_id=client, scope=f"{scope}/.default"))["roles"])

    assert roles("00000003-0000-0ff1-ce00-000000000000") == ["Sites.FullControl.All"]
    assert "full_access_as_app" in roles("https://outlook.office365.com")
    assert len(roles("https://outlook.office365.com")) == 8


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"client_secret": "wrong"}, (401, "invalid_client", 7000215)),
        ({"client_secret": ""}, (401, "invalid_client", 7000216)),
        ({"client_id": ""}, (400, "invalid_request", 900144)),
        ({"grant_type": ""}, (400, "invalid_request", 900144)),
        ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
        ({"client_id": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4aff"}, (400, "unauthorized_client", 700016)),
        ({"scope": ""}, (400, "invalid_scope", 70011)),
        ({"scope": "https://graph.microsoft.com/User.Read.All"}, (400, "invalid_scope", 70011)),
        ({"scope": "https://graph.microsoft.com/.default openid"}, (400, "invalid_scope", 70011)),
        ({"scope": "https://unknown.example/.default"}, (400, "invalid_resource", 500011)),
        ({"scope": "https://aadrm.com/.default"}, (400, "invalid_resource", 650057)),
        ({"client_assertion": "nonsense", "client_assertion_type": JWT_BEARER}, (400, "invalid_request", 50027)),
    ],
)
def test_refusals(
    consented: Any, token_request: Ask, overrides: dict[str, str], expected: tuple[int, str, int]
) -> None:
    assert refused(token_request(**overrides)) == expected


@pytest.mark.parametrize(
    ("tenant", "expected"),
    [
        ("adatum.example", (400, "invalid_tenant", 90002)),
        ("nowhere", (400, "invalid_request", 900023)),
        ("organizations", (400, "invalid_request", 50059)),
        ("common", (400, "invalid_request", 50059)),
        ("consumers", (400, "invalid_request", 9001023)),
    ],
)
def test_tenants_that_no_app_can_have_a_token_for(
    token_request: Ask, tenant: str, expected: tuple[int, str, int]
) -> None:
    assert refused(token_request(tenant)) == expected


def test_an_app_that_is_not_present_is_missing_its_service_principal(
    token_request: Ask, admin: httpx.Client, ids: Any
) -> None:
    assert refused(token_request()) == (401, "invalid_client", 7000229)

    admin.patch("behaviour", json={"missing_service_principal": 700016}).raise_for_status()
    assert refused(token_request()) == (400, "unauthorized_client", 700016)


def test_removing_disabling_and_deleting_are_told_apart(
    consented: Any, token_request: Ask, admin: httpx.Client, ids: Any
) -> None:
    app = f"tenants/{ids.contoso}/apps/{ids.client}"
    admin.patch(app, json={"account_enabled": False}).raise_for_status()
    assert refused(token_request()) == (400, "unauthorized_client", 7000112)

    admin.patch(app, json={"account_enabled": True}).raise_for_status()
    assert claims_of(token_request())["roles"]

    admin.delete(app).raise_for_status()
    assert refused(token_request()) == (401, "invalid_client", 7000229)

    admin.delete(f"tenants/{ids.contoso}").raise_for_status()
    assert refused(token_request()) == (400, "invalid_tenant", 90002)


def test_a_missing_resource_is_told_by_its_name(
    consented: Any, token_request: Ask, admin: httpx.Client, ids: Any
) -> None:
    admin.patch(f"tenants/{ids.contoso}", json={"missing_resources": [ids.graph_app]}).raise_for_status()

    assert refused(token_request()) == (400, "invalid_resource", 500011)


def test_secrets_expire_and_overlap(consented: Any, token_request: Ask, admin: httpx.Client, ids: Any) -> None:
    first = admin.get(f"registrations/{ids.client}").json()["secrets"][0]["key_id"]
    admin.post(f"registrations/{ids.client}/secrets", json={"value": "second"}).raise_for_status()
    past = {"expires_at": "2020-01-01T00:00:00Z"}
    admin.patch(f"registrations/{ids.client}/secrets/{first}", json=past).raise_for_status()

    assert refused(token_request()) == (401, "invalid_client", 7000222)
    assert claims_of(token_request(client_secret="second"))["roles"]

    admin.delete(f"registrations/{ids.client}/credentials/{first}").raise_for_status()
    assert refused(token_request()) == (401, "invalid_client", 7000215)


def test_basic_credentials_are_form_encoded_before_they_are_joined(
    consented: Any, admin: httpx.Client, wire: httpx.Client, sandbox: Any, ids: Any
) -> None:
    admin.post(f"registrations/{ids.client}/secrets", json={"value": "a b:c+%"}).raise_for_status()
    pair = base64.b64encode(f"{ids.client}:a+b%3Ac%2B%25".encode()).decode()

    response = wire.post(
        f"{sandbox.login}/{ids.contoso}/oauth2/v2.0/token",
        data={"grant_type": "client_credentials", "scope": "https://graph.microsoft.com/.default"},
        headers={"Authorization": f"Basic {pair}"},
    )

    assert claims_of(response)["roles"]


def test_roles_become_visible_one_by_one_as_they_are_released(
    person: Any, token_request: Ask, admin: httpx.Client, ids: Any
) -> None:
    admin.patch(f"tenants/{ids.contoso}", json={"propagation": {"hold": True}}).raise_for_status()
    person.adminconsent(ids.contoso).sign_in("admin@contoso.com").accept()

    seen = [claims_of(token_request()).get("roles", [])]
    while admin.post(f"tenants/{ids.contoso}/release", json={"count": 1}).json()["released"]:
        seen.append(claims_of(token_request()).get("roles", []))

    assert [len(roles) for roles in seen] == [0, 1, 2, 3]


def test_the_service_principal_can_be_late_as_well(
    person: Any, token_request: Ask, admin: httpx.Client, ids: Any
) -> None:
    late = {"propagation": {"hold": True, "service_principal": True}}
    admin.patch(f"tenants/{ids.contoso}", json=late).raise_for_status()
    person.adminconsent(ids.contoso).sign_in("admin@contoso.com").accept()
    assert refused(token_request())[2] == 7000229
    assert person.authorize(ids.contoso, prompt="none").callback["error"] == "consent_required"

    admin.post(f"tenants/{ids.contoso}/release", json={}).raise_for_status()

    assert len(claims_of(token_request())["roles"]) == 3


def test_roles_come_by_themselves_after_the_delay(
    person: Any, token_request: Ask, admin: httpx.Client, ids: Any
) -> None:
    delay = {"propagation": {"delay_seconds": 0.2, "step_seconds": 0.2}}
    admin.patch(f"tenants/{ids.contoso}", json=delay).raise_for_status()
    person.adminconsent(ids.contoso).sign_in("admin@contoso.com").accept()

    deadline, counts = time.monotonic() + 20, [0]
    while counts[-1] < 3:
        assert time.monotonic() < deadline
        counts.append(len(claims_of(token_request()).get("roles", [])))

    assert counts == sorted(counts)


def test_an_older_token_keeps_its_roles_after_they_were_removed(
    consented: Any, token_request: Ask, graph_get: Callable[..., httpx.Response], admin: httpx.Client, ids: Any
) -> None:
    token = token_request().json()["access_token"]
    admin.delete(f"tenants/{ids.contoso}/apps/{ids.client}").raise_for_status()

    assert graph_get("/organization", token=token).status_code == 200


@pytest.fixture
def certificate(admin: httpx.Client, ids: Any) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """A key pair whose certificate is registered."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = self_signed(key, timedelta(days=1))
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    admin.post(f"registrations/{ids.client}/certificates", json={"pem": pem}).raise_for_status()
    return key, made


def self_signed(key: rsa.RSAPrivateKey, life: timedelta) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    start = datetime.now(UTC) - timedelta(days=30)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(datetime.now(UTC) + life)
        .sign(key, hashes.SHA256())
    )


def assertion(key: rsa.RSAPrivateKey, made: x509.Certificate, audience: str, client: str, **overrides: Any) -> str:
    now = int(time.time())
    claims = {"iss": client, "sub": client, "aud": audience, "exp": now + 600, "nbf": now, "jti": uuid.uuid4().hex}
    thumbprint = base64.urlsafe_b64encode(made.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
    return jwt.encode({**claims, **overrides}, key, algorithm="PS256", headers={"x5t#S256": thumbprint})


def test_a_certificate_takes_the_place_of_a_secret(
    consented: Any, certificate: Any, token_request: Ask, sandbox: Any, ids: Any
) -> None:
    key, made = certificate
    audience = f"{sandbox.login}/{ids.contoso}/oauth2/v2.0/token"

    def ask(signed: str) -> httpx.Response:
        return token_request(client_secret="", client_assertion=signed, client_assertion_type=JWT_BEARER)

    accepted = claims_of(ask(assertion(key, made, audience, ids.client)))
    assert accepted["appidacr"] == "2"
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    unregistered = self_signed(stranger, timedelta(days=1))
    other_tenant = audience.replace(ids.contoso, ids.fabrikam)
    past = int(time.time()) - 10
    assert refused(ask(assertion(stranger, made, audience, ids.client))) == (401, "invalid_client", 700027)
    assert refused(ask(assertion(stranger, unregistered, audience, ids.client))) == (401, "invalid_client", 700027)
    assert refused(ask(assertion(key, made, other_tenant, ids.client))) == (401, "invalid_client", 700023)
    assert refused(ask(assertion(key, made, audience, ids.client, exp=past))) == (401, "invalid_client", 700024)
    assert refused(ask(assertion(key, made, audience, ids.client, sub="other"))) == (401, "invalid_client", 700021)


def test_an_expired_certificate_is_refused(
    consented: Any, admin: httpx.Client, token_request: Ask, sandbox: Any, ids: Any
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = self_signed(key, timedelta(days=-1))
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    admin.post(f"registrations/{ids.client}/certificates", json={"pem": pem}).raise_for_status()
    signed = assertion(key, made, f"{sandbox.login}/{ids.contoso}/oauth2/v2.0/token", ids.client)

    response = token_request(client_secret="", client_assertion=signed, client_assertion_type=JWT_BEARER)

    assert refused(response) == (401, "invalid_client", 700027)
    assert "expired" in response.json()["error_description"]


def test_a_federated_assertion_takes_the_place_of_a_secret(
    consented: Any, admin: httpx.Client, token_request: Ask, ids: Any
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "k1"}
    trusted = {"issuer": "https://idp.example", "subject": "workload", "jwks": {"keys": [jwk]}}
    admin.post(f"registrations/{ids.client}/federated-credentials", json=trusted).raise_for_status()

    def ask(signer: rsa.RSAPrivateKey = key, **overrides: Any) -> httpx.Response:
        claims = {
            "iss": "https://idp.example",
            "sub": "workload",
            "aud": "api://AzureADTokenExchange",
            "exp": int(time.time()) + 60,
            **overrides,
        }
        signed = jwt.encode(claims, signer, algorithm="RS256", headers={"kid": "k1"})
        return token_request(client_secret="", client_assertion=signed, client_assertion_type=JWT_BEARER)

    assert claims_of(ask())["appidacr"] == "2"
    assert refused(ask(sub="other"))[2] == 70021
    assert refused(ask(aud="api://other"))[2] == 70021
    assert refused(ask(exp=int(time.time()) - 10))[2] == 700024
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert refused(ask(stranger))[2] == 50012


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({}, 70021),
        ({"iss": ["x"], "sub": {"a": 1}}, 70021),
        ({"iss": "https://idp.example", "sub": "workload", "aud": [{"a": 1}, 7]}, 70021),
        ({"iss": "https://idp.example", "sub": "workload", "aud": "api://AzureADTokenExchange"}, 50012),
        ({"iss": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01", "sub": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01"}, 700027),
    ],
)
def test_assertions_of_any_shape_are_refused_and_break_nothing(
    token_request: Ask, admin: httpx.Client, ids: Any, claims: dict[str, Any], code: int
) -> None:
    trusted = {"issuer": "https://idp.example", "subject": "workload", "jwks": {"keys": []}}
    admin.post(f"registrations/{ids.client}/federated-credentials", json=trusted).raise_for_status()
    signed = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "RS256", "typ": "JWT"}, claims, "signature")
    )

    response = token_request(client_secret="", client_assertion=signed, client_assertion_type=JWT_BEARER)

    assert refused(response)[2] == code


def test_bodies_of_any_shape_are_refused_and_break_nothing(wire: httpx.Client, sandbox: Any, ids: Any) -> None:
    url = f"{sandbox.login}/{ids.contoso}/oauth2/v2.0/token"
    bodies = [
        ({"Content-Type": "application/json"}, b"{}"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"\xff=%ff&grant_type=%00"),
        ({"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic /w=="}, b"grant_type=x"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--y"),
        ({"Content-Type": "multipart/form-data"}, b"nothing"),
    ]

    statuses = [wire.post(url, headers=headers, content=content).status_code for headers, content in bodies]

    assert all(status in {400, 401} for status in statuses), statuses


def test_tokens_can_be_made_opaque_and_still_open_graph(
    consented: Any, token_request: Ask, graph_get: Callable[..., httpx.Response], admin: httpx.Client
) -> None:
    admin.patch("behaviour", json={"opaque_access_tokens": True}).raise_for_status()

    token = token_request().json()["access_token"]

    with pytest.raises(jwt.DecodeError):
        jwt.decode(token, options={"verify_signature": False})
    assert graph_get("/organization", token=token).status_code == 200


def test_nobody_but_graph_can_check_the_signature_of_a_token_for_graph(
    consented: Any, token_request: Ask, wire: httpx.Client, sandbox: Any, ids: Any
) -> None:
    token = token_request().json()["access_token"]
    keys = jwt.PyJWKSet.from_dict(wire.get(f"{sandbox.login}/{ids.contoso}/discovery/v2.0/keys").json())

    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(
            token,
            keys[jwt.get_unverified_header(token)["kid"]],
            algorithms=["RS256"],
            audience="https://graph.microsoft.com",
        )


def test_the_clients_own_correlation_id_is_repeated(
    token_request: Ask, wire: httpx.Client, sandbox: Any, ids: Any
) -> None:
    response = wire.post(
        f"{sandbox.login}/{ids.contoso}/oauth2/v2.0/token", headers={"client-request-id": "my-own-id"}, data={}
    )

    assert response.json()["correlation_id"] == "my-own-id"
