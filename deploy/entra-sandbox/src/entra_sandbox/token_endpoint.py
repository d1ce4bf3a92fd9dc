"""What the token endpoint answers, v2.0: authorization code, refresh token and client credentials."""

import base64
import hashlib
import uuid
from collections.abc import Callable
from typing import Any

import jwt

from entra_sandbox import client_auth, scopes
from entra_sandbox.client_info import client_info
from entra_sandbox.codes import Code
from entra_sandbox.directory import Authority
from entra_sandbox.errors import EntraError
from entra_sandbox.model import GRAPH_APP_ID, Member, Registration, Tenant
from entra_sandbox.sandbox import Sandbox

_REFRESH_PREFIX = "1.AR"


class TokenEndpoint:
    """Answers token requests."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._refresh_key = sandbox.keys.secret("refresh_tokens")
        self._grants: dict[str, Callable[[Authority, Registration, dict[str, str], str], dict[str, Any]]] = {
            "client_credentials": self._client_credentials,
            "authorization_code": self._authorization_code,
            "refresh_token": self._refresh_token,
        }

    def answer(self, authority: Authority, form: dict[str, str]) -> dict[str, Any]:
        """The tokens for a request.

        Raises:
            EntraError: the request is refused.
        """
        for name in ("grant_type", "client_id"):
            if not form.get(name):
                raise EntraError(900144, name=name)
        grant = self._grants.get(form["grant_type"])
        if grant is None:
            raise EntraError(70003, grant_type=form["grant_type"])
        name = authority.display_name if isinstance(authority, Tenant) else authority
        registration = self._sandbox.directory.registration(form["client_id"])
        if registration is None:
            raise EntraError(700016, client_id=form["client_id"], tenant=name)
        if authority == "consumers":
            raise EntraError(9001023)
        segment = authority.id if isinstance(authority, Tenant) else authority
        login = self._sandbox.urls.login
        credential = client_auth.authenticate(
            registration,
            form,
            audiences=(
                f"{login}/{segment}/oauth2/v2.0/token",
                f"{login}/{segment}/v2.0",
                f"{login}/{segment}/oauth2/token",
            ),
            now=self._sandbox.directory.clock,
        )
        return grant(authority, registration, form, credential)

    def _client_credentials(
        self, authority: Authority, registration: Registration, form: dict[str, str], credential: str
    ) -> dict[str, Any]:
        directory = self._sandbox.directory
        if not isinstance(authority, Tenant):
            raise EntraError(50059)
        resource, identifier = scopes.default_resource(directory, form.get("scope", ""), tenant=authority.display_name)
        principal = directory.principal(authority.id, registration.client_id)
        if principal is None:
            raise EntraError(
                directory.behaviour.missing_service_principal,
                client_id=registration.client_id,
                tenant=authority.display_name,
                tenant_id=authority.id,
            )
        if not principal.account_enabled:
            raise EntraError(7000112, client_id=registration.client_id, app=registration.display_name)
        if directory.resource_object_id(authority, resource.app_id) is None:
            raise EntraError(500011, resource=identifier, tenant=authority.display_name)
        required = {item.resource_app_id for item in registration.permissions}
        if resource.app_id not in required:
            raise EntraError(
                650057,
                client_id=registration.client_id,
                app=registration.display_name,
                resource=identifier,
                resource_app_id=resource.app_id,
                valid=", ".join(sorted(required)),
            )
        lifetime = directory.behaviour.access_token_seconds
        token = self._sandbox.tokens.app_token(
            principal,
            resource,
            identifier,
            directory.roles_for(principal, resource),
            lifetime=lifetime,
            credential=credential,
            opaque=directory.behaviour.opaque_access_tokens,
        )
        return {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token}

    def _authorization_code(
        self, authority: Authority, registration: Registration, form: dict[str, str], _credential: str
    ) -> dict[str, Any]:
        name = form.get("code", "")
        if not name:
            raise EntraError(900144, name="code")
        codes = self._sandbox.codes
        code = codes.find(name)
        if code is None or code.client_id != registration.client_id:
            raise EntraError(70000)
        if code.redeemed:
            raise EntraError(54005)
        if codes.expired(code):
            raise EntraError(70008)
        if isinstance(authority, Tenant) and authority.id != code.tenant_id:
            raise EntraError(700005)
        if form.get("redirect_uri") != code.redirect_uri:
            raise EntraError(500112, redirect_uri=form.get("redirect_uri", ""), registered=code.redirect_uri)
        _check_verifier(code, form.get("code_verifier"))
        tenant, member = self._person(code.tenant_id, code.user_id)
        codes.redeem(name, code)
        return self._tokens_for(
            registration, tenant, member, code.scopes, form, nonce=code.nonce, session_id=code.session_id
        )

    def _refresh_token(
        self, authority: Authority, registration: Registration, form: dict[str, str], _credential: str
    ) -> dict[str, Any]:
        token = form.get("refresh_token", "")
        if not token:
            raise EntraError(900144, name="refresh_token")
        try:
            claims = jwt.decode(
                token.removeprefix(_REFRESH_PREFIX),
                self._refresh_key,
                algorithms=["HS256"],
                audience=registration.client_id,
            )
        except jwt.InvalidTokenError as error:
            raise EntraError(70000) from error
        if isinstance(authority, Tenant) and authority.id != claims["tid"]:
            raise EntraError(700005)
        tenant, member = self._person(claims["tid"], claims["user"])
        asked = tuple(form.get("scope", "").split()) or tuple(claims["scopes"])
        return self._tokens_for(registration, tenant, member, asked, form, nonce=None, session_id=claims["sid"])

    def _person(self, tenant_id: str, user_id: str) -> tuple[Tenant, Member]:
        directory = self._sandbox.directory
        tenant, user = directory.tenants.get(tenant_id), directory.users.get(user_id)
        member = directory.member(user, tenant) if tenant and user else None
        if tenant is None or member is None:
            raise EntraError(50034, user="{EmailHidden}", tenant=tenant_id)
        return tenant, member

    def _tokens_for(
        self,
        registration: Registration,
        tenant: Tenant,
        member: Member,
        asked: tuple[str, ...],
        form: dict[str, str],
        *,
        nonce: str | None,
        session_id: str,
    ) -> dict[str, Any]:
        directory, tokens = self._sandbox.directory, self._sandbox.tokens
        principal = directory.principal(tenant.id, registration.client_id)
        granted = directory.scopes_granted(principal, member.object_id) if principal else set()
        if principal is None or not granted:
            raise EntraError(
                65001, error="invalid_grant", client_id=registration.client_id, app=registration.display_name
            )
        if not principal.account_enabled:
            raise EntraError(7000112, client_id=registration.client_id, app=registration.display_name)
        graph = directory.resources[GRAPH_APP_ID]
        held = sorted(value for resource, value in granted if resource == GRAPH_APP_ID)
        lifetime = directory.behaviour.access_token_seconds
        body: dict[str, Any] = {
            "token_type": "Bearer",
            "scope": " ".join(held),
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": tokens.user_token(
                registration, tenant.id, member, graph.identifiers[0], held, lifetime=lifetime
            ),
        }
        if "offline_access" in asked:
            body["refresh_token"] = self._make_refresh_token(registration, tenant, member, asked, session_id)
        if "openid" in asked:
            flaw = self._sandbox.faults.take_flaw(tenant_id=tenant.id, client_id=registration.client_id)
            body["id_token"] = tokens.id_token(
                registration, tenant, member, nonce=nonce, session_id=session_id, flaw=flaw
            )
        if form.get("client_info") == "1":
            body["client_info"] = client_info(member)
        return body

    def _make_refresh_token(
        self, registration: Registration, tenant: Tenant, member: Member, asked: tuple[str, ...], session_id: str
    ) -> str:
        claims = {
            "aud": registration.client_id,
            "tid": tenant.id,
            "user": member.user.object_id,
            "scopes": asked,
            "sid": session_id,
            "jti": uuid.uuid4().hex,
        }
        return _REFRESH_PREFIX + jwt.encode(claims, self._refresh_key, algorithm="HS256")


def _check_verifier(code: Code, verifier: str | None) -> None:
    """PKCE (RFC 7636, 4.6)."""
    if code.code_challenge is None:
        return
    if not verifier:
        raise EntraError(50148)
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if (digest if code.code_challenge_method == "S256" else verifier) != code.code_challenge:
        raise EntraError(501481)
