"""Writes the parts of the documentation that are made from the code; ``make docs``. A test compares them."""

import json
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

import consent_gateway.settings
import entra_sandbox.settings
import notifier.settings
import platform_idp.settings
import sample_app.settings
import tenant_registry.settings
from shared import contracts
from shared.events import EVENT_TYPES
from shared.settings import ServiceSettings

DOCS = Path(__file__).parent
SERVICES: dict[str, type[ServiceSettings]] = {
    "consent-gateway": consent_gateway.settings.Settings,
    "tenant-registry": tenant_registry.settings.Settings,
    "notifier": notifier.settings.Settings,
}
# What stands in for others on a machine of one's own; they share nothing with the services.
STAND_INS: dict[str, type[BaseModel]] = {
    "entra-sandbox": entra_sandbox.settings.Settings,
    "platform-idp": platform_idp.settings.Settings,
    "sample-app": sample_app.settings.Settings,
}
HEAD = """# Configuration

Generated from the code by `make docs`; do not edit.

Every service reads its settings from the environment, once, before it connects to anything. A wrong or missing one ends
the process with status 2 and one line that names the variable. Lists and maps are JSON. Secrets are never logged.
"""


def configuration() -> str:
    """The text of docs/configuration.md."""
    common = dict(_rows(ServiceSettings, ""))
    parts = [HEAD, "## All services\n", _table(common)]
    for name, settings in SERVICES.items():
        own = {variable: row for variable, row in _rows(settings, "") if common.get(variable) != row}
        parts += [f"## {name}\n", f"Started by `python -m {settings.__module__.split('.')[0]}`.\n", _table(own)]
    topic_job: type[BaseModel] = runpy.run_path(str(DOCS.parent / "deploy" / "topics.py"))["Settings"]
    own = {variable: row for variable, row in _rows(topic_job, "") if common.get(variable) != row}
    parts += [
        "## The topic job\n",
        "Started by `python deploy/topics.py`; also reads `KAFKA__*` as above.\n",
        _table(own),
    ]
    parts += ["## Stand-ins\n", "For a machine of one's own, the tests and `docker compose`; not for production.\n"]
    for name, stand_in in STAND_INS.items():
        parts += [f"### {name}\n", f"Started by `python -m {stand_in.__module__.split('.')[0]}`.\n"]
        parts.append(_table(dict(_rows(stand_in, ""))))
    return "\n".join(parts)


def _rows(model: type[BaseModel], prefix: str) -> list[tuple[str, tuple[str, str, str]]]:
    rows: list[tuple[str, tuple[str, str, str]]] = []
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += _rows(field.annotation, f"{variable}__")
        else:
            rows.append((variable, (_type(field.annotation), _default(field), field.description or "")))
    return rows


def _type(annotation: Any) -> str:  # noqa: ANN401 - annotations have no common type
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if annotation is SecretStr or SecretStr in arguments:
        return "secret"
    if arguments and all(isinstance(argument, str) for argument in arguments):
        return ", ".join(f"`{argument}`" for argument in arguments)
    origin = get_origin(annotation)
    if origin is dict:
        return "JSON map"
    if origin in {tuple, list}:
        return "JSON list"
    kind = arguments[0] if arguments else annotation
    names = {"str": "text", "int": "integer", "float": "number", "bool": "`true`, `false`", "Path": "path"}
    return names.get(getattr(kind, "__name__", ""), "text")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return f"`{value.get_secret_value()}`"
    if isinstance(value, str | Path):
        return f"`{value}`" if str(value) else ""
    return f"`{json.dumps(value)}`"


def _table(rows: dict[str, tuple[str, str, str]]) -> str:
    lines = ["| variable | value | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{variable}` | {' | '.join(row)} |" for variable, row in rows.items()]
    return "\n".join(lines) + "\n"


def _json(make: Callable[[], dict[str, Any]]) -> str:
    return json.dumps(make(), indent=2) + "\n"


SCHEMAS = {
    DOCS.parent / "shared" / "schemas" / f"{kind.type_name}.v1.json": partial(contracts.schema_of, kind)
    for kind in EVENT_TYPES.values()
}
ASYNCAPI = {DOCS / "asyncapi" / f"{service}.json": partial(contracts.asyncapi_of, service) for service in SERVICES}
GENERATED: dict[Path, Callable[[], str]] = {
    DOCS / "configuration.md": configuration,
    **{path: partial(_json, make) for path, make in (SCHEMAS | ASYNCAPI).items()},
}


def breaking_changes() -> list[str]:
    """What the code's event types would break for readers of the schemas that are checked in."""
    return [
        f"{path.name}: {problem}"
        for path, make in SCHEMAS.items()
        if path.exists()
        for problem in contracts.incompatibilities(json.loads(path.read_text()), make())
    ]


def main() -> None:
    """Write every generated file, and say which ones changed; refuse to overwrite a schema that others rely on."""
    if problems := breaking_changes():
        sys.exit("\n".join(["These changes need a new version of the event type:", *problems]))
    for path, make in GENERATED.items():
        text = make()
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(DOCS.parent)}\n")


if __name__ == "__main__":
    main()
