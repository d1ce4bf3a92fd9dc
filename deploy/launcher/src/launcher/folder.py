"""The folder that holds everything of one stack: data, logs, generated secrets, and the lock of whoever runs it."""

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from launcher.errors import LauncherError


class StackFolder:
    """``.local/`` of the repository by default."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @property
    def logs(self) -> Path:
        """One log file for each process."""
        return self.path / "logs"

    @contextmanager
    def locked(self, about: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for this process; the lock goes with the process, however it ends.

        Args:
            about: what others may read about the running stack, see `running`.

        Raises:
            LauncherError: another process runs a stack on this folder; the message names it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "running.json").open("a+", encoding="utf-8") as file:
            if not _try_lock(file):
                other = _read(file)
                raise LauncherError(
                    f"a stack on {self.path} runs already (process {other.get('pid')}, {other.get('console')}). "
                    "Stop it with Ctrl-C where it was started, or choose another folder with --data"
                )
            file.truncate(0)
            json.dump({"pid": os.getpid(), **about}, file)
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)

    def running(self) -> dict[str, Any] | None:
        """What the stack that runs on this folder told about itself; None when none runs."""
        try:
            with (self.path / "running.json").open("r+", encoding="utf-8") as file:
                return None if _try_lock(file) else _read(file)
        except FileNotFoundError:
            return None

    def secrets(self) -> dict[str, str]:
        """The secrets of this stack by the variable that carries them; made at the first call, for its owner only."""
        file = self.path / "secrets.json"
        if not file.exists():
            made = {
                "CONSOLE__SESSION_SECRET": secrets.token_urlsafe(48),
                "DELIVERY__SECRETS_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            }
            fresh = file.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(made, stream, indent=2)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(file)
        read: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return read


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        about: dict[str, Any] = json.load(file)
    except ValueError:  # it is just being written
        about = {}
    return about
