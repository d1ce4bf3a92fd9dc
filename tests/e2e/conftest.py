"""One whole system for the tests of this folder."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support import platform as platforms
from support.browsing import Browser
from support.platform import Platform


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """A system that runs until the last test of this folder is over."""
    async with platforms.running(tmp_path_factory.mktemp("platform")) as platform:
        yield platform


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser of one person."""
    async with Browser() as browser:
        yield browser
