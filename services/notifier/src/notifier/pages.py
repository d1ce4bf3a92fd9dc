"""Opaque cursors: where a page ended, as text that a client hands back unread."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from shared.problems import Problem

Position = TypeVar("Position")
Row = TypeVar("Row")

MAX_CURSOR_LENGTH = 500


class PageParameters(BaseModel):
    """How much of a list, and from where."""

    limit: int = Field(50, ge=1, le=200, description="Items of one page at most.")
    cursor: str | None = Field(None, max_length=MAX_CURSOR_LENGTH, description="`next_cursor` of the page before.")


Page = Annotated[PageParameters, Query()]


def cursor_of(position: object) -> str:
    """The cursor of a position; it grants nothing: what a caller sees comes from the token."""
    return base64.urlsafe_b64encode(TypeAdapter(type(position)).dump_json(position)).decode().rstrip("=")


def position_of(cursor: str | None, kind: type[Position]) -> Position | None:
    """The position of a cursor.

    Raises:
        Problem: 422 for what isn't a cursor of this list.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return TypeAdapter(kind).validate_json(raw)
    except (binascii.Error, ValueError, ValidationError):
        detail = "The cursor is not one of this list. Start again without a cursor."
        raise Problem(422, "invalid_cursor", detail) from None


def page_of(rows: Sequence[Row], limit: int, position: Callable[[Row], object]) -> tuple[Sequence[Row], str | None]:
    """A page out of rows that were asked for with one more than its limit, and the cursor of the next page."""
    items = rows[:limit]
    return items, cursor_of(position(items[-1])) if len(rows) > limit else None
