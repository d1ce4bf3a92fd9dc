"""What the admin API takes. Fields that are left out of a change stay as they are."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from entra_sandbox.flaws import Flaw
from entra_sandbox.model import FederatedCredential, Frozen, Guest, Guid, Propagation, RequiredPermission


class NewTenant(Frozen):
    """A tenant to make; with `people` it gets admin@, user@ and reader@ of its first domain."""

    id: Guid | None = None
    display_name: str = Field(min_length=1, examples=["Northwind Traders"])
    domains: tuple[str, ...] = Field(min_length=1, examples=[["northwind.example"]])
    people: bool = True
    licences: tuple[str, ...] = ("AAD_PREMIUM_P2", "SPE_E5")
    consented: tuple[Guid, ...] = Field((), description="Client ids that are consented to from the start.")


class TenantBatch(Frozen):
    """Many tenants at once, for load: `{prefix}-{n}.example`, with ids derived from their domains."""

    count: int = Field(ge=1, le=100_000)
    prefix: str = Field("load", pattern="^[a-z0-9-]+$")
    people: bool = False
    consented: tuple[Guid, ...] = ()


class TenantChange(Frozen):
    """A change of a tenant."""

    display_name: str | None = Field(None, min_length=1)
    domains: tuple[str, ...] | None = Field(None, min_length=1)
    tenant_type: str | None = None
    country: str | None = None
    licences: tuple[str, ...] | None = None
    user_consent: bool | None = None
    missing_resources: tuple[Guid, ...] | None = None
    missing_resource_policy: Literal["fail", "skip"] | None = None
    propagation: Propagation | None = None


class NewUser(Frozen):
    """A person to make."""

    object_id: Guid | None = None
    user_principal_name: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", examples=["pra@contoso.com"])
    display_name: str = Field(min_length=1)
    password: str = "Passw0rd!"  # noqa: S105 the demo password, printed on the sign-in page
    roles: tuple[str, ...] = ()
    guest_in: tuple[Guest, ...] = ()


class UserChange(Frozen):
    """A change of a person."""

    display_name: str | None = Field(None, min_length=1)
    password: str | None = None
    roles: tuple[str, ...] | None = None
    guest_in: tuple[Guest, ...] | None = None


class PrincipalChange(Frozen):
    """A change of an app in a tenant: "Enabled for users to sign-in?" and its directory roles."""

    account_enabled: bool | None = None
    directory_roles: tuple[str, ...] | None = None


class AppRole(Frozen):
    """An application permission by name."""

    resource_app_id: Guid
    value: str


class Release(Frozen):
    """Lets held-back app roles show up: the oldest `count`, or all."""

    count: int | None = Field(None, ge=1)
    client_id: Guid | None = None


class NewRegistration(Frozen):
    """A client registration to make, with one secret."""

    client_id: Guid | None = None
    name: str = Field(min_length=1)
    display_name: str = Field(min_length=1)
    publisher: str = "Vision One"
    home_tenant_id: Guid
    permissions: tuple[RequiredPermission, ...] = ()
    redirect_uris: tuple[str, ...] = ()
    secret: str = "sandbox-secret"  # noqa: S105 a demo secret


class RegistrationChange(Frozen):
    """A change of a client registration. `redirect_uris` are those beside the gateway's own."""

    display_name: str | None = Field(None, min_length=1)
    publisher: str | None = None
    publisher_verified: bool | None = None
    sign_in_audience: Literal["AzureADMultipleOrgs", "AzureADMyOrg"] | None = None
    group_membership_claims: Literal["None", "DirectoryRole", "All", "SecurityGroup"] | None = None
    redirect_uris: tuple[str, ...] | None = None
    permissions: tuple[RequiredPermission, ...] | None = None


class NewSecret(Frozen):
    """A client secret to add."""

    value: str = Field(min_length=1)
    expires_at: datetime | None = None


class SecretChange(Frozen):
    """Another expiry of a client secret; a moment in the past expires it."""

    expires_at: datetime | None


class NewCertificate(Frozen):
    """A certificate (PEM) to register."""

    pem: str


class NewFederatedCredential(Frozen):
    """Trust in another issuer's assertions to add."""

    issuer: str
    subject: str
    audiences: tuple[str, ...] = ("api://AzureADTokenExchange",)
    jwks: dict[str, list[dict[str, object]]]

    def credential(self) -> FederatedCredential:
        """With an id of its own."""
        return FederatedCredential.model_validate(self.model_dump())


class NewFlaw(Frozen):
    """A flaw of the next ID tokens: of `remaining` of them, or of all while it is null."""

    flaw: Flaw
    remaining: int | None = Field(1, ge=1)
    tenant_id: Guid | None = None
    client_id: Guid | None = None


class Rotation(Frozen):
    """How signing keys are rotated."""

    keep_previous: bool = Field(True, description="Whether the key that signed until now stays published.")


class BehaviourChange(Frozen):
    """A change of behaviour; see `Behaviour`."""

    decline: Literal["declined", "cancel", "documented", "v1"] | None = None
    wrong_account: Literal["callback", "page"] | None = None
    missing_service_principal: Literal[7000229, 700016] | None = None
    opaque_access_tokens: bool | None = None
    access_token_seconds: int | None = None
    graph_page_size: int | None = None
