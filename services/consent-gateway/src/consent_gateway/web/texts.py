"""The console's texts: found by key, filled by name. All of them are in ``texts.en.yaml``."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from markupsafe import Markup

LANGUAGE = "en"
# The one that libyaml backs reads ten times as fast; wheels have it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def text(key: str, /, **values: object) -> Markup:
    """The text of a key, escaped together with what fills it; ``Markup`` values, such as times, stay as they are.

    Where a key has the forms ``one`` and ``other``, the value ``count`` chooses.

    Raises:
        KeyError: there is no such text, or a value that it needs wasn't given.
    """
    texts = _texts(LANGUAGE)
    if key not in texts:
        key = f"{key}.one" if values.get("count") == 1 else f"{key}.other"
    return Markup.escape(texts[key]).format(**values)


def plain(key: str, /, **values: object) -> str:
    """The text as it is, to fill another one; whoever renders it escapes it then."""
    return _texts(LANGUAGE)[key].format(**values)


def listed(items: Sequence[str], *, at_most: int = 3) -> str:
    """``a, b and c``; what is beyond ``at_most`` is counted."""
    if len(items) > at_most:
        return plain("list.more", shown=", ".join(items[: at_most - 1]), count=len(items) - at_most + 1)
    return _joined(items, "list.last")


def alternatives(items: Sequence[str]) -> str:
    """``a, b or c``."""
    return _joined(items, "list.or")


def _joined(items: Sequence[str], key: str) -> str:
    return plain(key, shown=", ".join(items[:-1]), last=items[-1]) if len(items) > 1 else "".join(items)


@cache
def _texts(language: str) -> Mapping[str, str]:
    content = files("consent_gateway").joinpath(f"texts.{language}.yaml").read_text(encoding="utf-8")
    return dict(_flat(yaml.load(content, Loader=_LOADER), ""))  # noqa: S506 - both are safe loaders


def _flat(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, value in node.items():
        key = path if name == "_" else f"{path}.{name}" if path else name
        if isinstance(value, str):
            yield key, value
        else:
            yield from _flat(value, key)
