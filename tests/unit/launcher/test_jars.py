import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher import fetch
from launcher.errors import DownloadError
from launcher.jars import Jar, ensure_jars, read_lock
from launcher.kafka import FILES

CONTENT = b"the archive"
LOCK = """
[[dependencies]]
groupId = "org.example"
artifactId = "broker"
version = "1.0"
packaging = "jar"
sha256 = "{sha256}"
"""


class Repository:
    """Stands in for Maven Central: delivers the same bytes for everything."""

    def __init__(self, content: bytes, *, failures: int = 0) -> None:
        self.content = content
        self.failures = failures
        self.asked = 0

    def download(self, artifact: SimpleNamespace) -> Path:
        self.asked += 1
        assert not artifact.cached_path.exists(), "jgo refuses to overwrite"
        artifact.cached_path.parent.mkdir(parents=True, exist_ok=True)
        if self.asked <= self.failures:
            raise OSError("connection reset")
        artifact.cached_path.write_bytes(self.content)
        return Path(artifact.cached_path)


@pytest.fixture
def lock_file(tmp_path: Path) -> Path:
    file = tmp_path / "jgo.lock.toml"
    file.write_text(LOCK.format(sha256=hashlib.sha256(CONTENT).hexdigest()))
    return file


def use(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PythonResolver", lambda: repository)


def test_an_archive_is_fetched_once_and_kept(lock_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(CONTENT)
    use(repository, monkeypatch)
    told: list[tuple[int, int]] = []
    for _ in range(2):
        (path,) = ensure_jars(lock_file, cache=tmp_path / "cache", progress=lambda *step: told.append(step))
        assert path.read_bytes() == CONTENT
    assert repository.asked == 1
    assert told == [(0, 1), (1, 1)]


def test_an_archive_with_another_checksum_is_never_kept(
    lock_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Repository(b"something else"), monkeypatch)
    with pytest.raises(DownloadError, match=r"broker-1\.0\.jar .* does not have the sha256 of the lock file"):
        ensure_jars(lock_file, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_fetch_that_fails_is_tried_again_and_then_said(
    lock_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Repository(CONTENT, failures=2), monkeypatch)
    (path,) = ensure_jars(lock_file, cache=tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    use(Repository(CONTENT, failures=3), monkeypatch)
    with pytest.raises(DownloadError, match=r"cannot fetch broker-1\.0\.jar .*: connection reset\. .* KAFKA_HOME"):
        ensure_jars(lock_file, cache=tmp_path / "other")


def test_an_archive_that_was_changed_in_the_cache_is_fetched_again(
    lock_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Repository(CONTENT), monkeypatch)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "broker-1.0.jar").write_bytes(b"half of it")
    (path,) = ensure_jars(lock_file, cache=cache)
    assert path.read_bytes() == CONTENT


def test_a_lock_entry_without_a_checksum_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "jgo.lock.toml"
    file.write_text(LOCK.format(sha256=""))
    with pytest.raises(DownloadError, match="broker has no sha256"):
        read_lock(file)


def test_the_lock_file_of_kafka_is_consistent() -> None:
    locked = read_lock(FILES / "jgo.lock.toml")
    kafka = {jar.version for jar in locked if jar.group_id == "org.apache.kafka"}
    assert kafka == {"4.3.1"}, "the broker and its client library must be of one version"
    assert any(jar.artifact_id == "slf4j-simple" for jar in locked)
    assert not any(jar.artifact_id.startswith("log4j-slf4j") for jar in locked)


def test_a_classifier_is_part_of_the_file_name() -> None:
    jar = Jar(group_id="g", artifact_id="a", version="1", classifier="linux", sha256="0")
    assert jar.file_name == "a-1-linux.jar"
