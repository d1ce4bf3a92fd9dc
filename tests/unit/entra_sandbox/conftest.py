"""A directory in memory and on a temporary disk, with a clock that tests move."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from entra_sandbox import seed
from entra_sandbox.directory import Directory
from entra_sandbox.model import Registration, Tenant
from entra_sandbox.store import Store


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def move(clock: Clock) -> Callable[[float], None]:
    """Moves the clock by seconds."""
    return clock.move


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "state.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def directory(store: Store, clock: Clock) -> Directory:
    return Directory(store, seed.load(None), redirect_uris=("http://localhost:8080/cb",), clock=clock)


@pytest.fixture
def contoso(directory: Directory) -> Tenant:
    found = directory.authority("contoso.com")
    assert isinstance(found, Tenant)
    return found


@pytest.fixture
def fabrikam(directory: Directory) -> Tenant:
    found = directory.authority("fabrikam.com")
    assert isinstance(found, Tenant)
    return found


@pytest.fixture
def registration(directory: Directory) -> Registration:
    found = directory.registration("5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01")
    assert found
    return found
