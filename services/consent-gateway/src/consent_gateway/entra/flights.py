"""One question at a time: whoever asks the same thing meanwhile gets the same answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Flights(Generic[Value]):
    """What is under way, by key. An answer is shared by those who wait for it, and kept by nobody."""

    def __init__(self) -> None:
        self._flying: dict[str, asyncio.Task[Value]] = {}

    async def join(self, key: str, ask: Callable[[], Awaitable[Value]]) -> Value:
        """The answer of the question that is under way, or of a new one; raises what ``ask`` raises, to all of them.

        Who stops waiting ends nothing for the others.
        """
        flight = self._flying.get(key)
        if flight is None:
            flight = asyncio.create_task(_run(ask))
            self._flying[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def _landed(self, key: str, flight: asyncio.Task[Value]) -> None:
        self._flying.pop(key, None)
        if not flight.cancelled():
            # Seen even where nobody waits any more.
            flight.exception()


async def _run(ask: Callable[[], Awaitable[Value]]) -> Value:
    return await ask()
