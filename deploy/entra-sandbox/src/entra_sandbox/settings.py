"""Everything that can be set, read once from environment and command line, and checked before anything starts."""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, NoDecode, SettingsConfigDict, SettingsError


def _origin(value: str) -> str:
    parts = urlsplit(value.rstrip("/"))
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL of scheme, host and port only, such as http://localhost:8090")
    return value.rstrip("/")


def _list(value: object) -> object:
    """A JSON list, or values with commas between them."""
    if not isinstance(value, str):
        return value
    return [item.strip(" \"'") for item in value.strip(" []").split(",") if item.strip(" \"'")]


Origin = Annotated[str, AfterValidator(_origin)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)]


class Listener(BaseModel):
    """One of the three listeners."""

    host: str = Field(
        "localhost", description="Address to listen on; localhost takes IPv4 and IPv6, 0.0.0.0 everything."
    )
    port: int = Field(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")


class BrowserListener(Listener):
    """Pages that a browser visits, and the admin API: plain http."""

    port: int = Field(8090, ge=0, le=65535, description="Port of the pages and the admin API; 0 takes a free one.")


class LoginListener(Listener):
    """Discovery, keys and tokens: https."""

    port: int = Field(8443, ge=0, le=65535, description="Port of discovery, keys and tokens; 0 takes a free one.")
    public_url: Origin | None = Field(None, description="How services reach it; https://localhost:{port} otherwise.")


class GraphListener(Listener):
    """Microsoft Graph: https."""

    port: int = Field(8444, ge=0, le=65535, description="Port of Microsoft Graph; 0 takes a free one.")
    public_url: Origin | None = Field(None, description="How services reach it; https://localhost:{port} otherwise.")


class TlsSettings(BaseModel):
    """The certificate of the two https listeners."""

    hosts: Names = Field(
        (), description="Further host names or addresses in the certificate, with commas; localhost is always in it."
    )


class GatewaySettings(BaseModel):
    """The platform whose client registrations the sandbox holds."""

    public_urls: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_list)] = Field(
        ("http://localhost:8080",), description="Public URLs of the gateway, with commas."
    )
    redirect_paths: Names = Field(
        ("/consent/callback", "/consent/proof"),
        description="Paths that are registered as redirect URIs under each public URL, with commas.",
    )


class LogSettings(BaseModel):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is written.")
    format: Literal["json", "console"] = Field("json", description="One JSON object per line, or lines for people.")


class Settings(BaseSettings):
    """The settings of the sandbox. Variables are the names in capitals, nested ones joined by two underscores."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        cli_prog_name="entra-sandbox",
        cli_kebab_case=True,
    )

    http: BrowserListener = Field(default_factory=BrowserListener)
    login: LoginListener = Field(default_factory=LoginListener)
    graph: GraphListener = Field(default_factory=GraphListener)
    public_url: Origin | None = Field(
        None, description="How browsers reach the pages; http://localhost:{HTTP__PORT} otherwise."
    )
    tls: TlsSettings = Field(default_factory=TlsSettings)
    data_dir: Path = Field(
        Path(".local/entra-sandbox"), description="Where state, signing keys and the CA (ca.pem) are kept."
    )
    seed_path: Path | None = Field(None, description="YAML file of the first start; the packaged one otherwise.")
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    log: LogSettings = Field(default_factory=LogSettings)


def load(arguments: list[str] | None = None) -> Settings:
    """The settings of this process: command line over environment over defaults.

    Ends the process with status 2 and one readable line per wrong variable.
    """
    try:
        source: CliSettingsSource[Settings] = CliSettingsSource(Settings, cli_parse_args=arguments or [])
        return Settings(_cli_settings_source=source)
    except ValidationError as error:
        _refuse(
            [
                "__".join(map(str, item["loc"])).upper() + ": " + item["msg"].removeprefix("Value error, ")
                for item in error.errors()
            ]
        )
    except SettingsError as error:
        _refuse([f"{' '.join(str(error).split())}"])


def _refuse(lines: list[str]) -> NoReturn:
    for line in lines:
        sys.stderr.write(f"entra-sandbox: {line} (see docs/sandbox.md)\n")
    raise SystemExit(2)
