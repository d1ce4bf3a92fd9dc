"""The Java archives of the Kafka broker: fetched once per user, never used unless their checksum is the locked one."""

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext, PythonResolver

from launcher.cache import user_cache
from launcher.errors import DownloadError

DOWNLOADS_AT_ONCE = 8
TIMEOUT_SECONDS = 30
# requests reads the first two only; the others are what people set for curl, pip and OpenSSL.
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT")

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
        with _ca_bundle_of_the_shell(), tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as staging:
            _fetch_all(missing, staging=Path(staging), cache=cache, progress=progress)
    return [cache / jar.file_name for jar in jars]


def _fetch_all(jars: list[Jar], *, staging: Path, cache: Path, progress: Progress | None) -> None:
    # A repository of its own: jgo writes an archive in place, so what a broken download leaves must not look complete.
    # The user's jgo settings may name a mirror for "central".
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    context = MavenContext(
        resolver=PythonResolver(), repo_cache=staging, remote_repos=repositories, timeout=TIMEOUT_SECONDS
    )
    if progress:
        progress(0, len(jars))
    pool = ThreadPoolExecutor(DOWNLOADS_AT_ONCE)
    try:
        futures = [pool.submit(_fetch, jar, context=context, cache=cache) for jar in jars]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            if progress:
                progress(done, len(jars))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _fetch(jar: Jar, *, context: MavenContext, cache: Path) -> None:
    artifact = context.project(jar.group_id, jar.artifact_id).at_version(jar.version).artifact(jar.classifier)
    try:  # requests' errors are OSErrors
        arrived = context.resolver.download(artifact)
    except (RuntimeError, OSError) as error:
        raise DownloadError(
            f"cannot fetch {jar.file_name} of Kafka from Maven Central: {error}. "
            "Check the network (behind a proxy that signs its own certificates, set REQUESTS_CA_BUNDLE), "
            "or set KAFKA_HOME to an unpacked Kafka 4."
        ) from error
    if arrived is None or not jar.is_at(arrived):
        raise DownloadError(f"{jar.file_name} as fetched does not have the sha256 of the lock file; it was not used")
    shutil.move(arrived, cache / jar.file_name)  # one file system, so this is an atomic rename


@contextmanager
def _ca_bundle_of_the_shell() -> Iterator[None]:
    before = os.environ.get(CA_VARIABLES[0])
    bundle = next((value for name in CA_VARIABLES if (value := os.environ.get(name))), None)
    if bundle is not None:
        os.environ[CA_VARIABLES[0]] = bundle
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(CA_VARIABLES[0], None)
