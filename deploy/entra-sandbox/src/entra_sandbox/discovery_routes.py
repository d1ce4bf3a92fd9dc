"""OpenID Connect discovery and the published keys, per tenant and under the shared names."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from entra_sandbox.directory import Authority
from entra_sandbox.model import CONSUMER_TENANT_ID, Tenant
from entra_sandbox.sandbox import Sandbox
from entra_sandbox.trouble import note, trip


def discovery_routes(sandbox: Sandbox) -> APIRouter:
    """Routes of the https login listener that need no client."""
    routes = APIRouter()

    @routes.get("/{tenant}/v2.0/.well-known/openid-configuration")
    async def configuration(tenant: str, request: Request) -> Response:
        authority = sandbox.directory.authority(tenant)
        tenant_id = authority.id if isinstance(authority, Tenant) else None
        note(request, tenant_id=tenant_id)
        await trip(sandbox, request, "discovery", tenant_id=tenant_id)
        return JSONResponse(metadata(sandbox, authority), headers={"Cache-Control": "max-age=86400, private"})

    @routes.get("/{tenant}/discovery/v2.0/keys")
    async def keys(tenant: str, request: Request) -> Response:
        authority = sandbox.directory.authority(tenant)
        tenant_id = authority.id if isinstance(authority, Tenant) else None
        note(request, tenant_id=tenant_id)
        await trip(sandbox, request, "keys", tenant_id=tenant_id)
        return JSONResponse({"keys": sandbox.keys.key_set(sandbox.tokens.issuer_template)})

    return routes


def metadata(sandbox: Sandbox, authority: Authority) -> dict[str, object]:
    """The discovery document. Under a shared name the issuer is a template, and endpoints keep that name."""
    if isinstance(authority, Tenant):
        segment, issuer = authority.id, sandbox.tokens.issuer(authority.id)
    elif authority == "consumers":
        segment, issuer = authority, sandbox.tokens.issuer(CONSUMER_TENANT_ID)
    else:
        segment, issuer = authority, sandbox.tokens.issuer_template
    login, browser = f"{sandbox.urls.login}/{segment}", f"{sandbox.urls.browser}/{segment}"
    return {
        "token_endpoint": f"{login}/oauth2/v2.0/token",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": f"{login}/discovery/v2.0/keys",
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer,
        "request_uri_parameter_supported": False,
        "userinfo_endpoint": f"{sandbox.urls.graph}/oidc/userinfo",
        "authorization_endpoint": f"{browser}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{login}/oauth2/v2.0/devicecode",
        "http_logout_supported": True,
        "frontchannel_logout_supported": True,
        "end_session_endpoint": f"{browser}/oauth2/v2.0/logout",
        "claims_supported": [
            *("sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host"),
            *("aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver"),
            *("at_hash", "c_hash", "email"),
        ],
        "kerberos_endpoint": f"{login}/kerberos",
        "tenant_region_scope": "NA" if isinstance(authority, Tenant) else None,
        "cloud_instance_name": "microsoftonline.com",
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
        "rbac_url": "https://pas.windows.net",
    }
