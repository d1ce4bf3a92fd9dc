"""Pages of lists: how much, from where, and what comes after."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from shared.cursors import MAX_CURSOR_LENGTH, cursor_of

Row = TypeVar("Row")


class PageParameters(BaseModel):
    """How much of a list, and from where."""

    limit: int = Field(50, ge=1, le=200, description="Items of one page at most.")
    cursor: str | None = Field(None, max_length=MAX_CURSOR_LENGTH, description="`next_cursor` of the page before.")


Page = Annotated[PageParameters, Query()]


def page_of(rows: Sequence[Row], limit: int, position: Callable[[Row], object]) -> tuple[Sequence[Row], str | None]:
    """A page out of rows that were asked for with one more than its limit, and the cursor of the next page."""
    items = rows[:limit]
    return items, cursor_of(position(items[-1])) if len(rows) > limit else None
