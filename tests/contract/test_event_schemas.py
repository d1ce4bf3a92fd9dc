"""The checked-in contracts: what the code reads and writes is what they say, and they only ever grow."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # ships no types
import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema

from shared.contracts import SERVICES, asyncapi_of, incompatibilities, schema_of
from shared.events import EVENT_TYPES, PermissionGranted, decode, encode
from shared.topics import TOPICS

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "shared" / "schemas"
KINDS = {kind.type_name: kind for kind in EVENT_TYPES.values()}


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def schema(name: str) -> Any:
    return load(SCHEMAS / f"{name}.v1.json")


def example(name: str) -> Any:
    return load(SCHEMAS / "examples" / f"{name}.v1.json")


def test_there_is_a_schema_and_an_example_of_each_type_and_of_nothing_else() -> None:
    names = {f"{name}.v1.json" for name in KINDS}
    assert {path.name for path in SCHEMAS.glob("*.json")} == names
    assert {path.name for path in (SCHEMAS / "examples").glob("*.json")} == names


@pytest.mark.parametrize("name", KINDS)
def test_the_schema_is_that_of_the_code(name: str) -> None:
    assert schema(name) == schema_of(KINDS[name]), "run make docs"


@pytest.mark.parametrize("name", KINDS)
def test_the_code_breaks_nobody_who_relies_on_the_schema(name: str) -> None:
    assert incompatibilities(schema(name), schema_of(KINDS[name])) == []


@pytest.mark.parametrize("name", KINDS)
def test_the_example_is_read_and_written_as_it_stands(name: str) -> None:
    """Golden records: they are never regenerated, so a change of the wire form shows here."""
    golden = example(name)
    headers = [(header, text.encode()) for header, text in golden["headers"].items()]
    event = decode(headers, json.dumps(golden["value"]).encode())
    key, value, written = encode(event)
    assert key.decode() == golden["key"]
    assert {header: text.decode() for header, text in written} == golden["headers"]
    assert among(json.loads(value), golden["value"]) == golden["value"]


def among(written: Any, golden: Any) -> Any:
    """What was written, without the fields that the golden record is older than, at any depth."""
    if isinstance(written, dict) and isinstance(golden, dict):
        return {field: among(inner, golden[field]) for field, inner in written.items() if field in golden}
    if isinstance(written, list) and isinstance(golden, list) and len(written) == len(golden):
        return [among(*pair) for pair in zip(written, golden, strict=True)]
    return written


@pytest.mark.parametrize("name", KINDS)
def test_the_example_is_valid_by_its_schema(name: str) -> None:
    validator = jsonschema.Draft202012Validator(schema(name), format_checker=jsonschema.FormatChecker())
    validator.check_schema(schema(name))
    validator.validate(example(name)["value"])


def without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    target = changed
    for name in path[:-1]:
        target = target[name]
    del target[path[-1]]
    return changed


def with_(document: dict[str, Any], value: object, *path: str) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    target = changed
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return changed


GRANTED = schema_of(PermissionGranted)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (without(GRANTED, "properties", "reason"), "reason: was removed"),
        (with_(GRANTED, {"type": "integer"}, "properties", "status"), "status: string is no longer accepted"),
        (with_(GRANTED, {"type": "string"}, "properties", "reason"), "reason: null is no longer accepted"),
        (with_(GRANTED, [*GRANTED["required"], "reason"], "required"), "reason: is newly required"),
        (with_(GRANTED, GRANTED["required"][1:], "required"), "account_id: is no longer always there"),
        (with_(GRANTED, "^x$", "properties", "account_id", "pattern"), "account_id: pattern"),
        (with_(GRANTED, 100, "properties", "revision", "minimum"), "revision: minimum"),
        (with_(GRANTED, 100, "properties", "version", "maximum"), "version: maximum"),
        (with_(GRANTED, ["user"], "$defs", "Actor", "properties", "kind", "enum"), "actor.kind: values"),
        (without(GRANTED, "$defs", "Permission", "properties", "value"), "missing[].value: was removed"),
        (
            with_(GRANTED, {"type": "string"}, "properties", "app_epochs", "additionalProperties"),
            "app_epochs{}: integer",
        ),
    ],
)
def test_a_change_that_breaks_somebody_is_named(changed: dict[str, Any], complaint: str) -> None:
    assert any(complaint in problem for problem in incompatibilities(GRANTED, changed))


@pytest.mark.parametrize(
    "changed",
    [
        with_(GRANTED, {"type": "string"}, "properties", "new_field"),
        with_(GRANTED, {"anyOf": [{"type": "string"}, {"type": "null"}]}, "properties", "status"),
        with_(GRANTED, "Other words.", "properties", "status", "description"),
        without(GRANTED, "properties", "account_id", "pattern"),
        with_(
            GRANTED,
            [*GRANTED["$defs"]["Actor"]["properties"]["kind"]["enum"], "partner"],
            *("$defs", "Actor", "properties", "kind", "enum"),
        ),
    ],
)
def test_a_change_that_breaks_nobody_passes(changed: dict[str, Any]) -> None:
    assert incompatibilities(GRANTED, changed) == []


@pytest.mark.parametrize("service", SERVICES)
def test_the_asyncapi_document_is_that_of_the_code_and_well_formed(service: str) -> None:
    document = load(ROOT / "docs" / "asyncapi" / f"{service}.json")
    assert document == asyncapi_of(service), "run make docs"
    ApplicationSchema.model_validate(document)
    for reference in references(document):
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def references(document: Any) -> list[str]:
    if isinstance(document, dict):
        own = [document["$ref"]] if isinstance(document.get("$ref"), str) else []
        return own + [item for value in document.values() for item in references(value)]
    return [item for value in document for item in references(value)] if isinstance(document, list) else []


def test_every_topic_is_in_the_document_of_whoever_writes_or_reads_it() -> None:
    for topic in TOPICS:
        assert topic.name in asyncapi_of(topic.producer)["channels"]
        for service in topic.consumers:
            assert topic.name in asyncapi_of(service)["channels"]
