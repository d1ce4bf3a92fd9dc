"""Whole lists as streams: page by page from a key onwards, so that memory stays flat and no cursor is held open."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared import spreadsheets
from tenant_registry.queries import HistoryPosition, HistoryQuery, Queries, TenantQuery

if TYPE_CHECKING:
    from shared.mongo import Document

PAGE = 500

_OF_TENANT = ("account_id", "tenant_id", "cloud", "updated_at")
_OF_PROFILE = ("tenant_name", "primary_domain")
_OF_GRANT = (
    "permission_set_id",
    "status",
    "usable",
    "reason",
    "version",
    "apps",
    "missing",
    "granted_at",
    "granted_by",
    "verified_at",
)
TENANT_COLUMNS = (*_OF_TENANT[:2], *_OF_PROFILE, "cloud", *_OF_GRANT, "updated_at")
HISTORY_COLUMNS = (
    "occurred_at",
    "type",
    "account_id",
    "tenant_id",
    "tenant_name",
    "permission_set_id",
    "permission_set_ids",
    "previous_status",
    "status",
    "version",
    "reason",
    "cause",
    "error_code",
    "detail",
    "actor_kind",
    "actor_id",
    "requested_by",
    "channel",
    "attempt_id",
    "id",
)


async def tenants_csv(queries: Queries, query: TenantQuery) -> AsyncIterator[str]:
    """One line for each grant, and one for a tenant without any; tenants in the order of the list.

    Raises:
        PyMongoError: before the first part, nothing has been sent; later on the stream breaks off.
    """
    fields = dict.fromkeys((*_OF_TENANT, *(f"profile.{name}" for name in _OF_PROFILE), "grants"), 1)
    head = spreadsheets.lines([TENANT_COLUMNS])
    while True:
        page = await queries.find_documents(query, limit=PAGE, fields=fields)
        yield head + spreadsheets.lines(row for document in page for row in _tenant_rows(document))
        head = ""
        if len(page) < PAGE:
            return
        query = replace(query, after=page[-1]["_id"])


async def history_csv(queries: Queries, query: HistoryQuery) -> AsyncIterator[str]:
    """One line for each entry, newest first; raises as ``tenants_csv``."""
    head = spreadsheets.lines([HISTORY_COLUMNS])
    async for page in _history(queries, query):
        yield head + spreadsheets.lines(map(_history_row, page))
        head = ""


async def history_jsonl(
    queries: Queries, query: HistoryQuery, entry: Callable[["Document"], dict[str, Any]]
) -> AsyncIterator[str]:
    """One JSON object a line, newest first; ``entry`` makes it of a row. Raises as ``tenants_csv``."""
    async for page in _history(queries, query):
        yield "".join(json.dumps(entry(row), ensure_ascii=False) + "\n" for row in page)


async def _history(queries: Queries, query: HistoryQuery) -> "AsyncIterator[Sequence[Document]]":
    while True:
        page = await queries.find_history(query, limit=PAGE)
        yield page
        if len(page) < PAGE:
            return
        query = replace(query, before=HistoryPosition.of(page[-1]))


def _tenant_rows(document: "Document") -> Iterator[list[object]]:
    profile, grants = document.get("profile") or {}, document.get("grants") or {}
    for grant in [grants[key] for key in sorted(grants)] or [{}]:
        known = {**document, **profile, **grant}
        yield [_cell(name, known.get(name)) for name in TENANT_COLUMNS]


def _history_row(row: "Document") -> list[object]:
    actor = row.get("actor") or {}
    known = {**row, "id": row["_id"], "actor_kind": actor.get("kind"), "actor_id": actor.get("id")}
    return [_cell(name, known.get(name)) for name in HISTORY_COLUMNS]


def _cell(name: str, value: Any) -> object:  # noqa: ANN401 - whatever MongoDB holds
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bool):
        return str(value).lower()
    if name == "missing":
        return " ".join(one["value"] for one in value or ())
    return " ".join(value) if isinstance(value, list) else value
