"""How results are printed: three figures of a few interleaved rounds, and ratios within a round."""

from collections.abc import Sequence
from math import ceil
from statistics import median

ROUNDS = 3


def spread(values: Sequence[float], *, digits: int = 0) -> str:
    """Minimum / median / maximum."""
    return " / ".join(f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def table(title: str, rows: Sequence[Sequence[str]], *, head: Sequence[str]) -> str:
    """A table for people, aligned, that is valid Markdown too."""
    cells = [list(head), ["---"] * len(head), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    cells[1] = ["-" * width for width in widths]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return f"\n{title}\n\n" + "\n".join(lines) + "\n"
