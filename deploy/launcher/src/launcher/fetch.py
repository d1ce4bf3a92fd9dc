"""Fetching the Java archives from Maven Central, by jgo. It's a module of its own because jgo takes long to import."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext, PythonResolver

from launcher.errors import DownloadError
from launcher.jars import Jar, Progress

DOWNLOADS_AT_ONCE = 8
TIMEOUT_SECONDS = 30
ATTEMPTS = 3
# requests reads the first two only; the others are what people set for curl, pip and OpenSSL.
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT")


def fetch(jars: Sequence[Jar], *, cache: Path, progress: Progress | None) -> None:
    """Bring the archives into the cache, each whole and verified.

    Raises:
        DownloadError: an archive cannot be fetched, or what arrived is not the locked one; those before it are kept.
    """
    with _ca_bundle_of_the_shell(), tempfile.TemporaryDirectory(dir=cache, prefix=".fetching-") as staging:
        _fetch_all(jars, staging=Path(staging), cache=cache, progress=progress)


def _fetch_all(jars: Sequence[Jar], *, staging: Path, cache: Path, progress: Progress | None) -> None:
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
    trouble = ""
    for _ in range(ATTEMPTS):
        try:
            arrived = context.resolver.download(artifact)
        except (RuntimeError, OSError) as error:  # requests' errors are OSErrors
            trouble = (
                f"{error}. Check the network (behind a proxy that signs its own certificates, set REQUESTS_CA_BUNDLE), "
                "or set KAFKA_HOME to an unpacked Kafka 4"
            )
        else:
            if arrived is not None and jar.is_at(arrived):
                shutil.move(arrived, cache / jar.file_name)  # one file system, so this is an atomic rename
                return
            trouble = "what arrived does not have the sha256 of the lock file, so it was not used"
        if artifact.cached_path is not None:
            artifact.cached_path.unlink(missing_ok=True)
    raise DownloadError(f"cannot fetch {jar.file_name} of Kafka from Maven Central: {trouble}")


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
