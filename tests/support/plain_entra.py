"""Another Entra-shaped server than the sandbox: the least that Microsoft's documentation promises, all of it on https.

It has one tenant, whose administrator is signed in already and accepts everything at once. It shares no code with the
sandbox, and its addresses, key ids and answers look different wherever the documentation leaves a choice.

https://learn.microsoft.com/entra/identity-platform/v2-admin-consent
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
https://learn.microsoft.com/graph/api/organization-get
"""

import asyncio
import base64
import hashlib
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

GLOBAL_ADMINISTRATOR = "62e90394-69f5-4237-9190-012177145e10"


@dataclass
class PlainEntra:
    """The server's state. ``roles`` are the application permissions that every consent grants."""

    origin: str
    tenant_id: str
    tenant_name: str
    roles: list[str]
    ca: Path
    consented: set[str] = field(default_factory=set)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/{tenant}/v2.0/.well-known/openid-configuration", self.discovery),
                Route("/common/keys-of-everybody", self.keys),
                Route("/{tenant}/v2.0/adminconsent", self.admin_consent),
                Route("/{tenant}/authorize-v2", self.authorize),
                Route("/{tenant}/token-v2", self.token, methods=["POST"]),
                Route("/v1.0/{rest:path}", self.graph),
            ]
        )

    async def discovery(self, request: Request) -> Response:
        """OpenID Connect Discovery 1.0; ``organizations`` has the issuer of no tenant in particular, as Entra's has."""
        tenant = request.path_params["tenant"]
        if tenant not in {self.tenant_id, "organizations"}:
            description = "AADSTS90002: Tenant not found. Check to make sure you have the correct tenant ID."
            return _error(400, "invalid_tenant", description, 90002)
        base = f"{self.origin}/{tenant}"
        return JSONResponse(
            {
                "issuer": f"{self.origin}/{'{tenantid}' if tenant == 'organizations' else tenant}/v2.0",
                "authorization_endpoint": f"{base}/authorize-v2",
                "token_endpoint": f"{base}/token-v2",
                "jwks_uri": f"{self.origin}/common/keys-of-everybody",
                "response_types_supported": ["code"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def keys(self, _request: Request) -> Response:
        """RFC 7517; without `alg`, as Entra publishes its keys."""
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return JSONResponse({"keys": [{"kty": "RSA", "use": "sig", "kid": "one", "n": public["n"], "e": public["e"]}]})

    async def admin_consent(self, request: Request) -> Response:
        """Accepts without asking."""
        asked = request.query_params
        self.consented.add(asked["client_id"])
        answer = {"admin_consent": "True", "tenant": self.tenant_id, "state": asked["state"], "scope": asked["scope"]}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    async def authorize(self, request: Request) -> Response:
        """The administrator is signed in: a code at once."""
        asked = request.query_params
        code = secrets.token_urlsafe(16)
        self.codes[code] = dict(asked)
        answer = {"code": code, "state": asked["state"], "session_state": secrets.token_hex(8)}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 302)

    async def token(self, request: Request) -> Response:
        """Code with PKCE, and client credentials."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        if form.get("client_secret") != "sandbox-secret":
            return _error(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", 7000215)
        if form["grant_type"] == "authorization_code":
            return self._sign_in(form)
        if form["client_id"] not in self.consented:
            description = f"AADSTS700016: Application with identifier '{form['client_id']}' was not found."
            return _error(400, "unauthorized_client", description, 700016)
        resource = form["scope"].removesuffix("/.default")
        self.requests.append(resource)
        claims = {"aud": resource, "appid": form["client_id"], "tid": self.tenant_id, "roles": self.roles}
        return JSONResponse({"token_type": "Bearer", "expires_in": 3599, "access_token": self._signed(claims)})

    def _sign_in(self, form: dict[str, str]) -> Response:
        asked = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked.get("code_challenge") != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return _error(400, "invalid_grant", "AADSTS501481: The Code_Verifier does not match.", 501481)
        identity = {
            "aud": form["client_id"],
            "iss": f"{self.origin}/{self.tenant_id}/v2.0",
            "tid": self.tenant_id,
            "oid": "0c9a1f7e-58d1-4f43-8a57-2f9f3f3b6d10",
            "sub": "pairwise-subject",
            "name": "Administrator",
            "nonce": asked["nonce"],
            "wids": [GLOBAL_ADMINISTRATOR],
            "ver": "2.0",
        }
        return JSONResponse(
            {"token_type": "Bearer", "expires_in": 3599, "scope": "openid profile", "id_token": self._signed(identity)}
        )

    def _signed(self, claims: dict[str, Any]) -> str:
        now = datetime.now(UTC)
        times = {"iat": now, "nbf": now, "exp": now + timedelta(hours=1)}
        return jwt.encode(claims | times, self.key, algorithm="RS256", headers={"kid": "one"})

    async def graph(self, request: Request) -> Response:
        """The organization; everything else is refused in Graph's words."""
        if request.path_params["rest"] == "organization":
            domains = [{"name": "plain.example", "isDefault": True, "isInitial": False}]
            found = {"id": self.tenant_id, "displayName": self.tenant_name, "verifiedDomains": domains}
            return JSONResponse({"value": [found]})
        words = {"code": "Authorization_RequestDenied", "message": "Insufficient privileges."}
        return JSONResponse({"error": words}, 403)


def _error(status: int, error: str, description: str, code: int) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": description, "error_codes": [code]}, status)


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another authority")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return certificate_file, key_file


@asynccontextmanager
async def running(folder: Path, *, tenant_id: str, tenant_name: str, roles: list[str]) -> AsyncIterator[PlainEntra]:
    """The server, on a free port, for as long as the context lasts."""
    certificate, key = _certificate(folder)
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"https://localhost:{listener.getsockname()[1]}"
    entra = PlainEntra(origin=origin, tenant_id=tenant_id, tenant_name=tenant_name, roles=roles, ca=certificate)
    config = uvicorn.Config(
        entra.app(),
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield entra
    finally:
        server.should_exit = True
        await task
