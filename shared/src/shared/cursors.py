"""Opaque cursors: where a page of a list ended, as text that a client hands back unread."""

import base64
import binascii
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from shared.problems import Problem

Position = TypeVar("Position")

MAX_CURSOR_LENGTH = 1000


def cursor_of(position: object) -> str:
    """The cursor of a position; it grants nothing: what a caller sees comes from its token."""
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
