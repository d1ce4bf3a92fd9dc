"""Client authentication at the token endpoint: secret, certificate assertion (RFC 7523), federated credential."""

import base64
import json
from datetime import datetime
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from entra_sandbox.errors import EntraError
from entra_sandbox.model import FederatedCredential, Registration

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ALGORITHMS = ("RS256", "PS256")


def authenticate(registration: Registration, form: dict[str, str], *, audiences: tuple[str, ...], now: datetime) -> str:
    """Accepts the client; returns how it proved itself, as `appidacr` has it: `1` by a secret, `2` by an assertion.

    Raises:
        EntraError: the credential is missing, wrong, expired or not registered.
    """
    if form.get("client_assertion"):
        _check_assertion(registration, form, audiences, now)
        return "2"
    if not form.get("client_secret"):
        raise EntraError(7000216 if form.get("grant_type") == "client_credentials" else 7000218)
    _check_secret(registration, form["client_secret"], now)
    return "1"


def _check_secret(registration: Registration, value: str, now: datetime) -> None:
    matching = [secret for secret in registration.secrets if secret.value == value]
    if not matching:
        raise EntraError(7000215, client_id=registration.client_id)
    if all(secret.expires_at is not None and secret.expires_at <= now for secret in matching):
        raise EntraError(7000222, client_id=registration.client_id)


def _check_assertion(
    registration: Registration, form: dict[str, str], audiences: tuple[str, ...], now: datetime
) -> None:
    assertion = form["client_assertion"]
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise EntraError(900144, name="client_assertion_type")
    try:
        jwt.get_unverified_header(assertion)
        claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise EntraError(50027) from error
    if claims.get("iss") == registration.client_id:
        _check_certificate(registration, assertion, claims, audiences=audiences, now=now)
    else:
        _check_federated(registration, assertion, claims)


def _check_certificate(
    registration: Registration,
    assertion: str,
    claims: dict[str, Any],
    *,
    audiences: tuple[str, ...],
    now: datetime,
) -> None:
    header = jwt.get_unverified_header(assertion)
    thumbprint = str(header.get("x5t#S256") or header.get("x5t") or header.get("kid") or "")
    certificate = next(
        (found for item in registration.certificates if thumbprint in _thumbprints(found := _load(item.pem))), None
    )
    if certificate is None:
        raise EntraError(700027, reason="The key was not found.", thumbprint=thumbprint)
    if certificate.not_valid_after_utc <= now:
        raise EntraError(700027, reason="The key used is expired.", thumbprint=thumbprint)
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise EntraError(700027, reason="The key is not an RSA key.", thumbprint=thumbprint)
    if claims.get("sub") != registration.client_id:
        raise EntraError(700021)
    try:
        jwt.decode(
            assertion, key, algorithms=list(_ALGORITHMS), audience=audiences, options={"require": ["exp", "aud"]}
        )
    except jwt.InvalidAudienceError as error:
        raise EntraError(700023) from error
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError, jwt.MissingRequiredClaimError) as error:
        raise EntraError(700024) from error
    except jwt.InvalidTokenError as error:
        reason = "The provided signature value did not match the expected signature value."
        raise EntraError(700027, reason=reason, thumbprint=thumbprint) from error


def _check_federated(registration: Registration, assertion: str, claims: dict[str, Any]) -> None:
    audience = claims.get("aud")
    presented = {item for item in (audience if isinstance(audience, list) else [audience]) if isinstance(item, str)}
    trusted = next(
        (
            item
            for item in registration.federated_credentials
            if (item.issuer, item.subject) == (claims.get("iss"), claims.get("sub")) and presented & set(item.audiences)
        ),
        None,
    )
    if trusted is None:
        raise EntraError(70021)
    try:
        jwt.decode(
            assertion,
            _federated_key(trusted, assertion),
            algorithms=["RS256"],
            audience=list(trusted.audiences),
            options={"require": ["exp"]},
        )
    except jwt.ExpiredSignatureError as error:
        raise EntraError(700024) from error
    except jwt.PyJWTError as error:
        raise EntraError(50012) from error


def _federated_key(trusted: FederatedCredential, assertion: str) -> jwt.PyJWK:
    kid = jwt.get_unverified_header(assertion).get("kid")
    for key in jwt.PyJWKSet.from_json(json.dumps(trusted.jwks)).keys:
        if kid is None or key.key_id == kid:
            return key
    raise jwt.InvalidKeyError("no such key")


def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _thumbprints(certificate: x509.Certificate) -> set[str]:
    """All the forms in which a client may name a certificate: base64url and hex, SHA-256 and SHA-1."""
    names: set[str] = set()
    for algorithm in (hashes.SHA256(), hashes.SHA1()):  # noqa: S303 a name, not a protection
        digest = certificate.fingerprint(algorithm)
        names |= {base64.urlsafe_b64encode(digest).decode(), base64.urlsafe_b64encode(digest).rstrip(b"=").decode()}
        names |= {digest.hex(), digest.hex().upper()}
    return names
