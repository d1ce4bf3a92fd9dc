"""The proof: an ID token of the tenant says who the administrator is. Pure: key, clock and token are arguments.

msal validates nothing but the nonce since 1.38, so all of it happens here (OpenID Connect Core 3.1.3.7;
https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens).
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt

from consent_gateway.catalog.model import PermissionSet
from consent_gateway.errors import Kind, Refused
from shared.events import canonical_tenant_id

LEEWAY_SECONDS = 60
ALGORITHMS = ("RS256",)
CONSUMER_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"

GLOBAL_ADMINISTRATOR = "62e90394-69f5-4237-9190-012177145e10"
PRIVILEGED_ROLE_ADMINISTRATOR = "e8611ab8-c189-46e8-94e1-60213ab1f814"
APPLICATION_ADMINISTRATOR = "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3"
CLOUD_APPLICATION_ADMINISTRATOR = "158c047a-c907-4556-b7ef-446551a6b5f7"
# Who may consent (https://learn.microsoft.com/entra/identity/enterprise-apps/grant-admin-consent): the latter two for
# everything but Microsoft Graph application roles.
ANY_PERMISSION = frozenset({GLOBAL_ADMINISTRATOR, PRIVILEGED_ROLE_ADMINISTRATOR})
ALL_BUT_GRAPH_ROLES = ANY_PERMISSION | {APPLICATION_ADMINISTRATOR, CLOUD_APPLICATION_ADMINISTRATOR}


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A key of the tenant's key set. ``issuer`` is the key's own, with `{tenantid}` in it or not; None where absent."""

    key: jwt.PyJWK
    issuer: str | None


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the token must say. ``issuer`` is that of the tenant's discovery document; ``nonce`` is msal's, unhashed."""

    client_id: str
    tenant_id: str
    issuer: str
    nonce: str


@dataclass(frozen=True, kw_only=True)
class Administrator:
    """Who signed in. ``roles`` is None where the token doesn't say; ``name`` never leaves the gateway."""

    tenant_id: str
    object_id: str
    name: str | None
    roles: frozenset[str] | None


def key_id(id_token: str) -> str:
    """The id of the key that is said to have signed the token.

    Raises:
        Refused: proof_failed, it isn't a JWT with a key id and an accepted algorithm.
    """
    try:
        header = jwt.get_unverified_header(id_token)
    except jwt.PyJWTError:
        raise _failed("not a JWT") from None
    if header.get("alg") not in ALGORITHMS or not isinstance(header.get("kid"), str):
        raise _failed("algorithm or key id")
    return str(header["kid"])


def tenant_of(id_token: str) -> str:
    """The tenant that the token says it is of, to know whose keys and issuer ``validate`` has to hold it against.

    Raises:
        Refused: personal_account; proof_failed, it names no tenant.
    """
    try:
        claims = jwt.decode(id_token, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise _failed("not a JWT") from None
    tenant_id = _tenant(claims)
    if tenant_id == CONSUMER_TENANT:
        raise Refused(Kind.PERSONAL_ACCOUNT)
    return tenant_id


def validate(id_token: str, *, key: SigningKey, expected: Expected, now: datetime) -> Administrator:
    """The administrator of a token that is signed, current, meant for us, ours by its nonce, and of that tenant.

    Raises:
        Refused: personal_account, other_tenant, or proof_failed for everything else.
    """
    claims = _signed_claims(id_token, key, expected)
    _check_times(claims, now)
    _check_nonce(claims, expected)
    tenant_id = _tenant(claims)
    _check_issuer(claims, tenant_id, key, expected)
    if tenant_id == CONSUMER_TENANT:
        raise Refused(Kind.PERSONAL_ACCOUNT)
    if tenant_id != expected.tenant_id:
        raise Refused(Kind.OTHER_TENANT)
    object_id = claims.get("oid")
    if not isinstance(object_id, str) or canonical_tenant_id(object_id) is None:
        raise _failed("oid")
    return Administrator(
        tenant_id=tenant_id,
        object_id=object_id.lower(),
        name=claims["name"] if isinstance(claims.get("name"), str) else None,
        roles=_roles(claims),
    )


def require_role(administrator: Administrator, permission_sets: Iterable[PermissionSet]) -> None:
    """Accept only somebody who may consent to all of the sets.

    Raises:
        Refused: role_not_proven, where the token has no roles at all (the registration's manifest must emit them);
            not_administrator.
    """
    if administrator.roles is None:
        raise Refused(
            Kind.ROLE_NOT_PROVEN,
            "The sign-in carries no directory roles: set groupMembershipClaims to DirectoryRole in the registration.",
        )
    privileged = any(permission_set.needs_privileged_administrator for permission_set in permission_sets)
    if not administrator.roles & (ANY_PERMISSION if privileged else ALL_BUT_GRAPH_ROLES):
        raise Refused(Kind.NOT_ADMINISTRATOR)


def _signed_claims(id_token: str, key: SigningKey, expected: Expected) -> dict[str, Any]:
    try:
        return dict(
            jwt.decode(
                id_token,
                key.key,
                algorithms=list(ALGORITHMS),
                audience=expected.client_id,
                options={
                    "require": ["aud", "iss", "exp", "iat"],
                    "strict_aud": True,
                    # Checked below, against the caller's clock.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        )
    except jwt.PyJWTError as error:
        raise _failed(type(error).__name__) from None


def _check_times(claims: dict[str, Any], now: datetime) -> None:
    seconds = now.timestamp()
    times = [claims.get(name, 0) for name in ("exp", "iat", "nbf")]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in times):
        raise _failed("a time is not a number")
    expires, issued, not_before = times
    if expires <= seconds - LEEWAY_SECONDS or max(issued, not_before) > seconds + LEEWAY_SECONDS:
        raise _failed("not valid at this time")


def _check_nonce(claims: dict[str, Any], expected: Expected) -> None:
    # msal sends the SHA-256 of the nonce that it keeps.
    wanted = hashlib.sha256(expected.nonce.encode()).hexdigest()
    if not isinstance(claims.get("nonce"), str) or not hmac.compare_digest(claims["nonce"].encode(), wanted.encode()):
        raise _failed("nonce")


def _tenant(claims: dict[str, Any]) -> str:
    tid = claims.get("tid")
    tenant_id = canonical_tenant_id(tid) if isinstance(tid, str) else None
    if tenant_id is None:
        raise _failed("tid")
    return tenant_id


def _check_issuer(claims: dict[str, Any], tenant_id: str, key: SigningKey, expected: Expected) -> None:
    """`iss` is the known issuer with the token's own tenant in it, and the key is one for that issuer.

    A key without an issuer of its own is one of the tenant's key set, which its discovery document named.
    """
    template = expected.issuer.replace(expected.tenant_id, "{tenantid}")
    issuer = claims["iss"]
    if "{tenantid}" not in template or issuer != template.replace("{tenantid}", tenant_id):
        raise _failed("iss")
    if key.issuer is not None and key.issuer.replace("{tenantid}", tenant_id) != issuer:
        raise _failed("issuer of the key")


def _roles(claims: dict[str, Any]) -> frozenset[str] | None:
    wids = claims.get("wids")
    if not isinstance(wids, list) or not all(isinstance(role, str) for role in wids):
        return None
    return frozenset(role.lower() for role in wids)


def _failed(what: str) -> Refused:
    return Refused(Kind.PROOF_FAILED, what)
