"""Directory roles, and who may consent to what.

Template ids and rules: Microsoft Entra documentation, "Microsoft Entra built-in roles" and "Grant tenant-wide admin
consent to an application".
"""

from collections.abc import Iterable

from entra_sandbox.model import GRAPH_APP_ID, PermissionType, RequiredPermission

TEMPLATE_IDS = {
    "Global Administrator": "62e90394-69f5-4237-9190-012177145e10",
    "Privileged Role Administrator": "e8611ab8-c189-46e8-94e1-60213ab1f814",
    "Application Administrator": "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3",
    "Cloud Application Administrator": "158c047a-c907-4556-b7ef-446551a6b5f7",
    "Global Reader": "f2ef992c-3afb-46b9-b7cf-a126ee74c451",
    "User Administrator": "fe930be7-5e62-47db-91af-98c3a49a38b1",
    "Password Administrator": "966707d0-3269-4727-9be2-8c3a10f19b9d",
    "Security Administrator": "194ae4cb-b126-40b2-bd5b-6091b380977d",
    "Security Reader": "5d6b6bb7-de71-4623-b4af-96380a352509",
    "Directory Readers": "88d8e3e3-8f55-4a1e-953a-9b9898b8876b",
    "Exchange Administrator": "29232cdf-9323-42fd-ade2-1d097af3e4de",
}
MEMBER_WID = "b79fbf4d-3ef9-4689-8143-76b194e85509"
"""What `wids` holds for every member of a tenant beside the person's roles."""
SERVICE_PRINCIPAL_WID = "0997a1d0-0d1d-4acb-b408-d5ca73121e90"
"""What `wids` holds for every service principal."""

_MAY_CONSENT_TO_ALL = frozenset({"Global Administrator", "Privileged Role Administrator"})
_MAY_CONSENT_BUT_NOT_TO_GRAPH_ROLES = frozenset({"Application Administrator", "Cloud Application Administrator"})


def may_consent(roles: Iterable[str], permissions: Iterable[RequiredPermission]) -> bool:
    """Whether a person with these directory roles may consent to the permissions for the whole tenant.

    Global and Privileged Role Administrators may consent to everything; (Cloud) Application Administrators to
    everything but application permissions of Microsoft Graph.
    """
    held = set(roles)
    if held & _MAY_CONSENT_TO_ALL:
        return True
    graph_roles = any(
        item.resource_app_id == GRAPH_APP_ID and item.type is PermissionType.APPLICATION for item in permissions
    )
    return bool(held & _MAY_CONSENT_BUT_NOT_TO_GRAPH_ROLES) and not graph_roles


def wids(roles: Iterable[str], *, guest: bool = False) -> list[str]:
    """The `wids` claim of a person: the template ids of the roles, and the one that every member has."""
    ids = [TEMPLATE_IDS[role] for role in roles if role in TEMPLATE_IDS]
    return ids if guest else [*ids, MEMBER_WID]
