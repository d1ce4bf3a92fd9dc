"""An OpenAPI document's examples, held against its own schemas (OpenAPI 3.1: JSON Schema 2020-12)."""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # no stubs

JSON = ("application/json", "application/jsonl")


def examples_of(document: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(where, schema, example) for each example of a component, a body or an answer."""
    for name, schema in document["components"]["schemas"].items():
        for example in (*schema.get("examples", ()), *([schema["example"]] if "example" in schema else [])):
            yield name, schema, example
    for where, content in _contents(document):
        if "example" in content:
            yield where, content["schema"], content["example"]


def unsound(document: Mapping[str, Any]) -> list[str]:
    """Examples that are not what their schema says, or have a field that it doesn't know."""
    found = []
    for where, schema, example in examples_of(document):
        whole = {"components": document["components"], "allOf": [schema]}
        filled = _with_nulls(document, schema, example)
        errors = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(filled)
        found += [f"{where}: {error.json_path}: {error.message}" for error in errors]
        found += [f"{where}: {name} is in no schema" for name in _unknown(document, schema, example)]
    return found


def without_example(document: Mapping[str, Any]) -> list[str]:
    """Bodies and good answers in JSON that no example shows."""
    return [where for where, content in _contents(document) if not _has_example(document, content)]


def _contents(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            good = {status: each for status, each in operation["responses"].items() if status.startswith("2")}
            for status, answer in {**good, "body": operation.get("requestBody", {})}.items():
                content = answer.get("content", {}).get("application/json")
                if content is not None:
                    yield f"{method.upper()} {path} {status}", content


def _has_example(document: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    schema = _resolved(document, content.get("schema", {}))
    # A page needs none where its items have one.
    items = _resolved(document, schema.get("properties", {}).get("items", {}).get("items", {}))
    return "example" in content or any("example" in one or one.get("examples") for one in (schema, items))


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _with_nulls(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> Any:
    """The example with the nulls that FastAPI leaves out of every document (`exclude_none`)."""
    schema = _resolved(document, schema)
    if isinstance(value, list):
        return [_with_nulls(document, schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    nullable = {name: None for name, each in properties.items() if {"type": "null"} in each.get("anyOf", ())}
    given = {name: _with_nulls(document, properties.get(name, {}), item) for name, item in value.items()}
    return {**nullable, **given}


def _unknown(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any) -> list[str]:
    """Names of fields that an example has and its schema doesn't: they were renamed, or are gone."""
    schema = _resolved(document, schema)
    if isinstance(value, list):
        return [name for item in value for name in _unknown(document, schema.get("items", {}), item)]
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return []
    found = [name for name in value if name not in properties]
    for name, item in value.items():
        found += _unknown(document, properties.get(name, {}), item)
    return found
