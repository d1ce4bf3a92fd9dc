"""Many small writes as few large ones: what comes while a write is under way goes out with the next."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Note = TypeVar("Note")

MOST = 200


class Notes(Generic[Note]):
    """Each ``add`` returns when its note is written, or raises what the write that it went with raised."""

    def __init__(self, write: Callable[[list[Note]], Awaitable[object]]) -> None:
        self._write = write
        self._waiting: list[tuple[Note, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def add(self, note: Note) -> None:
        """Write it, with whatever else there is to write."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((note, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        try:
            while self._waiting:
                going, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                try:
                    await self._write([note for note, _ in going])
                except Exception as error:  # noqa: BLE001 - it is handed to those who wait
                    _settle(going, error)
                else:
                    _settle(going, None)
        finally:
            self._writer = None


def _settle(going: list[tuple[Note, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, done in going:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
