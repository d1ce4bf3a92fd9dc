"""The part of OData that Graph's readers use: `$select`, `$top`, `$skiptoken` and `$filter` by `eq` and `and`."""

import re
from collections.abc import Mapping
from typing import Any

from entra_sandbox.graph_errors import GraphError

_COMPARISON = re.compile(r"(\w+(?:/\w+)?) eq (?:'((?:[^']|'')*)'|(true|false|null))")


def select(query: Mapping[str, str], entry: dict[str, Any]) -> dict[str, Any]:
    """The object with the properties of `$select` alone (400 for one that it does not have)."""
    if not query.get("$select"):
        return entry
    names = [name.strip() for name in query["$select"].split(",")]
    for name in names:
        if name not in entry:
            message = f"Parsing OData Select and Expand failed: Could not find a property named '{name}'."
            raise GraphError(400, "BadRequest", message)
    return {name: value for name, value in entry.items() if name in names or name.startswith("@odata.")}


def page(
    query: Mapping[str, str], entries: list[dict[str, Any]], *, default_size: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The objects of one page, and the token of the next if there is one."""
    size = _number(query.get("$top"), default_size, "$top")
    start = _number(query.get("$skiptoken"), 0, "$skiptoken")
    fitting = [entry for entry in entries if all(entry.get(name) == value for name, value in _criteria(query))]
    shown = [select(query, entry) for entry in fitting[start : start + size]]
    return shown, str(start + size) if start + size < len(fitting) else None


def _criteria(query: Mapping[str, str]) -> list[tuple[str, object]]:
    text = query.get("$filter", "").strip()
    if not text:
        return []
    criteria: list[tuple[str, object]] = []
    for part in re.split(r" and ", text):
        match = _COMPARISON.fullmatch(part.strip().strip("()"))
        if match is None:
            raise GraphError(400, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause specified.")
        name, quoted, literal = match.groups()
        value = quoted.replace("''", "'") if literal is None else {"true": True, "false": False, "null": None}[literal]
        criteria.append((name, value))
    return criteria


def _number(text: str | None, default: int, name: str) -> int:
    if text is None:
        return default
    if not text.isdigit() or (name == "$top" and not 1 <= int(text) <= 999):
        raise GraphError(400, "Request_BadRequest", f"Invalid value specified for the query option '{name}'.")
    return int(text)
