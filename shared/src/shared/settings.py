"""Settings fragments every service composes, and the one way to load them.

Settings come from the environment, nested with ``__`` (``KAFKA__BOOTSTRAP_SERVERS``), are validated before any
connection is made, and are read once.
"""

import os
import ssl
import sys
import warnings
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

Settings = TypeVar("Settings", bound=BaseSettings)


def _is_http(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value


# A URL as it is: an issuer is compared character by character (RFC 8414, section 2), and some end in a slash.
ExactUrl = Annotated[str, AfterValidator(_is_http)]
# A URL without a trailing slash, so that paths can be appended.
HttpUrl = Annotated[ExactUrl, AfterValidator(lambda value: value.rstrip("/"))]


class HttpSettings(BaseModel):
    """Where the service listens."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")


class LogSettings(BaseModel):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is written.")
    format: Literal["json", "console"] = Field("json", description="One JSON object per line, or lines for people.")


class KafkaSettings(BaseModel):
    """How to reach Kafka."""

    bootstrap_servers: str = Field(description="Brokers to ask first: host:port, comma separated.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How connections are protected."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="Used when the security protocol is one of the SASL ones."
    )
    sasl_username: str | None = Field(None, validate_default=True, description="User name for SASL.")
    sasl_password: SecretStr | None = Field(None, validate_default=True, description="Password for SASL.")
    ssl_ca_file: str | None = Field(None, description="PEM file of the CA that signed the brokers' certificates.")

    @field_validator("sasl_username", "sasl_password")
    @classmethod
    def _is_there_for_sasl(cls, value: SecretStr | str | None, info: ValidationInfo) -> SecretStr | str | None:
        protocol = info.data.get("security_protocol", "")
        if protocol.startswith("SASL") and value is None:
            raise ValueError(f"is needed where KAFKA__SECURITY_PROTOCOL is {protocol}")
        return value

    def ssl_context(self) -> ssl.SSLContext | None:
        """What connections are encrypted with; None where they aren't.

        Raises:
            OSError: the CA's file can't be read, or isn't one.
        """
        return ssl.create_default_context(cafile=self.ssl_ca_file) if self.security_protocol.endswith("SSL") else None


class MongoSettings(BaseModel):
    """How to reach MongoDB. It must be a replica set or a sharded cluster: transactions are used."""

    url: SecretStr = Field(description="Connection string; credentials in it are never logged.")
    database: str = Field(description="The service's own database.")
    driver: Literal["motor", "pymongo"] = Field(
        "motor", description="Asynchronous driver: Motor, or PyMongo's own asynchronous client."
    )
    timeout_ms: int = Field(15_000, ge=100, description="Bound of every operation, retries included (milliseconds).")

    @field_validator("url")
    @classmethod
    def _is_a_connection_string(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text.startswith("mongodb+srv://"):
            return value  # reading it asks the DNS
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the driver warns of the same when it connects
                parse_uri(text, warn=True)
        except (PyMongoError, ValueError):
            # The parser's own message may repeat parts of it.
            raise ValueError(
                "is not a connection string like mongodb://USER:PASSWORD@HOST:27017/?replicaSet=rs0; "
                "special characters of user and password are percent-encoded"
            ) from None
        return value


class AuthSettings(BaseModel):
    """Whose bearer tokens are accepted. There is no setting that turns authentication off."""

    issuer: ExactUrl = Field(description="The `iss` that a token must carry, to the last character.")
    audience: str = Field(min_length=1, description="The `aud` that a token must carry.")
    jwks_url: ExactUrl = Field(description="Where the issuer publishes its keys (RFC 7517).")


class ServiceSettings(BaseSettings):
    """The settings that all services have."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="__", extra="ignore", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    http: HttpSettings = Field(default_factory=HttpSettings)
    public_url: HttpUrl = Field(description="How users and apps reach this service from outside.")
    log: LogSettings = Field(default_factory=LogSettings)
    kafka: KafkaSettings
    mongo: MongoSettings
    auth: AuthSettings


def load(kind: type[Settings]) -> Settings:
    """The settings of this process's environment.

    Ends the process with status 2 and one readable line per wrong variable when they are not valid; values are not
    repeated there, since any of them may be a secret.
    """
    try:
        settings = kind()
    except ValidationError as error:
        _refuse([(_variable(kind, item["loc"]), item["msg"].removeprefix("Value error, ")) for item in error.errors()])
    except SettingsError as error:
        cause = error.__cause__
        _refuse([(str(error).split('"')[1].upper() if '"' in str(error) else "settings", f"is not valid: {cause}")])
    kafka = getattr(settings, "kafka", None)
    if isinstance(kafka, KafkaSettings):
        try:
            kafka.ssl_context()
        except OSError as error:
            reason = f"is not a readable PEM file of certificates ({type(error).__name__})"
            _refuse([("KAFKA__SSL_CA_FILE", reason)])
    return settings


def _variable(kind: type[BaseSettings], location: tuple[int | str, ...]) -> str:
    if not location:
        return "settings"
    field = kind.model_fields.get(str(location[0]))
    # A missing group (KAFKA) is best named by the first variable that it must have.
    group = field.annotation if len(location) == 1 and field is not None else None
    if isinstance(group, type) and issubclass(group, BaseModel):
        needed = [name for name, sub in group.model_fields.items() if sub.is_required()]
        location = (*location, *needed[:1])
    return "__".join(str(part) for part in location).upper()


def _refuse(problems: list[tuple[str, str]]) -> NoReturn:
    for variable, message in problems:
        hint = "is not set" if message == "Field required" and not os.environ.get(variable) else message
        sys.stderr.write(f"{variable}: {hint} (see docs/configuration.md)\n")
    raise SystemExit(2)
