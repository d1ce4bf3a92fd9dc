"""The sandbox in front of the real MSAL, as a platform uses it: over httpx, with its own CA, no instance discovery."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import jwt
import msal  # type: ignore[import-untyped]  # ships no type information
import pytest


class MsalHttp:
    """MSAL's `http_client` over httpx; MSAL hands over dicts whose values may be bytes."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_: Any) -> httpx.Response:
        body = urlencode(data) if isinstance(data, dict) else data
        headers = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self._client.post(url, params=params, content=body, headers=headers)

    def get(self, url: str, params: Any = None, headers: Any = None, **_: Any) -> httpx.Response:
        return self._client.get(url, params=params, headers=headers)

    def close(self) -> None:
        pass


@pytest.fixture
def msal_app(sandbox: Any, wire: httpx.Client, ids: Any) -> Callable[..., msal.ConfidentialClientApplication]:
    def make(tenant: str = ids.contoso, **overrides: Any) -> msal.ConfidentialClientApplication:
        options = {"client_credential": "sandbox-secret", **overrides}
        return msal.ConfidentialClientApplication(
            ids.client,
            authority=f"{sandbox.login}/{tenant}",
            instance_discovery=False,
            azure_region=False,
            http_client=MsalHttp(wire),
            **options,
        )

    return make


def test_code_with_pkce_gives_an_id_token_that_verifies_against_the_published_keys(
    consented: Any, msal_app: Any, ids: Any, wire: httpx.Client, sandbox: Any
) -> None:
    app = msal_app()
    flow = app.initiate_auth_code_flow(["User.Read"], redirect_uri=ids.proof, prompt="none")

    callback = consented.open(flow["auth_uri"]).callback
    result = app.acquire_token_by_auth_code_flow(flow, callback)

    assert "error" not in result, result
    metadata = wire.get(f"{sandbox.login}/{ids.contoso}/v2.0/.well-known/openid-configuration").json()
    keys = jwt.PyJWKSet.from_dict(wire.get(metadata["jwks_uri"]).json())
    kid = jwt.get_unverified_header(result["id_token"])["kid"]
    claims = jwt.decode(
        result["id_token"], keys[kid], algorithms=["RS256"], audience=ids.client, issuer=metadata["issuer"]
    )
    assert claims["tid"] == ids.contoso
    assert claims["preferred_username"] == "admin@contoso.com"
    assert "62e90394-69f5-4237-9190-012177145e10" in claims["wids"]


def test_client_credentials_give_a_token_with_the_granted_roles(consented: Any, msal_app: Any, ids: Any) -> None:
    result = msal_app().acquire_token_for_client(["https://graph.microsoft.com/.default"])

    assert result["token_source"] == "identity_provider"
    claims = jwt.decode(result["access_token"], options={"verify_signature": False})
    assert set(claims["roles"]) == {"Directory.Read.All", "Group.Read.All", "GroupMember.Read.All"}
    assert (claims["appid"], claims["tid"], claims["ver"]) == (ids.client, ids.contoso, "1.0")
