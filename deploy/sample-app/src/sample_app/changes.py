"""Tells open pages that there is something new to show."""

import asyncio
from collections.abc import AsyncIterator


class Changes:
    """A counter that many can wait on. It says that something changed, never what."""

    def __init__(self) -> None:
        self._version = 0
        self._changed = asyncio.Event()
        self._closed = False

    def announce(self) -> None:
        """Wake everybody who waits."""
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """End every stream, so that the process can stop."""
        self._closed = True
        self.announce()

    async def stream(self, *, heartbeat_seconds: float = 15.0) -> AsyncIterator[str]:
        """Server-sent events: one ``changed`` at once, one after each change, and a comment after silence."""
        seen = -1
        while not self._closed:
            if seen != self._version:
                seen = self._version
                yield f"event: changed\nid: {seen}\ndata: {seen}\n\n"
                continue
            try:
                await asyncio.wait_for(self._changed.wait(), heartbeat_seconds)
            except TimeoutError:
                yield ": still here\n\n"
