"""Names to addresses for the sender: on threads that one owner's hanging names can't use up."""

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

# getaddrinfo can't be interrupted: a look-up that hangs keeps its thread when nobody waits for it any more.
RESOLVER_THREADS = 64
LOOKUPS_PER_OWNER = 8


@dataclass(slots=True)
class Dial:
    """What one request's connection is for; the client's inner tasks inherit it with the context."""

    owner: str
    dialled: bool = False


dial: ContextVar[Dial | None] = ContextVar("dial", default=None)


class Resolver(AbstractResolver):
    """``getaddrinfo``, which honours the host's own configuration, with a bound on each owner's running look-ups."""

    def __init__(self, *, threads: int = RESOLVER_THREADS, per_owner: int = LOOKUPS_PER_OWNER) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")
        self._per_owner = per_owner
        self._running: Counter[str] = Counter()

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of the host, for the owner that the request's ``Dial`` names.

        Raises:
            OSError: there are none, or too many of the owner's look-ups have not come back yet.
        """
        request = dial.get()
        owner = request.owner if request is not None else ""
        if self._running[owner] >= self._per_owner:
            raise OSError(errno.EAGAIN, "too many names of one owner are being resolved")
        loop = asyncio.get_running_loop()
        lookup = self._threads.submit(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        self._running[owner] += 1

        def ended(_: "Future[Any]") -> None:
            # A thread may outlive the loop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._ended, owner)

        lookup.add_done_callback(ended)
        infos = await asyncio.wrap_future(lookup)
        return [
            ResolveResult(
                hostname=host,
                host=str(sockaddr[0]),
                port=int(sockaddr[1]),
                family=found,
                proto=proto,
                flags=socket.AI_NUMERICHOST,
            )
            for found, _, proto, _, sockaddr in infos
        ]

    def _ended(self, owner: str) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]

    @override
    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
