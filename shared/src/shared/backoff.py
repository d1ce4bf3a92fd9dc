"""Waiting between attempts at something that will work again."""

import random


class Backoff:
    """Delays that double up to a cap, each with jitter of a half; ``reset`` after a success."""

    def __init__(self, *, first: float = 0.2, cap: float = 10.0) -> None:
        self._first = first
        self._cap = cap
        self._next = first

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        delay = self._next
        self._next = min(delay * 2, self._cap)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> None:
        """The last attempt worked: start from the first delay again."""
        self._next = self._first
