"""A child process with a log file, a bounded stop, and no life after its parent's."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from launcher import tether
from launcher.errors import StartError

LOG_LIMIT_BYTES = 20 * 1024 * 1024
POLL_SECONDS = 0.03

Probe = Callable[[], Awaitable[bool]]


class ChildProcess:
    """A program under our care; it can be started again after it has ended.

    It runs in a session of its own, so that Ctrl-C at the terminal reaches only the launcher, which then decides the
    order. It must be started from a thread that lives as long as the program shall (the main thread), because the
    kernel ends the program together with that thread.

    Args:
        name: what messages call it.
        argv: the command; the first item is an absolute path.
        env: the whole environment of the child, nothing is inherited.
        log_file: receives its standard output and error; kept over restarts.
        cwd: its working directory.
    """

    def __init__(
        self, name: str, *, argv: Sequence[str], env: Mapping[str, str], log_file: Path, cwd: Path | None = None
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self.log_file = log_file
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the current or last run.

        Raises:
            RuntimeError: it was never started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the program is alive now."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Exit status of the last run (negative: the signal's number), None while it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Start the program and return at once.

        Raises:
            RuntimeError: it runs already.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_LIMIT_BYTES:
            self.log_file.replace(self.log_file.with_suffix(self.log_file.suffix + ".1"))
        tied = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *self.argv]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command comes from the launcher's own table
                tied,
                env=self.env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def wait_until_ready(self, probe: Probe, *, timeout: float, every: float = POLL_SECONDS) -> None:
        """Return when `probe`, called `every` so many seconds, first answers True; it bounds its own calls.

        Raises:
            StartError: the program ended, or was not ready after `timeout` seconds. The message holds the log's tail.
        """
        deadline = time.monotonic() + timeout
        while True:
            if not self.running:
                raise StartError(f"{self.name} ended with status {self.exit_status}\n{self.log_tail()}")
            if await probe():
                return
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready after {timeout:.0f} s\n{self.log_tail()}")
            await asyncio.sleep(every)

    async def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the program has ended.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            while self.running:  # noqa: ASYNC110 - pidfds are refused in some containers; polling works everywhere
                await asyncio.sleep(POLL_SECONDS)
        return self.exit_status or 0

    async def stop(self, *, grace: float = 15.0) -> None:
        """End the program: SIGTERM, and SIGKILL if it has not ended `grace` seconds later. Safe to repeat."""
        if not self.running:
            return
        self.send_signal(signal.SIGTERM)
        try:
            await self.wait(grace)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the program as a crash would (SIGKILL) and return when it is gone."""
        self.send_signal(signal.SIGKILL)
        await self.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; a program that has just ended is no error."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines of the log, with the file's name, for an error message."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(0, self.log_file.stat().st_size - 16_384))
                tail = log.read().decode(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            tail = []
        shown = "\n".join(f"    {line[:400]}" for line in tail) or "    (empty)"
        return f"  last lines of {self.log_file}:\n{shown}"
