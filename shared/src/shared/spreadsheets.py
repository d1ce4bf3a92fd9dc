"""CSV as spreadsheets open it: RFC 4180, and no cell that a spreadsheet would run."""

import csv
import io
from collections.abc import Iterable, Sequence

# What a spreadsheet takes for a formula, or drops before it looks for one (OWASP, "CSV Injection").
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

MEDIA_TYPE = "text/csv; charset=utf-8"


def lines(rows: Iterable[Sequence[object]]) -> str:
    """The rows as lines. None is an empty cell; a text that could be run gets an apostrophe in front."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    # Spreadsheets look past spaces for the first sign.
    return f"'{value}" if value.lstrip(" ").startswith(_STARTS_FORMULA) else value
