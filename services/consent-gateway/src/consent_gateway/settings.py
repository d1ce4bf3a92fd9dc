"""The gateway's settings (docs/configuration.md is made from this file)."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints, model_validator

from shared.events import TenantId
from shared.settings import HttpUrl, ServiceSettings


def _https_origin(value: str) -> str:
    """An https URL without a path: msal takes no other, and secrets travel there."""
    value = value.rstrip("/")
    if not value.startswith("https://"):
        raise ValueError("must start with https://")
    if "/" in value.removeprefix("https://") or "?" in value:
        raise ValueError("must be an origin: no path, no query")
    return value


HttpsOrigin = Annotated[str, AfterValidator(_https_origin)]


ReturnUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s#]+$")]


class CatalogSettings(BaseModel):
    """Which permission sets exist, and the client registrations they use."""

    path: Path | None = Field(None, description="Catalogue file (YAML); the packaged one where it isn't set.")
    client_ids: dict[str, TenantId] = Field(
        description="Client id of every client registration that the catalogue uses, as JSON: registration -> GUID."
    )
    return_urls: dict[str, list[ReturnUrl]] = Field(
        default={},
        description="Pages of apps that people may be sent back to, beside the catalogue's, as JSON: app -> URLs.",
    )
    per_second: float = Field(
        100.0, gt=0, description="How many tenants a second are looked at when another catalogue became active."
    )


class EntraSettings(BaseModel):
    """Where Entra ID is, and how our client registrations authenticate."""

    login_url: HttpsOrigin = Field(
        "https://login.microsoftonline.com", description="Origin of the Entra login endpoints."
    )
    graph_url: HttpsOrigin = Field("https://graph.microsoft.com", description="Origin of Microsoft Graph; no path.")
    cloud: str = Field("global", description="Name of the cloud in events; one gateway serves one cloud.")
    ca_bundle: Path | None = Field(
        None, description="PEM file of the CAs trusted for Entra and Graph; the system's where it isn't set."
    )
    home_tenant_id: TenantId = Field(description="Tenant in which our client registrations live.")
    client_secret: SecretStr | None = Field(
        None, description="Secret of every registration without a credential of its own in the credentials directory."
    )
    client_secret_path: Path | None = Field(
        None, description="File with that secret, read anew on each use; goes before ENTRA__CLIENT_SECRET."
    )
    client_certificate_path: Path | None = Field(
        None, description="PEM file with key and certificate; used as the client secret is, and goes before it."
    )
    credentials_dir: Path | None = Field(
        None, description="Directory of `{client_id}.pem`, `.jwt` (federated assertion) and `.secret`; re-read on use."
    )
    credential_expires: dict[str, date] = Field(
        default_factory=dict,
        description="Last day of secrets, as JSON: client id -> date. Certificates and assertions say it themselves; "
        "where this doesn't, the home tenant is asked.",
    )
    timeout_seconds: float = Field(10.0, gt=0, description="Bound of one request to Entra or Graph.")
    concurrency: int = Field(32, ge=1, description="Checks of tenants at once, and beside them sign-ins at once.")

    @model_validator(mode="after")
    def _has_a_credential(self) -> Self:
        if not (self.client_secret or self.client_secret_path or self.client_certificate_path or self.credentials_dir):
            raise ValueError(
                "set ENTRA__CLIENT_SECRET, ENTRA__CLIENT_SECRET_PATH, ENTRA__CLIENT_CERTIFICATE_PATH or "
                "ENTRA__CREDENTIALS_DIR"
            )
        return self


class ConsoleSettings(BaseModel):
    """How people sign in to the console (OpenID Connect)."""

    issuer: HttpUrl = Field(description="Issuer of the console's sign-in; its discovery document is read.")
    metadata_url: HttpUrl | None = Field(
        None, description="The discovery document's URL, where services reach the issuer by another name than browsers."
    )
    client_id: str = Field("consent-console", description="Client id of the console at the issuer.")
    client_secret: SecretStr = Field(description="Client secret of the console at the issuer.")
    session_secret: SecretStr = Field(description="At least 32 characters; seals the console's sessions and forms.")
    session_seconds: int = Field(28_800, ge=300, description="How long a sign-in lasts at most.")
    session_idle_seconds: int = Field(3_600, ge=60, description="How long a sign-in lasts without a request.")

    @model_validator(mode="after")
    def _secret_is_long(self) -> Self:
        if len(self.session_secret.get_secret_value()) < 32:
            raise ValueError("CONSOLE__SESSION_SECRET must have at least 32 characters")
        return self


class ConsentSettings(BaseModel):
    """How long the steps of a consent may take."""

    attempt_seconds: int = Field(600, ge=30, description="Life of an attempt, from its start to the proof.")
    wait_seconds: float = Field(5.0, ge=0, description="How long a person's page waits for `granted` to be verified.")
    verify_deadline_seconds: int = Field(86_400, ge=60, description="When `verifying` ends for good.")


class DriftSettings(BaseModel):
    """How grants are checked again."""

    interval_seconds: int = Field(3_600, ge=1, description="Usual time between two checks of a grant.")
    negatives: int = Field(3, ge=1, description="Definite negative answers in a row before a grant is taken away.")
    negatives_span_seconds: int = Field(900, ge=0, description="Least time between the first and the last of them.")
    per_second: float = Field(
        100.0, gt=0, description="Most checks a second that one process makes; fewer while Entra is too busy."
    )
    mass_tenants: int = Field(
        20, ge=2, description="So many tenants that seem to leave one client registration within ten minutes ..."
    )
    mass_share: float = Field(
        0.2, gt=0, le=1, description="... and such a share of those checked stop its checks for an operator to look."
    )


class Settings(ServiceSettings):
    """All settings of the consent gateway."""

    catalog: CatalogSettings
    entra: EntraSettings
    console: ConsoleSettings
    consent: ConsentSettings = Field(default_factory=ConsentSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    registry_url: HttpUrl = Field(description="Where the tenant registry answers.")
    notifier_url: HttpUrl | None = Field(
        None, description="Where the notifier answers. It may be set as for the other services; nothing here calls it."
    )
    tenant_sharing: Literal["exclusive", "shared"] = Field(
        "exclusive", description="Whether a tenant that one account holds can be connected by another one too."
    )

    @model_validator(mode="after")
    def _audiences_differ(self) -> Self:
        """An ID token of the console's sign-in must never pass for an access token of the API."""
        if self.auth.audience == self.console.client_id:
            raise ValueError("AUTH__AUDIENCE must differ from CONSOLE__CLIENT_ID")
        return self
