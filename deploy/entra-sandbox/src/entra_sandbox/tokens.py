"""ID tokens and access tokens, in the forms that Entra gives them.

ID tokens are v2.0. Access tokens are of version 1.0, as Microsoft's own resources ask for them. As with the real ones,
the signature of a token for Microsoft Graph can be checked by Graph alone: its header holds a `nonce` that was hashed
when the token was signed.
"""

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import serialization
from jwt.utils import base64url_decode, base64url_encode

from entra_sandbox.flaws import Draft, Flaw, Scene, spoil
from entra_sandbox.model import GRAPH_APP_ID, Member, Registration, Resource, ServicePrincipal, Tenant, derived_id
from entra_sandbox.roles import SERVICE_PRINCIPAL_WID, TEMPLATE_IDS, wids
from entra_sandbox.signing_keys import KeyRing, SigningKey

_SKEW = 300
"""Entra dates tokens back by five minutes, so that clocks that run late accept them at once."""
_OPAQUE_PREFIX = "EwB"


@dataclass(frozen=True)
class Bearer:
    """What an access token says once it has been accepted."""

    tenant_id: str
    client_id: str
    roles: frozenset[str]
    scopes: frozenset[str]
    directory_roles: frozenset[str]
    """Template ids of the roles of a service principal; a person's do not widen what an app was granted."""


class TokenIssuer:
    """Signs tokens, and reads those that Graph is called with."""

    def __init__(self, keys: KeyRing, *, login_url: str, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._clock = keys, clock
        self._fernet = Fernet(base64.urlsafe_b64encode(bytes.fromhex(keys.secret("opaque_tokens"))))
        self.issuer_template = f"{login_url}/{{tenantid}}/v2.0"

    def issuer(self, tenant_id: str) -> str:
        """The `iss` of v2.0 tokens of a tenant."""
        return self.issuer_template.replace("{tenantid}", tenant_id)

    def id_token(
        self,
        registration: Registration,
        tenant: Tenant,
        member: Member,
        *,
        nonce: str | None,
        session_id: str,
        flaw: Flaw | None = None,
    ) -> str:
        """A v2.0 ID token. `wids` is there only if the registration asks for directory roles."""
        issued = int(self._clock()) - _SKEW
        claims: dict[str, Any] = {
            "ver": "2.0",
            "iss": self.issuer(tenant.id),
            "sub": _pairwise(registration.client_id, member.object_id),
            "aud": registration.client_id,
            "exp": issued + _SKEW + 3600,
            "iat": issued,
            "nbf": issued,
            "name": member.user.display_name,
            "preferred_username": member.user.user_principal_name,
            "oid": member.object_id,
            "rh": _random_id(),
            "sid": session_id,
            "tid": tenant.id,
            "uti": _random_id(),
        }
        if nonce is not None:
            claims["nonce"] = nonce
        if member.guest:
            claims["idp"] = f"https://sts.windows.net/{member.user.tenant_id}/"
        if registration.group_membership_claims in {"DirectoryRole", "All"}:
            claims["wids"] = wids(member.roles, guest=member.guest)
        draft = Draft(claims)
        if flaw:
            draft = spoil(draft, flaw, Scene(issuer_template=self.issuer_template, domain=tenant.domains[0]))
        return self._sign_draft(draft)

    def app_token(
        self,
        principal: ServicePrincipal,
        resource: Resource,
        audience: str,
        roles: list[str],
        *,
        lifetime: int,
        credential: str,
        opaque: bool = False,
    ) -> str:
        """An app-only access token; one without any granted permission is issued all the same and has no `roles`."""
        claims = self._access_claims(principal.tenant_id, audience, lifetime) | {
            "appid": principal.client_id,
            "appidacr": credential,
            "idp": f"https://sts.windows.net/{principal.tenant_id}/",
            "idtyp": "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "wids": [
                *(TEMPLATE_IDS[role] for role in principal.directory_roles if role in TEMPLATE_IDS),
                SERVICE_PRINCIPAL_WID,
            ],
        }
        if roles:
            claims["roles"] = roles
        token = self._sign_access(claims, graph=resource.app_id == GRAPH_APP_ID)
        return _OPAQUE_PREFIX + self._fernet.encrypt(token.encode()).decode() if opaque else token

    def user_token(
        self,
        registration: Registration,
        tenant_id: str,
        member: Member,
        audience: str,
        scopes: list[str],
        *,
        lifetime: int,
    ) -> str:
        """An access token on behalf of a person."""
        claims = self._access_claims(tenant_id, audience, lifetime) | {
            "appid": registration.client_id,
            "appidacr": "1",
            "idtyp": "user",
            "name": member.user.display_name,
            "oid": member.object_id,
            "scp": " ".join(scopes),
            "sub": _pairwise(registration.client_id, member.object_id),
            "upn": member.user.user_principal_name,
            "unique_name": member.user.user_principal_name,
            "wids": wids(member.roles, guest=member.guest),
        }
        return self._sign_access(claims, graph=True)

    def _access_claims(self, tenant_id: str, audience: str, lifetime: int) -> dict[str, Any]:
        issued = int(self._clock()) - _SKEW
        return {
            "aud": audience,
            "iss": f"https://sts.windows.net/{tenant_id}/",
            "iat": issued,
            "nbf": issued,
            "exp": issued + _SKEW + lifetime + 1,
            "aio": _random_id(),
            "rh": _random_id(),
            "tid": tenant_id,
            "uti": _random_id(),
            "ver": "1.0",
        }

    def read(self, token: str, *, audiences: tuple[str, ...]) -> Bearer:
        """Accepts an access token for Microsoft Graph.

        Raises:
            jwt.InvalidTokenError: it is not one of ours, is for another resource, or has expired.
        """
        if token.startswith(_OPAQUE_PREFIX):
            try:
                token = self._fernet.decrypt(token.removeprefix(_OPAQUE_PREFIX).encode()).decode()
            except InvalidToken as error:
                raise jwt.InvalidTokenError("not one of ours") from error
        hashed = _with_hashed_nonce(token)
        key = self._keys.verification_keys().get(jwt.get_unverified_header(hashed).get("kid", ""))
        if key is None:
            raise jwt.InvalidSignatureError("unknown key")
        claims = jwt.decode(
            hashed, key, algorithms=["RS256"], audience=audiences, options={"require": ["exp", "tid", "appid"]}
        )
        return Bearer(
            tenant_id=claims["tid"],
            client_id=claims["appid"],
            roles=frozenset(claims.get("roles", ())),
            scopes=frozenset(claims.get("scp", "").split()),
            directory_roles=frozenset(claims.get("wids", ()) if claims.get("idtyp") == "app" else ()),
        )

    def _sign_draft(self, draft: Draft) -> str:
        headers = {"kid": self._keys[draft.kid_of].kid}
        if draft.algorithm == "none":
            return jwt.encode(draft.claims, "", algorithm="none", headers=headers)
        if draft.algorithm == "HS256":
            return _sign_hmac(draft.claims, headers, self._keys[draft.key])
        return jwt.encode(draft.claims, self._keys[draft.key].private, algorithm="RS256", headers=headers)

    def _sign_access(self, claims: dict[str, Any], *, graph: bool) -> str:
        key = self._keys["current"]
        headers = {"kid": key.kid, "x5t": key.kid}
        if not graph:
            return jwt.encode(claims, key.private, algorithm="RS256", headers=headers)
        nonce = _random_id()
        signed = jwt.encode(claims, key.private, algorithm="RS256", headers={**headers, "nonce": _hash(nonce)})
        return _with_header(signed, {"nonce": nonce})


def _hash(nonce: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(nonce.encode()).digest()).rstrip(b"=").decode()


def _with_header(token: str, values: dict[str, str]) -> str:
    head, _, rest = token.partition(".")
    header = {**json.loads(base64url_decode(head)), **values}
    return f"{base64url_encode(json.dumps(header, separators=(',', ':')).encode()).decode()}.{rest}"


def _with_hashed_nonce(token: str) -> str:
    nonce = jwt.get_unverified_header(token).get("nonce")
    return _with_header(token, {"nonce": _hash(str(nonce))}) if nonce else token


def _sign_hmac(claims: dict[str, Any], headers: dict[str, str], key: SigningKey) -> str:
    """What an attacker does who hopes that the public key is taken for an HMAC secret."""
    public = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parts = [
        base64url_encode(json.dumps(part, separators=(",", ":")).encode()).decode()
        for part in ({"typ": "JWT", "alg": "HS256", **headers}, claims)
    ]
    # PyJWT refuses a PEM as HMAC secret, which is the right thing to do; so this is done by hand.
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(".".join(parts).encode(), public)
    return ".".join([*parts, base64url_encode(signature).decode()])


def _pairwise(client_id: str, object_id: str) -> str:
    digest = hashlib.sha256(f"{client_id}/{object_id}".encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _random_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def session_id_of(object_id: str, started: str) -> str:
    """The `sid` of a browser session."""
    return derived_id("session", object_id, started)
