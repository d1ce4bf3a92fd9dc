"""Reads what the repository deploys, the way Docker and Compose read it, and knows which settings each part takes."""

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
# What the image itself sets, before compose or Kubernetes add theirs.
IMAGE_ENVIRONMENT = {"HTTP__HOST": "0.0.0.0", "HTTP__PORT": "8080"}
PACKAGES = {
    "consent-gateway": "consent_gateway",
    "tenant-registry": "tenant_registry",
    "notifier": "notifier",
    "entra-sandbox": "entra_sandbox",
    "platform-idp": "platform_idp",
    "sample-app": "sample_app",
}
SERVICES = ("consent-gateway", "tenant-registry", "notifier")


def settings_class(member: str) -> type[BaseSettings]:
    """The settings of a member of the workspace, or of the topic job."""
    if member == "topics":
        specification = importlib.util.spec_from_file_location("topics", ROOT / "deploy" / "topics.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    else:
        module = importlib.import_module(f"{PACKAGES[member]}.settings")
    found: type[BaseSettings] = module.Settings
    return found


def variables(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The environment variables that a settings class reads."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper()


def compose(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """docker-compose.yml with its variables filled in (``${NAME:-default}``)."""
    given = environment or {}

    def value(match: re.Match[str]) -> str:
        return given.get(match[1]) or match[2]

    text = (ROOT / "docker-compose.yml").read_text()
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{([A-Z_]+):-([^}]*)\}", value, text))
    return document


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continuation lines joined."""

    name: str
    arguments: str


def dockerfile() -> list[list[Instruction]]:
    """The stages of deploy/Dockerfile; what stands before the first FROM is the first element."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "deploy" / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: list[list[Instruction]] = [[]]
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line.strip():
            continue
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, arguments.strip()))
    return stages


def manifests() -> list[dict[str, Any]]:
    """All objects of deploy/kubernetes that kustomize is told to apply."""
    folder = ROOT / "deploy" / "kubernetes"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return [
        document
        for resource in kustomization["resources"]
        for document in yaml.safe_load_all((folder / resource).read_text())
    ]
