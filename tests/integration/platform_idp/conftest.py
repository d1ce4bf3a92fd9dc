"""The issuer as an ASGI application, with a browser in front of it and a clock that the test moves."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from platform_idp.app import create_app
from platform_idp.settings import Settings

ISSUER = "http://localhost:8091"


class _Clock:
    def __init__(self) -> None:
        self.time = time.time()

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Callable[[], float]:
    """The issuer's time in unix seconds; it stands still unless ``let_pass`` moves it."""
    return _Clock()


@pytest.fixture
def let_pass(clock: _Clock) -> Callable[[float], None]:
    """Moves the issuer's clock on by some seconds."""

    def move(seconds: float) -> None:
        clock.time += seconds

    return move


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(issuer=ISSUER, data_dir=tmp_path)


@pytest_asyncio.fixture
async def browser(settings: Settings, clock: Callable[[], float]) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps cookies and follows no redirect, so that each step can be looked at."""
    app = create_app(settings, now=clock)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=ISSUER) as browser:
        yield browser
