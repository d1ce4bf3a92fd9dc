"""Small catalogue files, one version after another, and a grant of their first set."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from consent_gateway.catalog.model import MICROSOFT_GRAPH
from consent_gateway.grants.grants import Entra, Grant
from shared.events import Permission
from support.gateway import CLIENT_IDS, CONTOSO, SETS

IDS = dict.fromkeys(("one", "two"), CLIENT_IDS[SETS[0]])


def permission(value: str, **more: Any) -> dict[str, Any]:
    """An application permission of Graph."""
    return {"resource": "graph", "value": value, "reason": f"for {value}", **more}


def app(app_id: str, *sets: str, **more: Any) -> dict[str, Any]:
    """An app of these sets."""
    return {"id": app_id, "name": app_id.title(), "description": app_id, "permission_sets": list(sets), **more}


def catalog_file(
    folder: Path,
    *,
    version: int = 1,
    sets: Mapping[str, Mapping[str, Any]] | None = None,
    apps: Sequence[Mapping[str, Any]] = (app("reader", "one"),),
) -> Path:
    """A file whose sets, by id, are what a test says beside what it doesn't care about; `permissions` are names."""
    wanted = sets or {"one": {}}
    entries = [
        {
            "title": name.title(),
            "description": name,
            "version": 1,
            "registration": name,
            **changes,
            "id": name,
            "permissions": [permission(value) for value in changes.get("permissions", ("A.Read", "B.Read"))],
        }
        for name, changes in wanted.items()
    ]
    content = {
        "version": version,
        "resources": {"graph": {"app_id": MICROSOFT_GRAPH, "identifier": "https://graph.test", "name": "Graph"}},
        "permission_sets": entries,
        "apps": list(apps),
    }
    path = folder / f"catalog-{version}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def graph(*values: str) -> tuple[Permission, ...]:
    """Application permissions of Graph."""
    return tuple(Permission(resource_app_id=MICROSOFT_GRAPH, value=value, type="application") for value in values)


def granted(**changes: Any) -> Grant:
    """A grant of set `one` at version 1, all there."""
    day = datetime(2026, 12, 1, tzinfo=UTC)
    had = graph("A.Read", "B.Read")
    fields: dict[str, Any] = {
        "account_id": "northwind",
        "tenant_id": CONTOSO,
        "permission_set_id": "one",
        "version": 1,
        "accepted": had,
        "permissions": had,
        "entra": Entra.COMPLETE,
        "apps": ("reader",),
        "app_epochs": {},
        "accepted_at": day,
        "verify_until": day,
    }
    return Grant(**(fields | changes))
