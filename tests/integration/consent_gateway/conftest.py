"""A gateway's core on a real database and the real sandbox."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from consent_gateway.core import Core
from support import entra_sandbox, gateway
from support.browsing import Browser
from support.entra_sandbox import EntraSandbox, Visitor


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def entra_process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EntraSandbox]:
    """One sandbox for all tests."""
    async with entra_sandbox.running(tmp_path_factory.mktemp("entra"), gateway_url=gateway.PUBLIC_URL) as sandbox:
        yield sandbox


@pytest_asyncio.fixture
async def entra(entra_process: EntraSandbox) -> EntraSandbox:
    """The sandbox as at its first start."""
    await entra_process.api("POST", "reset")
    return entra_process


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> str:
    """Both drivers: the change from one to the other must stay a setting."""
    return str(request.param)


MakeCore = Callable[..., Awaitable[Core]]


@pytest_asyncio.fixture
async def make_core(mongo_url: str, mongo_database: str) -> AsyncIterator[MakeCore]:
    """Opens cores on this test's database; further ones are further replicas."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Core:
            core = Core.of(gateway.settings(mongo_url=mongo_url, database=mongo_database, **changes))
            await stack.enter_async_context(core.open())
            await core.store.create_indexes()
            return core

        yield make


@pytest_asyncio.fixture
async def core(make_core: MakeCore, entra: EntraSandbox) -> Core:
    """A core in front of the sandbox."""
    return await make_core(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca)


@pytest_asyncio.fixture
async def visitor(entra: EntraSandbox) -> AsyncIterator[Visitor]:
    """Somebody with a browser."""
    async with Browser() as browser:
        yield Visitor(entra, browser)
