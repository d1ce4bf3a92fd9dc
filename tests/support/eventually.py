"""Waiting for a condition, bounded, with a failure that says what was seen last."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

Seen = TypeVar("Seen")

POLL_SECONDS = 0.02
# What takes long is asked less often, so that asking does not keep the machine from what is waited for.
SLOWEST_POLL_SECONDS = 0.2
SHARE_OF_WAITING = 0.05


async def eventually(
    look: Callable[[], Awaitable[Seen]],
    accept: Callable[[Seen], object] = bool,
    *,
    within: float = 15.0,
    what: str = "",
) -> Seen:
    """Call `look` until `accept` agrees with what it returns, and return that.

    An AssertionError raised by `look` or `accept` counts as "not yet", so both may hold asserts. Any other exception
    is a failure of the test.

    Raises:
        AssertionError: `within` seconds passed; the message names `what`, and what was seen last.
    """
    begun = time.monotonic()
    deadline = begun + within
    last: Any = "nothing"
    while True:
        try:
            seen = await look()
            last = seen
            if accept(seen):
                return seen
        except AssertionError as error:
            last = error
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"not within {within:g} s: {what or look}; last seen: {last!r}")
        await asyncio.sleep(min(max(POLL_SECONDS, (now - begun) * SHARE_OF_WAITING), SLOWEST_POLL_SECONDS))
