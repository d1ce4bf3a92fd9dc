"""Objects of the directory in the JSON of Microsoft Graph v1.0."""

from datetime import datetime
from typing import Any

from entra_sandbox.directory import Directory
from entra_sandbox.model import (
    Permission,
    PermissionType,
    Registration,
    Resource,
    ServicePrincipal,
    Tenant,
    derived_id,
)
from entra_sandbox.roles import TEMPLATE_IDS

_MICROSOFT_TENANT_ID = "f8cdef31-a31e-4b4a-93e4-5f571e91255a"
_PLANS = {
    "AAD_PREMIUM": ("078d2b04-f1bd-4111-bbd4-b4b1b354cef4", ("AAD_PREMIUM",)),
    "AAD_PREMIUM_P2": ("84a661c4-e949-4bd2-a560-ed7766fcaf2b", ("AAD_PREMIUM", "AAD_PREMIUM_P2")),
    "SPE_E3": (
        "05e9a617-0261-4cee-bb44-138d3ef5d965",
        (
            "AAD_PREMIUM",
            "EXCHANGE_S_ENTERPRISE",
            "SHAREPOINTENTERPRISE",
            "RMS_S_ENTERPRISE",
            "RMS_S_PREMIUM",
            "MIP_S_CLP1",
        ),
    ),
    "SPE_E5": (
        "06ebc4ee-1bb5-47dd-8120-11324bc54e06",
        (
            "AAD_PREMIUM",
            "AAD_PREMIUM_P2",
            "EXCHANGE_S_ENTERPRISE",
            "SHAREPOINTENTERPRISE",
            "TEAMS1",
            "RMS_S_ENTERPRISE",
            "RMS_S_PREMIUM",
            "RMS_S_PREMIUM2",
            "MIP_S_CLP1",
            "MIP_S_CLP2",
        ),
    ),
    "O365_BUSINESS_PREMIUM": ("f245ecc8-75af-4f8e-b61f-27d8114de5f3", ("EXCHANGE_S_STANDARD", "TEAMS1")),
}


def organization(tenant: Tenant) -> dict[str, Any]:
    """The tenant itself."""
    return {
        "id": tenant.id,
        "displayName": tenant.display_name,
        "tenantType": tenant.tenant_type,
        "countryLetterCode": tenant.country,
        "createdDateTime": "2020-01-01T00:00:00Z",
        "deletedDateTime": None,
        "verifiedDomains": [
            {
                "capabilities": "Email, OfficeCommunicationsOnline",
                "isDefault": position == 0,
                "isInitial": name.endswith(".onmicrosoft.com"),
                "name": name,
                "type": "Managed",
            }
            for position, name in enumerate(tenant.domains)
        ],
        "assignedPlans": [
            {"service": plan, "servicePlanId": derived_id("plan", plan), "capabilityStatus": "Enabled"}
            for plan in _plans(tenant)
        ],
    }


def skus(tenant: Tenant) -> list[dict[str, Any]]:
    """The tenant's licences."""
    return [
        {
            "id": f"{tenant.id}_{_PLANS.get(name, (derived_id('sku', name),))[0]}",
            "skuId": _PLANS.get(name, (derived_id("sku", name),))[0],
            "skuPartNumber": name,
            "capabilityStatus": "Enabled",
            "consumedUnits": 1,
            "appliesTo": "User",
            "prepaidUnits": {"enabled": 25, "suspended": 0, "warning": 0, "lockedOut": 0},
            "servicePlans": [
                {
                    "servicePlanId": derived_id("plan", plan),
                    "servicePlanName": plan,
                    "provisioningStatus": "Success",
                    "appliesTo": "User",
                }
                for plan in _PLANS.get(name, ("", (name,)))[1]
            ],
        }
        for name in tenant.licences
    ]


def _plans(tenant: Tenant) -> list[str]:
    return list(dict.fromkeys(plan for name in tenant.licences for plan in _PLANS.get(name, ("", (name,)))[1]))


def service_principals(directory: Directory, tenant: Tenant) -> list[dict[str, Any]]:
    """The apps that are present in a tenant, then the resources."""
    apps = [
        _of_app(item, registration)
        for item in directory.principals_of(tenant.id)
        if directory.principal(tenant.id, item.client_id) and (registration := directory.registration(item.client_id))
    ]
    resources = [
        _of_resource(resource, object_id)
        for resource in directory.resources.values()
        if (object_id := directory.resource_object_id(tenant, resource.app_id))
    ]
    return apps + resources


def _of_app(item: ServicePrincipal, registration: Registration) -> dict[str, Any]:
    return {
        "id": item.object_id,
        "appId": item.client_id,
        "displayName": registration.display_name,
        "appDisplayName": registration.display_name,
        "accountEnabled": item.account_enabled,
        "appOwnerOrganizationId": registration.home_tenant_id,
        "appRoleAssignmentRequired": False,
        "createdDateTime": moment(item.created_at),
        "deletedDateTime": None,
        "publisherName": registration.publisher,
        "servicePrincipalNames": [item.client_id],
        "servicePrincipalType": "Application",
        "signInAudience": registration.sign_in_audience,
        "tags": ["WindowsAzureActiveDirectoryIntegratedApp"],
        "appRoles": [],
        "oauth2PermissionScopes": [],
    }


def _of_resource(resource: Resource, object_id: str) -> dict[str, Any]:
    return {
        "id": object_id,
        "appId": resource.app_id,
        "displayName": resource.name,
        "appDisplayName": resource.name,
        "accountEnabled": True,
        "appOwnerOrganizationId": _MICROSOFT_TENANT_ID,
        "appRoleAssignmentRequired": False,
        "createdDateTime": "2020-01-01T00:00:00Z",
        "deletedDateTime": None,
        "publisherName": "Microsoft Services",
        "servicePrincipalNames": list(resource.identifiers),
        "servicePrincipalType": "Application",
        "signInAudience": "AzureADMultipleOrgs",
        "tags": [],
        "appRoles": [_app_role(item) for item in resource.permissions if item.type is PermissionType.APPLICATION],
        "oauth2PermissionScopes": [
            _scope(item) for item in resource.permissions if item.type is PermissionType.DELEGATED
        ],
    }


def _app_role(item: Permission) -> dict[str, Any]:
    return {
        "id": item.id,
        "value": item.value,
        "displayName": item.display_name,
        "description": item.description,
        "allowedMemberTypes": ["Application"],
        "isEnabled": True,
        "origin": "Application",
    }


def _scope(item: Permission) -> dict[str, Any]:
    return {
        "id": item.id,
        "value": item.value,
        "type": "Admin" if item.admin_consent_required else "User",
        "adminConsentDisplayName": item.display_name,
        "adminConsentDescription": item.description,
        "isEnabled": True,
    }


def app_role_assignments(directory: Directory, tenant: Tenant, principal: ServicePrincipal) -> list[dict[str, Any]]:
    """The application permissions of an app that have propagated by now."""
    registration = directory.registration(principal.client_id)
    return [
        {
            "id": item.id,
            "deletedDateTime": None,
            "appRoleId": item.app_role_id,
            "createdDateTime": moment(item.created_at),
            "principalDisplayName": registration.display_name if registration else principal.client_id,
            "principalId": principal.object_id,
            "principalType": "ServicePrincipal",
            "resourceDisplayName": directory.resources[item.resource_app_id].name,
            "resourceId": directory.resource_object_id(tenant, item.resource_app_id),
        }
        for item in directory.visible_assignments(principal)
        if directory.resource_object_id(tenant, item.resource_app_id)
    ]


def permission_grants(directory: Directory, tenant: Tenant, principal: ServicePrincipal) -> list[dict[str, Any]]:
    """The delegated permissions of an app; `scope` is one string with spaces, as Graph has it."""
    return [
        {
            "id": item.id,
            "clientId": principal.object_id,
            "consentType": item.consent_type,
            "principalId": item.principal_id,
            "resourceId": directory.resource_object_id(tenant, item.resource_app_id),
            "scope": " ".join(item.scopes),
        }
        for item in principal.grants
        if item.scopes and directory.resource_object_id(tenant, item.resource_app_id)
    ]


def directory_roles(tenant: Tenant, principal: ServicePrincipal) -> list[dict[str, Any]]:
    """The directory roles of a service principal."""
    return [
        {
            "@odata.type": "#microsoft.graph.directoryRole",
            "id": derived_id(tenant.id, "role", name),
            "deletedDateTime": None,
            "displayName": name,
            "description": None,
            "roleTemplateId": TEMPLATE_IDS[name],
        }
        for name in principal.directory_roles
        if name in TEMPLATE_IDS
    ]


def moment(value: datetime) -> str:
    """A moment as Graph writes it."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
