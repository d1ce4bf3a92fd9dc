"""What a directory holds: tenants, people, registrations, resources, and what has been granted to whom.

All models are frozen: a change is a new object (``item.model_copy(update=...)``) that is stored before it is used.
"""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
CONSUMER_TENANT_ID = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""Tenant id of all personal Microsoft accounts."""

_MONTH = 30 * 86400
_NAMESPACE = uuid.UUID("5f0c9d0e-6d5f-4f7e-9a43-2f6c1c7d9b11")


def derived_id(*parts: str) -> str:
    """A GUID that is the same in every start for the same parts."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def _guid(value: str) -> str:
    return str(uuid.UUID(value))


Guid = Annotated[str, AfterValidator(_guid)]


class Frozen(BaseModel):
    """Base of all models here: immutable, and strict about names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PermissionType(StrEnum):
    """How an app uses a permission: by itself, or on behalf of a signed-in person."""

    APPLICATION = "application"
    DELEGATED = "delegated"


class Permission(Frozen):
    """An app role (application) or an OAuth 2.0 scope (delegated) that a resource offers."""

    id: Guid
    value: str
    type: PermissionType = PermissionType.APPLICATION
    display_name: str
    description: str
    admin_consent_required: bool = False


class Resource(Frozen):
    """An API that apps ask permissions of, such as Microsoft Graph."""

    app_id: Guid
    name: str
    identifiers: tuple[str, ...]
    permissions: tuple[Permission, ...] = ()

    def permission(self, value: str, kind: PermissionType) -> Permission | None:
        """The permission of that name and type."""
        return next((item for item in self.permissions if item.value == value and item.type is kind), None)


class RequiredPermission(Frozen):
    """One line of a registration's "API permissions"."""

    resource_app_id: Guid
    value: str
    type: PermissionType = PermissionType.APPLICATION


class ClientSecret(Frozen):
    """A client secret of a registration."""

    key_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    value: str
    expires_at: datetime | None = None


class ClientCertificate(Frozen):
    """A certificate (PEM) whose private key the client signs its assertions with."""

    key_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    pem: str


class FederatedCredential(Frozen):
    """Trust in assertions of another issuer; its keys are given here, nothing is fetched."""

    key_id: str = Field(default_factory=lambda: str(uuid.uuid4()))
    issuer: str
    subject: str
    audiences: tuple[str, ...] = ("api://AzureADTokenExchange",)
    jwks: dict[str, list[dict[str, object]]]


class Registration(Frozen):
    """An application object in its home tenant."""

    client_id: Guid
    name: str
    display_name: str
    publisher: str
    publisher_verified: bool = False
    home_tenant_id: Guid
    sign_in_audience: Literal["AzureADMultipleOrgs", "AzureADMyOrg"] = "AzureADMultipleOrgs"
    group_membership_claims: Literal["None", "DirectoryRole", "All", "SecurityGroup"] = "DirectoryRole"
    redirect_uris: tuple[str, ...] = ()
    permissions: tuple[RequiredPermission, ...] = ()
    secrets: tuple[ClientSecret, ...] = ()
    certificates: tuple[ClientCertificate, ...] = ()
    federated_credentials: tuple[FederatedCredential, ...] = ()


class Propagation(Frozen):
    """How a tenant's consent becomes visible.

    `hold` keeps new app role assignments invisible until they are released through the admin API, any number at a
    time; otherwise the n-th (from 0) shows up `delay_seconds + n * step_seconds` after the consent. With
    `service_principal` a new service principal itself is late as well (by `delay_seconds`, or until the first release).
    """

    hold: bool = False
    delay_seconds: float = Field(0, ge=0, le=_MONTH)
    step_seconds: float = Field(0, ge=0, le=_MONTH)
    service_principal: bool = False


class Tenant(Frozen):
    """A directory of a company. The first domain is the default one."""

    id: Guid
    display_name: str
    domains: tuple[str, ...] = Field(min_length=1)
    tenant_type: str = "AAD"
    country: str = "US"
    licences: tuple[str, ...] = ("AAD_PREMIUM_P2", "SPE_E5")
    user_consent: bool = True
    missing_resources: tuple[Guid, ...] = ()
    missing_resource_policy: Literal["fail", "skip"] = "fail"
    propagation: Propagation = Propagation()


class Guest(Frozen):
    """A person's second account, as a guest of another tenant."""

    tenant_id: Guid
    object_id: Guid
    roles: tuple[str, ...] = ()


class User(Frozen):
    """A person. Roles are names of directory roles (`roles.py`)."""

    object_id: Guid
    tenant_id: Guid
    user_principal_name: str
    display_name: str
    password: str = "Passw0rd!"  # noqa: S105 the demo password, printed on the sign-in page
    roles: tuple[str, ...] = ()
    guest_in: tuple[Guest, ...] = ()


class Member(Frozen):
    """A person as one tenant knows them: at home, or as a guest with another object id and other roles."""

    user: User
    tenant_id: Guid
    object_id: Guid
    roles: tuple[str, ...]

    @property
    def guest(self) -> bool:
        """Whether the person is at home in another tenant."""
        return self.tenant_id != self.user.tenant_id


class RoleAssignment(Frozen):
    """An application permission that was granted; visible from `visible_at` on, or held back while that is None."""

    id: str
    app_role_id: Guid
    resource_app_id: Guid
    created_at: datetime
    visible_at: datetime | None


class DelegatedGrant(Frozen):
    """Delegated permissions on one resource, for everybody or for one person."""

    id: str
    resource_app_id: Guid
    scopes: tuple[str, ...]
    principal_id: Guid | None = None

    @property
    def consent_type(self) -> str:
        """`AllPrincipals` (by an admin for all) or `Principal`."""
        return "Principal" if self.principal_id else "AllPrincipals"


class ServicePrincipal(Frozen):
    """A registration as it is present in one tenant (an "enterprise application")."""

    object_id: Guid
    tenant_id: Guid
    client_id: Guid
    account_enabled: bool = True
    created_at: datetime
    visible_at: datetime | None
    assignments: tuple[RoleAssignment, ...] = ()
    grants: tuple[DelegatedGrant, ...] = ()
    directory_roles: tuple[str, ...] = ()


class Behaviour(Frozen):
    """Choices where Entra itself has been seen to answer in more than one way."""

    decline: Literal["declined", "cancel", "documented", "v1"] = Field(
        "declined",
        description="Callback after Cancel on the admin-consent page: access_denied with AADSTS65004; access_denied "
        "with error_subcode=cancel and nothing else; consent_required as documented; permission_denied as in v1.",
    )
    wrong_account: Literal["callback", "page"] = Field(
        "callback", description="AADSTS50020 goes to the redirect URI at once, or is shown on a page first."
    )
    missing_service_principal: Literal[7000229, 700016] = Field(
        7000229, description="Code for client credentials in a tenant without the app."
    )
    opaque_access_tokens: bool = Field(False, description="App-only tokens that cannot be decoded.")
    access_token_seconds: int = Field(3599, ge=1, le=86400, description="Life of an access token.")
    graph_page_size: int = Field(100, ge=1, le=999, description="Items on a page of Graph without $top.")
