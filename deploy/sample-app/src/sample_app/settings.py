"""Everything that can be set, read from the environment once and checked before the process does anything."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

_APP_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL without query and fragment")
    return url.rstrip("/")


def _app_ids(text: str) -> str:
    if not all(_APP_ID.fullmatch(app_id) for app_id in text.split(",")):
        raise ValueError("must be an app id, or several joined by commas without spaces")
    return text


BaseUrl = Annotated[str, AfterValidator(_base_url)]


class HttpSettings(BaseModel):
    """Where the app listens."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8092, ge=1, le=65535, description="port to listen on")


class LogSettings(BaseModel):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level that is written")
    format: Literal["json", "console"] = Field("json", description="json for machines, console for people")


class Settings(BaseSettings):
    """The settings of the app; nested names are joined by two underscores (``HTTP__PORT``)."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="__", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    app_id: Annotated[str, AfterValidator(_app_ids)] = Field(
        "identity-security", description="the app it stands for, or several joined by commas"
    )
    client_secret: SecretStr = Field(SecretStr("app-demo-secret"), description="secret of each app at the issuer")
    public_url: BaseUrl = Field(
        "", validate_default=False, description="how the notifier reaches it; http://localhost:{HTTP__PORT} if not set"
    )
    issuer: BaseUrl = Field("http://localhost:8091", description="where the issuer's discovery document is found")
    notifier_url: BaseUrl = Field("http://localhost:8082", description="where it subscribes")
    gateway_url: BaseUrl = Field("http://localhost:8080", description="the console, as a browser reaches it")
    data_dir: Path = Field(Path(".local/sample-app"), description="where it keeps its secrets and what it was pushed")
    check_seconds: float = Field(30, gt=0, description="how often it looks whether its subscription is still there")
    retention_days: int = Field(30, ge=6, description="how long it remembers a push; retries stop long before")

    @model_validator(mode="before")
    @classmethod
    def _public_url_follows_the_port(cls, values: dict[str, object]) -> dict[str, object]:
        if not values.get("public_url"):
            http = values.get("http")
            port = http.get("port", 8092) if isinstance(http, dict) else getattr(http, "port", 8092)
            values = {**values, "public_url": f"http://localhost:{port}"}
        return values

    @property
    def app_ids(self) -> tuple[str, ...]:
        """The apps it stands for, in the order given."""
        return tuple(dict.fromkeys(self.app_id.split(",")))

    @property
    def webhook_url(self) -> str:
        """The URL that every app subscribes with; which app a push is for is told by its signature."""
        return f"{self.public_url}/webhooks"


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
        lines = (f"{_variable(item['loc'])}: {item['msg'].removeprefix('Value error, ')}" for item in problems)
        raise WrongSetting("; ".join(lines)) from None
    except SettingsError:
        raise WrongSetting("HTTP, LOG: set the variables below them, such as HTTP__PORT, not the whole group") from None


def describe() -> Iterator[str]:
    """One line for each setting: its variable, what it is for and its default."""
    for name, field in _variables(Settings):
        default = field.get_default(call_default_factory=True)
        yield f"  {name:<16} {field.description}{f' [{default}]' if default != '' else ''}"


def _variables(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field


def _variable(location: tuple[int | str, ...]) -> str:
    return "__".join(str(part).upper() for part in location) or "settings"
