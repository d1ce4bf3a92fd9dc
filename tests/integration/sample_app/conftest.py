"""The sample app over real HTTP, with a stand-in for issuer and notifier that a test can make fail."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from sample_app.app import create_app
from sample_app.settings import Settings
from support.sample_app_platform import Platform, Sample, StartSample, free_port, serving


@pytest_asyncio.fixture
async def platform() -> AsyncIterator[Platform]:
    port = free_port()
    platform = Platform(f"http://127.0.0.1:{port}")
    async with serving(platform.app(), port):
        yield platform


@pytest_asyncio.fixture
async def start_sample(platform: Platform, tmp_path: Path) -> AsyncIterator[StartSample]:
    """Starts the app; called again, it restarts it on the same data."""
    async with contextlib.AsyncExitStack() as stack:
        running: list[contextlib.AsyncExitStack] = []
        port = free_port()

        async def start(**settings: Any) -> Sample:
            for earlier in running:
                await earlier.aclose()
            values: dict[str, Any] = {
                "public_url": f"http://127.0.0.1:{port}",
                "issuer": platform.url,
                "notifier_url": platform.url,
                "data_dir": tmp_path / "data",
                "check_seconds": 0.05,
                **settings,
            }
            made = Settings(**values)
            own = await stack.enter_async_context(contextlib.AsyncExitStack())
            running.append(own)
            await own.enter_async_context(serving(create_app(made), port))
            http = await own.enter_async_context(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}"))
            return Sample(platform, made, http)

        yield start
