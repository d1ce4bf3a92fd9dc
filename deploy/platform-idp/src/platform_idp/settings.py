"""Everything that can be set, read from the environment once and checked before the process does anything."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL of scheme, host and port only, such as http://localhost:8091")
    return url


def _redirect_uri(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
        raise ValueError("must be an absolute http or https URL without a fragment")
    return url


Origin = Annotated[str, AfterValidator(_origin)]
RedirectUri = Annotated[str, AfterValidator(_redirect_uri)]


class HttpSettings(BaseModel):
    """Where the issuer listens."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8091, ge=1, le=65535, description="port to listen on")


class LogSettings(BaseModel):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is written")
    format: Literal["json", "console"] = Field("json", description="json for machines, console for people")


class ConsoleSettings(BaseModel):
    """The client that people sign in to: the console of the consent gateway."""

    client_id: str = Field("consent-console", min_length=1, description="client id of the console")
    client_secret: SecretStr = Field(SecretStr("console-demo-secret"), description="client secret of the console")
    redirect_uris: list[RedirectUri] = Field(
        ["http://localhost:8080/auth/callback"], min_length=1, description="JSON list; matched character by character"
    )
    post_logout_redirect_uris: list[RedirectUri] = Field(
        ["http://localhost:8080", "http://localhost:8080/", "http://localhost:8080/integrations"],
        description="JSON list of where a sign-out may return to",
    )


class AppsSettings(BaseModel):
    """The apps of the suite, each a client that asks for tokens by itself."""

    ids: list[str] = Field(
        [
            "mobile-security",
            "phishing-simulation-assessment",
            "user-accounts",
            "zero-trust-secure-access",
            "cyber-risk-exposure-management",
            "email-and-collaboration-sensor",
            "identity-security",
            "observed-attack-techniques",
            "search",
            "workbench",
        ],
        description="JSON list of app ids; an app's client id is its app id",
    )
    client_secret: SecretStr = Field(SecretStr("app-demo-secret"), description="client secret of every app")


class TokenSettings(BaseModel):
    """How long things last, in seconds."""

    access_seconds: int = Field(3600, ge=1, description="life of an access token and an ID token")
    code_seconds: int = Field(60, ge=1, le=600, description="life of an authorization code")
    session_seconds: int = Field(28800, ge=1, description="life of a sign-in (cookie and refresh token)")


class Settings(BaseSettings):
    """The settings of the issuer; nested names are joined by two underscores (``HTTP__PORT``)."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="__", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    issuer: Origin = Field(
        "", validate_default=False, description="the issuer's public URL; http://localhost:{HTTP__PORT} if not set"
    )
    backchannel_url: Origin | None = Field(
        None, description="base of jwks_uri and token_endpoint where services reach the issuer by another name"
    )
    audience: str = Field("consent-platform", min_length=1, description="aud of every access token")
    data_dir: Path = Field(Path(".local/platform-idp"), description="where the signing keys are kept")
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    apps: AppsSettings = Field(default_factory=AppsSettings)
    tokens: TokenSettings = Field(default_factory=TokenSettings)

    @model_validator(mode="before")
    @classmethod
    def _issuer_follows_the_port(cls, values: dict[str, object]) -> dict[str, object]:
        if not values.get("issuer"):
            http = values.get("http")
            port = http.get("port", 8091) if isinstance(http, dict) else getattr(http, "port", 8091)
            values = {**values, "issuer": f"http://localhost:{port}"}
        return values

    @model_validator(mode="after")
    def _audiences_differ(self) -> Self:
        if self.audience == self.console.client_id:
            raise ValueError(
                "AUDIENCE must differ from CONSOLE__CLIENT_ID: an ID token must never pass as access token"
            )
        if self.console.client_id in self.apps.ids:
            raise ValueError("CONSOLE__CLIENT_ID must not be one of APPS__IDS")
        return self

    @property
    def backchannel(self) -> str:
        """The base URL advertised for what services, not browsers, call."""
        return self.backchannel_url or self.issuer


class WrongSetting(Exception):
    """One line that names each wrong variable and never repeats its value."""


def load() -> Settings:
    """The settings of this process's environment.

    Raises:
        WrongSetting: a variable has a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise WrongSetting("; ".join(f"{_variable(item['loc'])}{_message(item['msg'])}" for item in problems)) from None
    except SettingsError:
        raise WrongSetting("; ".join(f"{name}: must be JSON" for name in _variables_that_are_not_json())) from None


def describe() -> Iterator[str]:
    """One line for each setting: its variable, what it is for and its default."""
    for name, field in _variables(Settings):
        default = field.get_default(call_default_factory=True)
        shown = "" if default in (None, "") else json.dumps(default) if isinstance(default, list) else str(default)
        yield f"  {name:<34} {field.description}{f' [{shown}]' if shown else ''}"


def _variables(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field


def _variable(location: tuple[int | str, ...]) -> str:
    names = [str(part).upper() for part in location if isinstance(part, str)]
    return f"{'__'.join(names)}: " if names else ""


def _message(message: str) -> str:
    return message.removeprefix("Value error, ")


def _variables_that_are_not_json() -> Iterator[str]:
    """The variables that hold JSON (lists, and whole groups such as ``APPS``) and do not parse."""
    lists = {name for name, field in _variables(Settings) if get_origin(field.annotation) is list}
    groups = {name.partition("__")[0] for name, _ in _variables(Settings) if "__" in name}
    for name, value in os.environ.items():
        if name.upper() in lists | groups:
            try:
                json.loads(value)
            except ValueError:
                yield name.upper()
