"""What a client may ask of ``/authorize``: parsing and checking, free of HTTP and of state."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from platform_idp.errors import AuthorizationRefused, UntrustedRequest
from platform_idp.settings import ConsoleSettings

_S256_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_SUPPORTED_SCOPES = ("openid", "profile", "offline_access")


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request that passed every check; what it asks for may be given."""

    client_id: str
    redirect_uri: str
    state: str | None
    nonce: str | None
    scopes: tuple[str, ...]
    code_challenge: str
    prompts: frozenset[str]
    max_age: int | None

    def refused(self, error: str, description: str) -> AuthorizationRefused:
        """An error of RFC 6749 or OpenID Connect Core 3.1.2.6 for the client of this request."""
        return AuthorizationRefused(error, description, redirect_uri=self.redirect_uri, state=self.state)


def parse_authorization_request(
    parameters: Sequence[tuple[str, str]], *, console: ConsoleSettings
) -> AuthorizationRequest:
    """Check a request in the order that matters: first where the browser may be sent, then all else.

    Raises:
        UntrustedRequest: client or redirect URI are missing, repeated or unknown.
        AuthorizationRefused: anything else is wrong; the client is told through the redirect URI.
    """
    values: dict[str, str] = {}
    repeated = set()
    for name, value in parameters:
        if name in values:
            repeated.add(name)
        values[name] = value
    if repeated & {"client_id", "redirect_uri"} or values.get("client_id") != console.client_id:
        raise UntrustedRequest("The application that sent you here is not known to this issuer.")
    redirect_uri = values.get("redirect_uri", "")
    if redirect_uri not in console.redirect_uris:
        raise UntrustedRequest(
            "The application asked to send you back to an address that is not registered for it. "
            "Its operator adds the address to CONSOLE__REDIRECT_URIS."
        )

    state = values.get("state") if "state" not in repeated else None
    for error, description in _problems(values, repeated):
        raise AuthorizationRefused(error, description, redirect_uri=redirect_uri, state=state)
    return AuthorizationRequest(
        client_id=console.client_id,
        redirect_uri=redirect_uri,
        state=state,
        nonce=values.get("nonce"),
        scopes=tuple(scope for scope in _SUPPORTED_SCOPES if scope in values["scope"].split()),
        code_challenge=values["code_challenge"],
        prompts=frozenset(values.get("prompt", "").split()),
        max_age=int(values["max_age"]) if "max_age" in values else None,
    )


def _problems(values: dict[str, str], repeated: set[str]) -> Iterator[tuple[str, str]]:
    """Error code and description of everything that is wrong, most general first."""
    if repeated:
        yield "invalid_request", f"{min(repeated)} is given more than once"
    if "request" in values:
        yield "request_not_supported", "request objects are not supported"
    if "request_uri" in values:
        yield "request_uri_not_supported", "request_uri is not supported"
    if values.get("response_type") != "code":
        yield "unsupported_response_type", "response_type must be code"
    if values.get("response_mode", "query") != "query":
        yield "invalid_request", "response_mode must be query"
    if "openid" not in values.get("scope", "").split():
        yield "invalid_scope", "scope must contain openid"
    if values.get("code_challenge_method") != "S256":
        yield "invalid_request", "code_challenge_method must be S256"
    if not _S256_CHALLENGE.fullmatch(values.get("code_challenge", "")):
        yield "invalid_request", "code_challenge must be the base64url form of a SHA-256 digest"
    prompts = set(values.get("prompt", "").split())
    if prompts - {"none", "login", "select_account", "consent"} or ("none" in prompts and len(prompts) > 1):
        yield "invalid_request", "prompt must be none, or any of login, select_account and consent"
    if "max_age" in values and not re.fullmatch(r"[0-9]{1,9}", values["max_age"]):
        yield "invalid_request", "max_age must be a number of seconds"
