"""Client registrations in the JSON of Microsoft Graph v1.0, as their home tenant shows them."""

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from entra_sandbox.directory import Directory
from entra_sandbox.graph_objects import moment
from entra_sandbox.model import PermissionType, Registration, RequiredPermission, derived_id


def application(directory: Directory, registration: Registration, redirect_uris: tuple[str, ...]) -> dict[str, Any]:
    """A registration as its home tenant shows it; secrets by hint and expiry alone."""
    return {
        "id": derived_id("application", registration.client_id),
        "appId": registration.client_id,
        "displayName": registration.display_name,
        "deletedDateTime": None,
        "publisherDomain": _domain(directory, registration.home_tenant_id),
        "signInAudience": registration.sign_in_audience,
        "groupMembershipClaims": None
        if registration.group_membership_claims == "None"
        else registration.group_membership_claims,
        "identifierUris": [],
        "web": {"redirectUris": list(redirect_uris), "implicitGrantSettings": {"enableIdTokenIssuance": False}},
        "passwordCredentials": [
            {
                "keyId": secret.key_id,
                "displayName": None,
                "hint": secret.value[:3],
                "secretText": None,
                "startDateTime": "2026-01-01T00:00:00Z",
                "endDateTime": moment(secret.expires_at) if secret.expires_at else "2299-12-31T00:00:00Z",
            }
            for secret in registration.secrets
        ],
        "keyCredentials": [_key_credential(item.key_id, item.pem) for item in registration.certificates],
        "requiredResourceAccess": _required_access(directory, registration.permissions),
    }


def _key_credential(key_id: str, pem: str) -> dict[str, Any]:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    return {
        "keyId": key_id,
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        "displayName": certificate.subject.rfc4514_string(),
        "customKeyIdentifier": certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 a name
        "startDateTime": moment(certificate.not_valid_before_utc),
        "endDateTime": moment(certificate.not_valid_after_utc),
    }


def _required_access(directory: Directory, permissions: tuple[RequiredPermission, ...]) -> list[dict[str, Any]]:
    grouped: dict[str, list[dict[str, str]]] = {}
    for item in permissions:
        found = directory.resources[item.resource_app_id].permission(item.value, item.type)
        if found:
            kind = "Role" if found.type is PermissionType.APPLICATION else "Scope"
            grouped.setdefault(item.resource_app_id, []).append({"id": found.id, "type": kind})
    return [{"resourceAppId": app_id, "resourceAccess": access} for app_id, access in grouped.items()]


def _domain(directory: Directory, tenant_id: str) -> str | None:
    tenant = directory.tenants.get(tenant_id)
    return tenant.domains[0] if tenant else None
