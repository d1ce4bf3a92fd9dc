"""Values of HTML forms, and what a form does."""

from collections.abc import Callable

from starlette.datastructures import FormData

Change = Callable[[FormData], str]
"""Does what a form asks for and says so in a sentence."""


def optional(form: FormData, name: str) -> str | None:
    """A field's text; None for an empty one."""
    return str(form.get(name, "")).strip() or None


def words(form: FormData, name: str) -> tuple[str, ...]:
    """The words of a field, between spaces, commas or line ends."""
    return tuple(str(form.get(name, "")).replace(",", " ").split())


def boolean(form: FormData, name: str) -> bool:
    """Whether a box is ticked."""
    return name in form


def integer(form: FormData, name: str) -> int | None:
    """A whole number; None for an empty field."""
    text = optional(form, name)
    return None if text is None else int(text)


def number(form: FormData, name: str) -> float:
    """A number; 0 for an empty field."""
    return float(optional(form, name) or 0)
