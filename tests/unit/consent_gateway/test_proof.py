"""The ID token is believed only when everything about it is right; each case breaks one thing."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from consent_gateway.catalog.file import load_catalog
from consent_gateway.consent.proof import (
    APPLICATION_ADMINISTRATOR,
    CLOUD_APPLICATION_ADMINISTRATOR,
    CONSUMER_TENANT,
    GLOBAL_ADMINISTRATOR,
    PRIVILEGED_ROLE_ADMINISTRATOR,
    Administrator,
    Expected,
    SigningKey,
    key_id,
    require_role,
    tenant_of,
    validate,
)
from consent_gateway.errors import Kind, Refused
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM

GLOBAL_READER = "f2ef992c-3afb-46b9-b7cf-a126ee74c451"
CLIENT = CLIENT_IDS["read-directory-data"]
ISSUER = f"https://login.test/{CONTOSO}/v2.0"
PERSON = "6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22"
NONCE = "a nonce"
EXPECTED = Expected(client_id=CLIENT, tenant_id=CONTOSO, issuer=ISSUER, nonce=NONCE)


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: rsa.RSAPrivateKey, issuer: str | None = "https://login.test/{tenantid}/v2.0") -> SigningKey:
    entry: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return SigningKey(key=jwt.PyJWK.from_dict({**entry, "alg": "RS256"}), issuer=issuer)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    valid = {
        "aud": CLIENT,
        "iss": ISSUER,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "nonce": hashlib.sha256(NONCE.encode()).hexdigest(),
        "tid": CONTOSO,
        "oid": PERSON,
        "name": "Contoso Administrator",
        "wids": [GLOBAL_ADMINISTRATOR],
    }
    return {name: value for name, value in (valid | changes).items() if value is not None}


@pytest.fixture
def check(private_key: rsa.RSAPrivateKey) -> Callable[..., Administrator]:
    def run(now: datetime | None = None, key: SigningKey | None = None, **changes: Any) -> Administrator:
        token = jwt.encode(claims(**changes), private_key, algorithm="RS256", headers={"kid": "k"})
        return validate(token, key=key or public(private_key), expected=EXPECTED, now=now or datetime.now(UTC))

    return run


def test_a_right_token_names_the_administrator(check: Callable[..., Administrator]) -> None:
    assert check() == Administrator(
        tenant_id=CONTOSO,
        object_id=PERSON,
        name="Contoso Administrator",
        roles=frozenset({GLOBAL_ADMINISTRATOR}),
    )


def other(tenant_id: str) -> dict[str, str]:
    return {"tid": tenant_id, "iss": ISSUER.replace(CONTOSO, tenant_id)}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"aud": FABRIKAM}, Kind.PROOF_FAILED),
        ({"aud": [CLIENT, FABRIKAM]}, Kind.PROOF_FAILED),
        ({"aud": None}, Kind.PROOF_FAILED),
        ({"iss": "https://evil.test/v2.0"}, Kind.PROOF_FAILED),
        ({"iss": ISSUER.replace(CONTOSO, FABRIKAM)}, Kind.PROOF_FAILED),
        ({"iss": None}, Kind.PROOF_FAILED),
        ({"exp": 1}, Kind.PROOF_FAILED),
        ({"exp": None}, Kind.PROOF_FAILED),
        ({"exp": "soon"}, Kind.PROOF_FAILED),
        ({"exp": True}, Kind.PROOF_FAILED),
        ({"iat": None}, Kind.PROOF_FAILED),
        ({"iat": True}, Kind.PROOF_FAILED),
        ({"iat": 9_999_999_999}, Kind.PROOF_FAILED),
        ({"nbf": 9_999_999_999}, Kind.PROOF_FAILED),
        ({"nonce": NONCE}, Kind.PROOF_FAILED),
        ({"nonce": None}, Kind.PROOF_FAILED),
        ({"nonce": ["a"]}, Kind.PROOF_FAILED),
        ({"tid": FABRIKAM}, Kind.PROOF_FAILED),
        ({"tid": None}, Kind.PROOF_FAILED),
        ({"tid": "contoso.com"}, Kind.PROOF_FAILED),
        ({"tid": "{tenantid}"}, Kind.PROOF_FAILED),
        (other(FABRIKAM), Kind.OTHER_TENANT),
        (other(CONSUMER_TENANT), Kind.PERSONAL_ACCOUNT),
        ({"oid": None}, Kind.PROOF_FAILED),
        ({"oid": "admin@contoso.com"}, Kind.PROOF_FAILED),
    ],
)
def test_a_wrong_claim_proves_nothing(check: Callable[..., Administrator], changes: dict[str, Any], kind: Kind) -> None:
    with pytest.raises(Refused) as refused:
        check(**changes)
    assert refused.value.kind is kind


def test_a_token_is_good_in_its_time_by_the_callers_clock(check: Callable[..., Administrator]) -> None:
    now = datetime.now(UTC)
    assert check(now=now + timedelta(seconds=3600 + 50)).tenant_id == CONTOSO
    for moment in (now + timedelta(seconds=3600 + 70), now - timedelta(seconds=70)):
        with pytest.raises(Refused, match="proof_failed"):
            check(now=moment)


def test_the_key_must_be_one_for_the_tokens_issuer(
    check: Callable[..., Administrator], private_key: rsa.RSAPrivateKey
) -> None:
    for issuer in (ISSUER, None):
        assert check(key=public(private_key, issuer)).object_id == PERSON
    for issuer in (ISSUER.replace(CONTOSO, FABRIKAM), "https://login.test/{tenantid}/v1.0", ""):
        with pytest.raises(Refused, match="issuer of the key"):
            check(key=public(private_key, issuer))


def test_another_key_another_algorithm_and_no_signature_prove_nothing(private_key: rsa.RSAPrivateKey) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    tokens = [
        jwt.encode(claims(), stranger, algorithm="RS256", headers={"kid": "k"}),
        jwt.encode(claims(), "", algorithm="none", headers={"kid": "k"}),
        _signed_by_hmac(pem),
        jwt.encode(claims(), private_key, algorithm="PS256", headers={"kid": "k"}),
    ]
    for token in tokens:
        with pytest.raises(Refused, match="proof_failed"):
            validate(token, key=public(private_key), expected=EXPECTED, now=datetime.now(UTC))


def test_an_issuer_that_names_no_tenant_proves_none(private_key: rsa.RSAPrivateKey) -> None:
    """A discovery document of all tenants would vouch for any of them."""
    common = "https://login.test/common/v2.0"
    token = jwt.encode(claims(iss=common), private_key, algorithm="RS256", headers={"kid": "k"})
    with pytest.raises(Refused, match="iss"):
        validate(
            token,
            key=public(private_key, None),
            expected=replace(EXPECTED, issuer=common),
            now=datetime.now(UTC),
        )


@pytest.mark.parametrize("name", [None, 7, ["Contoso"], {}])
def test_a_name_that_is_none_is_left_out(check: Callable[..., Administrator], name: Any) -> None:
    assert check(name=name).name is None


def _signed_by_hmac(secret: bytes) -> str:
    """The classic confusion: the public key as an HMAC secret (PyJWT itself refuses to make it)."""
    parts = [json.dumps({"alg": "HS256", "kid": "k"}).encode(), json.dumps(claims()).encode()]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")
    return (signed + b"." + signature).decode()


@pytest.mark.parametrize("token", ["", "a.b.c", "not a token", "e30.e30."])
def test_what_is_no_token_has_no_key(token: str) -> None:
    with pytest.raises(Refused, match="proof_failed"):
        key_id(token)


@pytest.mark.parametrize(
    "header",
    [{"alg": "PS256", "kid": "k"}, {"alg": "HS256", "kid": "k"}, {"alg": "none", "kid": "k"}, {"alg": "RS256"}],
)
def test_a_token_of_another_algorithm_or_without_a_key_id_has_no_key(header: dict[str, str]) -> None:
    """Nobody is asked for keys because of it."""
    parts = (json.dumps(header).encode(), json.dumps(claims()).encode(), b"signature")
    with pytest.raises(Refused, match="algorithm or key id"):
        key_id(".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts))


GRAPH_ROLES = "read-directory-data"


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        ({GLOBAL_ADMINISTRATOR}, None),
        ({PRIVILEGED_ROLE_ADMINISTRATOR}, None),
        ({APPLICATION_ADMINISTRATOR}, Kind.NOT_ADMINISTRATOR),
        ({CLOUD_APPLICATION_ADMINISTRATOR}, Kind.NOT_ADMINISTRATOR),
        ({GLOBAL_READER}, Kind.NOT_ADMINISTRATOR),
        (set(), Kind.NOT_ADMINISTRATOR),
        (None, Kind.ROLE_NOT_PROVEN),
    ],
)
def test_graph_application_roles_need_a_global_or_privileged_role_administrator(
    roles: set[str] | None, kind: Kind | None
) -> None:
    catalog = load_catalog(None, CLIENT_IDS)
    administrator = Administrator(
        tenant_id=CONTOSO, object_id=PERSON, name=None, roles=frozenset(roles) if roles is not None else None
    )
    if kind is None:
        require_role(administrator, [catalog.sets[GRAPH_ROLES]])
        return
    with pytest.raises(Refused) as refused:
        require_role(administrator, [catalog.sets[GRAPH_ROLES]])
    assert refused.value.kind is kind


def test_what_the_sets_ask_for_decides_which_administrator_it_takes() -> None:
    """Application administrators may consent to everything but Microsoft Graph application roles."""
    catalog = load_catalog(None, CLIENT_IDS)
    with_graph_roles = catalog.sets[GRAPH_ROLES]
    scopes = tuple(one for one in with_graph_roles.permissions if one.type == "delegated")
    elsewhere = replace(scopes[0], type="application", resource=replace(scopes[0].resource, app_id=FABRIKAM))
    assert scopes
    for permissions in (scopes, (elsewhere,), (*scopes, elsewhere)):
        without = replace(with_graph_roles, permissions=permissions)
        for role in (APPLICATION_ADMINISTRATOR, CLOUD_APPLICATION_ADMINISTRATOR, GLOBAL_ADMINISTRATOR):
            one = Administrator(tenant_id=CONTOSO, object_id=PERSON, name=None, roles=frozenset({role}))
            require_role(one, [without])
        for role in (GLOBAL_READER, FABRIKAM):
            one = Administrator(tenant_id=CONTOSO, object_id=PERSON, name=None, roles=frozenset({role}))
            with pytest.raises(Refused, match="not_administrator"):
                require_role(one, [without])
        one = Administrator(
            tenant_id=CONTOSO, object_id=PERSON, name=None, roles=frozenset({APPLICATION_ADMINISTRATOR})
        )
        for both in ([without, with_graph_roles], [with_graph_roles, without]):
            with pytest.raises(Refused, match="not_administrator"):
                require_role(one, both)


def test_a_role_that_is_not_said_names_what_to_set() -> None:
    catalog = load_catalog(None, CLIENT_IDS)
    silent = Administrator(tenant_id=CONTOSO, object_id=PERSON, name=None, roles=None)
    with pytest.raises(Refused) as refused:
        require_role(silent, [catalog.sets[GRAPH_ROLES]])
    assert "set groupMembershipClaims to DirectoryRole" in refused.value.detail


def test_ids_are_kept_in_lower_case(check: Callable[..., Administrator]) -> None:
    """Microsoft compares GUIDs without regard to case."""
    said = check(tid=CONTOSO.upper(), oid=PERSON.upper(), wids=[GLOBAL_ADMINISTRATOR.upper()])
    assert (said.tenant_id, said.object_id, said.roles) == (CONTOSO, PERSON, frozenset({GLOBAL_ADMINISTRATOR}))


@pytest.mark.parametrize(
    ("tid", "expected"),
    [
        (CONTOSO, CONTOSO),
        (CONTOSO.upper(), CONTOSO),
        (CONSUMER_TENANT, Kind.PERSONAL_ACCOUNT),
        ("x", Kind.PROOF_FAILED),
    ],
)
def test_a_token_says_which_tenants_keys_it_is_to_be_held_against(
    private_key: rsa.RSAPrivateKey, tid: str, expected: str
) -> None:
    token = jwt.encode(claims(tid=tid), private_key, algorithm="RS256", headers={"kid": "k"})
    if expected == CONTOSO:
        assert tenant_of(token) == CONTOSO
        return
    with pytest.raises(Refused) as refused:
        tenant_of(token)
    assert refused.value.kind is expected


@pytest.mark.parametrize("wids", [None, "62e90394-69f5-4237-9190-012177145e10", [1], {}])
def test_roles_that_cannot_be_read_are_not_proven_rather_than_absent(
    check: Callable[..., Administrator], wids: Any
) -> None:
    assert check(wids=wids).roles is None
