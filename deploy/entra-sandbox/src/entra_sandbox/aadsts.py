"""The AADSTS codes that the sandbox answers with by itself: their OAuth 2.0 `error`, status and text.

Texts follow Microsoft's "Microsoft Entra authentication and authorization error codes" and observed answers. Platforms
must not depend on texts; they are here so that a person recognises them and a log shows what a real one would show.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Aadsts:
    """One code: the OAuth 2.0 error it comes with, the HTTP status on the token endpoint, and its text."""

    error: str
    text: str
    status: int = 400


_NOT_FOUND_IN_DIRECTORY = (
    "Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen if the "
    "application has not been installed by the administrator of the tenant or consented to by any user in the "
    "tenant. You may have sent your authentication request to the wrong tenant."
)
_NOT_IN_TENANT = (
    "User account '{user}' from identity provider '{provider}' does not exist in tenant '{tenant}' and cannot access"
    " the application '{client_id}'({app}) in that tenant. The account needs to be added as an external user in the "
    "tenant first. Sign out and sign in again with a different Azure Active Directory user account."
)

TABLE: dict[int, Aadsts] = {
    16000: Aadsts(
        "interaction_required",
        _NOT_IN_TENANT,
    ),
    50011: Aadsts(
        "invalid_request",
        "The redirect URI '{redirect_uri}' specified in the request does not match the redirect URIs configured for "
        "the application '{client_id}'. Make sure the redirect URI sent in the request matches one added to your "
        "application in the Azure portal. Navigate to https://aka.ms/redirectUriMismatchError to learn more about "
        "how to fix this.",
    ),
    50012: Aadsts(
        "invalid_client",
        "Authentication failed.",
        401,
    ),
    50020: Aadsts(
        "access_denied",
        _NOT_IN_TENANT,
    ),
    50027: Aadsts(
        "invalid_request",
        "JWT token is invalid or malformed.",
    ),
    50034: Aadsts(
        "invalid_grant",
        "The user account {user} does not exist in the {tenant} directory.",
    ),
    50058: Aadsts(
        "login_required",
        "A silent sign-in request was sent but no user is signed in. The cookies used to represent the user's "
        "session were not sent in the request to Azure AD.",
    ),
    50059: Aadsts(
        "invalid_request",
        "No tenant-identifying information found in either the request or implied by any provided credentials.",
    ),
    50126: Aadsts(
        "invalid_grant",
        "Error validating credentials due to invalid username or password.",
    ),
    50148: Aadsts(
        "invalid_grant",
        "The code_verifier does not match the code_challenge supplied in the authorization request for PKCE.",
    ),
    50194: Aadsts(
        "invalid_request",
        "Application '{client_id}'({app}) is not configured as a multi-tenant application. Usage of the /common "
        "endpoint is not supported for such apps created after '10/15/2018'. Use a tenant-specific endpoint or "
        "configure the application to be multi-tenant.",
    ),
    54005: Aadsts(
        "invalid_grant",
        "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing "
        "refresh token.",
    ),
    65001: Aadsts(
        "consent_required",
        "The user or administrator has not consented to use the application with ID '{client_id}' named '{app}'. "
        "Send an interactive authorization request for this user and resource.",
    ),
    65004: Aadsts(
        "access_denied",
        "User declined to consent to access the app.",
    ),
    70000: Aadsts(
        "invalid_grant",
        "Provided grant is invalid or malformed.",
    ),
    70002: Aadsts(
        "invalid_client",
        "Error validating credentials. The specified client_secret does not match.",
        401,
    ),
    70003: Aadsts(
        "unsupported_grant_type",
        "The app requested an unsupported grant type '{grant_type}'.",
    ),
    70008: Aadsts(
        "invalid_grant",
        "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive "
        "authorization request for this user and resource.",
    ),
    70011: Aadsts(
        "invalid_scope",
        "The provided request must include a 'scope' input parameter. The provided value for the input parameter "
        "'scope' is not valid. The scope {scope} is not valid.",
    ),
    70021: Aadsts(
        "invalid_client",
        "No matching federated identity record found for presented assertion.",
        401,
    ),
    90002: Aadsts(
        "invalid_tenant",
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
        "correct cloud. Check with your subscription administrator, this may happen if there are no active "
        "subscriptions for the tenant.",
    ),
    90014: Aadsts(
        "invalid_request",
        "The required field '{name}' is missing from the credential.",
    ),
    90023: Aadsts(
        "invalid_request",
        "Unsupported '{name}' value.",
    ),
    90055: Aadsts(
        "temporarily_unavailable",
        "The server has terminated this request due to excessive request rate.",
        429,
    ),
    90130: Aadsts(
        "invalid_request",
        "Application '{client_id}' ({app}) isn't supported over the /common or /consumers endpoints. Use the "
        "/organizations or tenant-specific endpoint.",
    ),
    500011: Aadsts(
        "invalid_resource",
        "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the "
        "application has not been installed by the administrator of the tenant or consented to by any user in the "
        "tenant. You might have sent your authentication request to the wrong tenant.",
    ),
    500112: Aadsts(
        "invalid_client",
        "The reply address '{redirect_uri}' does not match the reply address '{registered}' provided when requesting"
        " Authorization code.",
        401,
    ),
    500113: Aadsts(
        "invalid_request",
        "No reply address is registered for the application.",
    ),
    501481: Aadsts(
        "invalid_grant",
        "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
    ),
    501491: Aadsts(
        "invalid_request",
        "Invalid size of Code_Challenge parameter.",
    ),
    650052: Aadsts(
        "invalid_client",
        "The app is trying to access a service '{resource_app_id}'({resource}) that your organization '{tenant}' "
        "lacks a service principal for. Contact your IT Admin to review the configuration of your service "
        "subscriptions or consent to the application in order to create the required service principal.",
    ),
    650053: Aadsts(
        "invalid_client",
        "The application '{app}' asked for scope '{scope}' that doesn't exist on the resource '{resource}'. Contact "
        "the app vendor.",
    ),
    650057: Aadsts(
        "invalid_resource",
        "Invalid resource. The client has requested access to a resource which is not listed in the requested "
        "permissions in the client's application registration. Client app ID: {client_id}({app}). Resource value "
        "from request: {resource}. Resource app ID: {resource_app_id}. List of valid resources from app "
        "registration: {valid}.",
    ),
    700005: Aadsts(
        "invalid_grant",
        "Provided Authorization Code is intended to use against other tenant, thus rejected.",
    ),
    700016: Aadsts(
        "unauthorized_client",
        _NOT_FOUND_IN_DIRECTORY,
    ),
    700021: Aadsts(
        "invalid_client",
        "Client assertion application identifier doesn't match 'client_id' parameter.",
        401,
    ),
    700023: Aadsts(
        "invalid_client",
        "Client assertion audience claim does not match Realm issuer. Review the documentation.",
        401,
    ),
    700024: Aadsts(
        "invalid_client",
        "Client assertion is not within its valid time range.",
        401,
    ),
    700027: Aadsts(
        "invalid_client",
        "The certificate with identifier used to sign the client assertion is not registered on application. [Reason"
        " - {reason}, Thumbprint of key used by client: '{thumbprint}'.]",
        401,
    ),
    700054: Aadsts(
        "unsupported_response_type",
        "response_type '{response_type}' is not enabled for the application.",
    ),
    900023: Aadsts(
        "invalid_request",
        "Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain.",
    ),
    900144: Aadsts(
        "invalid_request",
        "The request body must contain the following parameter: '{name}'.",
    ),
    901001: Aadsts(
        "invalid_request",
        "The 'admin_consent' prompt is not supported.",
    ),
    7000112: Aadsts(
        "unauthorized_client",
        "Application '{client_id}'({app}) is disabled.",
    ),
    7000215: Aadsts(
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not"
        " the client secret ID, for a secret added to app '{client_id}'.",
        401,
    ),
    7000216: Aadsts(
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
        401,
    ),
    7000218: Aadsts(
        "invalid_client",
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        401,
    ),
    7000222: Aadsts(
        "invalid_client",
        "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create new "
        "keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added "
        "security: https://aka.ms/certCreds.",
        401,
    ),
    7000229: Aadsts(
        "invalid_client",
        "The client application {client_id} is missing service principal in the tenant {tenant_id}. See instructions"
        " here: https://go.microsoft.com/fwlink/?linkid=2225119",
        401,
    ),
    9000411: Aadsts(
        "invalid_request",
        "The request is not properly formatted. The parameter '{name}' is duplicated.",
    ),
    9001023: Aadsts(
        "invalid_request",
        "The grant type is not supported over the /common or /consumers endpoints. Use the /organizations or "
        "tenant-specific endpoint.",
    ),
    9002313: Aadsts(
        "invalid_request",
        "Invalid request. Request is malformed or invalid.",
    ),
}
