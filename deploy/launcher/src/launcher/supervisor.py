"""Starts parts in the order of their needs, keeps them running, and stops them in reverse."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from launcher.errors import LauncherError
from launcher.parts import Part

WATCH_SECONDS = 0.2
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
# A part that has run this long has recovered: its next restart is quick again.
STEADY_SECONDS = 60.0


class State(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    ENDED = "ended"
    STOPPED = "stopped"


class Listener(Protocol):
    """Is told what happens."""

    def changed(self, name: str, state: State, note: str = "") -> None:
        """A part has a new state; the note has the details that a person needs."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A part and its place in the stack."""

    name: str
    part: Part
    needs: Sequence[str] = ()
    """Members that must be ready before it starts, and stop after it."""
    uses: Sequence[str] = ()
    """Members that it can start without, but that stop after it."""
    once: bool = False
    """It does something and ends: nothing to keep running."""


@dataclass
class _Watched:
    member: Member
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    backoff: float = FIRST_BACKOFF_SECONDS


class Supervisor:
    """Runs the members of one stack."""

    def __init__(self, members: Iterable[Member], listener: Listener) -> None:
        self._watched = {member.name: _Watched(member) for member in members}
        self._listener = listener

    async def start(self) -> None:
        """Start all members, each when what it needs is ready, and return when all are.

        Raises:
            LauncherError: a member failed; those that run are left to `stop`.
        """
        for name in self._watched:
            self._listener.changed(name, State.WAITING)
        failed: LauncherError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for watched in self._watched.values():
                    group.create_task(self._start(watched))
        except* LauncherError as errors:
            # Raised from in here it would come wrapped in a group, by early releases of Python 3.11.
            failed = LauncherError(str(errors.exceptions[0]))
        if failed is not None:
            raise failed

    async def keep_running(self) -> None:
        """Restart whatever ends, with growing pauses, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for watched in self._watched.values():
                if not watched.member.once:
                    group.create_task(self._keep_running(watched))

    async def stop(self) -> None:
        """Stop all members, each after those that need it."""
        left = dict(self._watched)
        while left:
            used = {name for watched in left.values() for name in (*watched.member.needs, *watched.member.uses)}
            last = [name for name in left if name not in used]
            await asyncio.gather(*(self._stop(left.pop(name)) for name in last))

    async def kill(self) -> None:
        """End all members at once."""
        await asyncio.gather(*(watched.member.part.process.kill() for watched in self._watched.values()))

    async def _start(self, watched: _Watched) -> None:
        member = watched.member
        for need in member.needs:
            await self._watched[need].ready.wait()
        begun = time.monotonic()
        self._listener.changed(member.name, State.STARTING)
        await member.part.start()
        watched.ready.set()
        self._listener.changed(member.name, State.READY, f"{time.monotonic() - begun:.1f} s")

    async def _keep_running(self, watched: _Watched) -> None:
        member, process = watched.member, watched.member.part.process
        while True:
            begun = time.monotonic()
            while process.running:  # noqa: ASYNC110 - see ChildProcess.wait
                await asyncio.sleep(WATCH_SECONDS)
            if time.monotonic() - begun > STEADY_SECONDS:
                watched.backoff = FIRST_BACKOFF_SECONDS
            self._listener.changed(
                member.name,
                State.ENDED,
                f"ended with status {process.exit_status}, starts again in {watched.backoff:g} s\n{process.log_tail()}",
            )
            await asyncio.sleep(watched.backoff)
            watched.backoff = min(watched.backoff * 2, LONGEST_BACKOFF_SECONDS)
            with contextlib.suppress(LauncherError):  # the next round tells why
                await self._start(watched)

    async def _stop(self, watched: _Watched) -> None:
        if watched.member.part.process.running:
            await watched.member.part.stop()
            self._listener.changed(watched.member.name, State.STOPPED)
