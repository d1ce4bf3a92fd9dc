"""The kinds of things a stack is made of, as the supervisor sees them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx

from launcher.errors import StartError
from launcher.ports import LOOPBACK, is_taken
from launcher.process import ChildProcess

READY_SECONDS = 120.0
JOB_SECONDS = 120.0
PROBE_SECONDS = 2.0
# Not more often: services may log every request.
PROBE_EVERY_SECONDS = 0.1


class Part(Protocol):
    """Something that can be started, watched and stopped; `EmbeddedMongo` and `EmbeddedKafka` are such parts too."""

    process: ChildProcess

    async def start(self) -> None:
        """Start it and return when it is ready.

        Raises:
            LauncherError: it did not become ready.
        """

    async def stop(self) -> None:
        """Stop it in an orderly way, in bounded time."""


class HttpService:
    """A process that is ready when its ``GET /readyz`` answers 200."""

    def __init__(
        self,
        name: str,
        *,
        argv: Sequence[str],
        env: Mapping[str, str],
        port: int,
        log_file: Path,
        cwd: Path | None = None,
    ) -> None:
        self.process = ChildProcess(name, argv=argv, env=env, log_file=log_file, cwd=cwd)
        self._port = port
        self._ready_url = f"http://{LOOPBACK}:{port}/readyz"

    async def start(self) -> None:
        """Start it and return when it is ready."""
        self.process.spawn()
        # Not through a proxy of the shell's: it is on this machine.
        async with httpx.AsyncClient(trust_env=False, timeout=PROBE_SECONDS) as client:
            await self.process.wait_until_ready(
                lambda: self._is_ready(client), timeout=READY_SECONDS, every=PROBE_EVERY_SECONDS
            )

    async def stop(self) -> None:
        """Stop it in an orderly way (SIGTERM, then SIGKILL)."""
        await self.process.stop()

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        if not is_taken(self._port):  # cheaper to ask while the program starts
            return False
        try:
            return (await client.get(self._ready_url)).status_code == 200
        except httpx.HTTPError:
            return False


class Job:
    """A process that does something and ends; what needs it waits until it has succeeded."""

    def __init__(self, name: str, *, argv: Sequence[str], env: Mapping[str, str], log_file: Path) -> None:
        self.process = ChildProcess(name, argv=argv, env=env, log_file=log_file)

    async def start(self) -> None:
        """Run it to its end."""
        self.process.spawn()
        try:
            status = await self.process.wait(JOB_SECONDS)
        except TimeoutError:
            await self.process.kill()
            status = -9
        if status != 0:
            raise StartError(f"{self.process.name} failed with status {status}\n{self.process.log_tail()}")

    async def stop(self) -> None:
        """End it if it has not ended by itself."""
        await self.process.stop()
