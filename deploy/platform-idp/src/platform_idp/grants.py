"""The token endpoint's grants (RFC 6749, sections 4.1.3, 4.4 and 6): from a client and its form to tokens."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import TypedDict

from platform_idp.clients import Client, ClientKind, Clients
from platform_idp.codes import AuthorizationCodes
from platform_idp.errors import OAuthError
from platform_idp.people import ACCOUNTS, APP_ROLE, Account, find_person
from platform_idp.tokens import SignIn, Tokens

_LONGEST_DEV_TOKEN = 86_400


class TokenResponse(TypedDict, total=False):
    """The JSON of a successful answer (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    id_token: str
    refresh_token: str


class Grants:
    """Exchanges what a client holds for tokens.

    Every method raises ``OAuthError`` when it refuses.
    """

    def __init__(self, clients: Clients, codes: AuthorizationCodes, tokens: Tokens) -> None:
        self._clients = clients
        self._codes = codes
        self._tokens = tokens

    def exchange(self, client: Client, form: Mapping[str, str]) -> TokenResponse:
        """The answer to a request of an authenticated client."""
        match form.get("grant_type"), client.kind:
            case "authorization_code", ClientKind.CONSOLE:
                return self._authorization_code(client, form)
            case "refresh_token", ClientKind.CONSOLE:
                return self._refresh_token(client, form)
            case "client_credentials", ClientKind.APP:
                return self._client_credentials(client, form)
            case "authorization_code" | "refresh_token" | "client_credentials" as grant_type, _:
                raise OAuthError("unauthorized_client", f"{client.id} may not use {grant_type}")
            case None, _:
                raise OAuthError("invalid_request", "grant_type is missing")
            case _:
                raise OAuthError(
                    "unsupported_grant_type",
                    "grant_type must be authorization_code, refresh_token or client_credentials",
                )

    def for_development(self, form: Mapping[str, str]) -> TokenResponse:
        """A token for whatever role is asked, without any sign-in: see the README's warning."""
        lifetime = _lifetime(form.get("expires_in"), default=self._tokens.access_seconds)
        role, account_id, app_id = form.get("role"), form.get("account_id"), form.get("app_id")
        if role == APP_ROLE:
            if app_id is None or not self._clients.is_app(app_id):
                raise OAuthError("invalid_request", "app_id must be one of the suite's apps when role is app")
            token = self._tokens.access_token_of_app(app_id, account=_account(account_id), lifetime=lifetime)
        else:
            person = find_person(f"{account_id or next(iter(ACCOUNTS))}.{role}")
            if person is None:
                _account(account_id)
                raise OAuthError("invalid_request", "role must be viewer, operator, admin, staff or app")
            if app_id is not None:
                raise OAuthError("invalid_request", "app_id goes with the role app only")
            token = self._tokens.access_token_of_person(person, client_id="platform-idp-dev", lifetime=lifetime)
        return TokenResponse(access_token=token, token_type="Bearer", expires_in=lifetime)  # noqa: S106 (not a secret)

    def _authorization_code(self, client: Client, form: Mapping[str, str]) -> TokenResponse:
        grant = self._codes.redeem(form.get("code", ""))
        if grant is None:
            raise OAuthError("invalid_grant", "the code is unknown, expired or was used before")
        if grant.request.client_id != client.id or grant.request.redirect_uri != form.get("redirect_uri"):
            raise OAuthError("invalid_grant", "the code was issued to another client or redirect_uri")
        digest = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=")
        if not secrets.compare_digest(digest, grant.request.code_challenge.encode()):
            raise OAuthError("invalid_grant", "code_verifier does not match the code_challenge")
        sign_in = SignIn(grant.person, grant.auth_time)
        response = self._person_tokens(client, sign_in)
        response["scope"] = " ".join(grant.request.scopes)
        response["id_token"] = self._tokens.id_token(sign_in, client_id=client.id, nonce=grant.request.nonce)
        if "offline_access" in grant.request.scopes:
            response["refresh_token"] = self._tokens.refresh_token(grant)
        return response

    def _refresh_token(self, client: Client, form: Mapping[str, str]) -> TokenResponse:
        sign_in = self._tokens.read_refresh_token(form.get("refresh_token", ""), client_id=client.id)
        if sign_in is None:
            raise OAuthError("invalid_grant", "the refresh token is not this client's or has expired")
        response = self._person_tokens(client, sign_in)
        response["id_token"] = self._tokens.id_token(sign_in, client_id=client.id, nonce=None)
        return response

    def _client_credentials(self, client: Client, form: Mapping[str, str]) -> TokenResponse:
        token = self._tokens.access_token_of_app(client.id, account=_account(form.get("account_id")))
        return TokenResponse(access_token=token, token_type="Bearer", expires_in=self._tokens.access_seconds)  # noqa: S106 (not a secret)

    def _person_tokens(self, client: Client, sign_in: SignIn) -> TokenResponse:
        token = self._tokens.access_token_of_person(sign_in.person, client_id=client.id)
        return TokenResponse(access_token=token, token_type="Bearer", expires_in=self._tokens.access_seconds)  # noqa: S106 (not a secret)


def _account(account_id: str | None) -> Account | None:
    if account_id is None:
        return None
    if account_id not in ACCOUNTS:
        raise OAuthError("invalid_request", f"account_id must be one of {', '.join(ACCOUNTS)}")
    return ACCOUNTS[account_id]


def _lifetime(text: str | None, *, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _LONGEST_DEV_TOKEN):
        raise OAuthError("invalid_request", f"expires_in must be a number of seconds from 1 to {_LONGEST_DEV_TOKEN}")
    return int(text)
