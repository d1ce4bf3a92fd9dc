"""One check of a tenant at a time in this process; who asks for the same meanwhile shares the next one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

Found = TypeVar("Found")


@dataclass(kw_only=True)
class _Round(Generic[Found]):
    """A check that hasn't begun: who asks for it meanwhile shares it."""

    set_ids: set[str] = field(default_factory=set)
    task: "asyncio.Task[Found] | None" = None


class Rounds(Generic[Found]):
    """What is under way and what comes after it. An answer to an earlier question is never taken for a later one."""

    def __init__(self) -> None:
        self._rounds: dict[tuple[str, str], _Round[Found]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, tenant_id: str) -> asyncio.Lock:
        """The tenant's turn: whoever has it may ask Entra about the tenant."""
        # Whoever waits keeps the lock alive, so that memory doesn't grow with the tenants ever seen.
        return self._turns.setdefault(tenant_id, asyncio.Lock())

    async def join(
        self, account_id: str, tenant_id: str, set_ids: set[str], check: Callable[[set[str]], Awaitable[Found]]
    ) -> Found:
        """What a check found that began after this call; ``check`` is given the sets that anybody asked for by then.

        Who stops waiting ends nothing for the others; what ``check`` raises is raised to all of them.
        """
        key = (account_id, tenant_id)
        following = self._rounds.setdefault(key, _Round())
        following.set_ids |= set_ids
        if following.task is None:
            following.task = asyncio.create_task(self._run(key, following, check))
            following.task.add_done_callback(_seen)
        return await asyncio.shield(following.task)

    async def _run(
        self, key: tuple[str, str], this: _Round[Found], check: Callable[[set[str]], Awaitable[Found]]
    ) -> Found:
        async with self.turn(key[1]):
            # From here on it is under way, and who comes now begins another one.
            del self._rounds[key]
            return await check(this.set_ids)


def _seen(done: "asyncio.Task[Found]") -> None:
    """An error is seen even where nobody waits any more."""
    if not done.cancelled():
        done.exception()
