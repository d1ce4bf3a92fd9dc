"""The Java archives of the Kafka broker: fetched once per user, never used unless their checksum is the locked one."""

import hashlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.cache import user_cache
from launcher.errors import DownloadError

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Jar:
    """One locked archive: Maven coordinates and the checksum it must have."""

    group_id: str
    artifact_id: str
    version: str
    classifier: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Its name in the cache."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact_id}-{self.version}{suffix}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether the file there is this archive, byte for byte."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


def read_lock(lock_file: Path) -> list[Jar]:
    """The archives that a ``jgo.lock.toml`` names.

    Raises:
        DownloadError: an entry has no checksum; such an archive is never fetched.
    """
    jars = []
    for entry in tomllib.loads(lock_file.read_text(encoding="utf-8"))["dependencies"]:
        if not entry.get("sha256"):
            raise DownloadError(
                f"{lock_file}: {entry['artifactId']} has no sha256; renew the lock file with `jgo lock`"
            )
        jars.append(
            Jar(
                group_id=entry["groupId"],
                artifact_id=entry["artifactId"],
                version=entry["version"],
                classifier=entry.get("classifier", ""),
                sha256=entry["sha256"],
            )
        )
    return jars


def ensure_jars(lock_file: Path, *, cache: Path | None = None, progress: Progress | None = None) -> list[Path]:
    """Paths of all locked archives, each verified by its checksum in this call; what is missing is fetched first.

    Several processes may call it at once: an archive appears in the cache whole and verified, or not at all.

    Args:
        lock_file: the ``jgo.lock.toml`` to follow.
        cache: the folder that keeps the archives; by default the user's.
        progress: called with (archives done, archives to fetch), only when something is fetched.

    Raises:
        DownloadError: an archive cannot be fetched, or what arrived is not the locked one.
    """
    cache = cache or user_cache() / "jars"
    cache.mkdir(parents=True, exist_ok=True)
    jars = read_lock(lock_file)
    missing = [jar for jar in jars if not jar.is_at(cache / jar.file_name)]
    if missing:
        from launcher.fetch import fetch  # noqa: PLC0415 - rarely needed, and slow to import

        fetch(missing, cache=cache, progress=progress)
    return [cache / jar.file_name for jar in jars]
