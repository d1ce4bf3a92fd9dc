"""The console over HTTP on a real mongod, with the platform's issuer as a process of its own."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import uvicorn

from launcher.ports import free_port
from shared import mongo
from shared.mongo import Database
from shared.settings import MongoSettings
from support.console import Console, console_app
from support.eventually import eventually

SCREEN = "/integrations/microsoft-entra-id"


@dataclass(frozen=True)
class Addresses:
    """Where the console and its issuer are."""

    console: str
    issuer: str


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def addresses(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Addresses]:
    """The issuer's process, and the console's address that is registered with it."""
    console, port = f"http://localhost:{free_port()}", free_port()
    folder: Path = tmp_path_factory.mktemp("platform-idp")
    settings = {
        "HTTP__PORT": str(port),
        "DATA_DIR": str(folder),
        "CONSOLE__REDIRECT_URIS": f'["{console}/auth/callback"]',
        "CONSOLE__POST_LOGOUT_REDIRECT_URIS": f'["{console}/integrations"]',
    }
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "platform_idp"), env={**os.environ, **settings}, stdout=log, stderr=log
        )
    issuer = f"http://localhost:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False) as client:

            async def answers() -> bool:
                try:
                    return (await client.get(f"{issuer}/readyz")).is_success
                except httpx.TransportError:
                    return False

            await eventually(answers, what="an answer of platform-idp")
        yield Addresses(console, issuer)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


@pytest_asyncio.fixture(params=["motor", "pymongo"])
async def database(request: pytest.FixtureRequest, mongo_url: str, mongo_database: str) -> AsyncIterator[Database]:
    """This test's database, through either driver."""
    settings = {"url": mongo_url, "database": mongo_database, "driver": request.param}
    database = mongo.connect(MongoSettings.model_validate(settings))
    yield database
    await mongo.close(database)


@pytest_asyncio.fixture
async def console(addresses: Addresses, mongo_url: str, mongo_database: str) -> AsyncIterator[Console]:
    """The console, served."""
    database = mongo.connect(MongoSettings.model_validate({"url": mongo_url, "database": mongo_database}))
    async with httpx.AsyncClient(trust_env=False) as client:
        console = console_app(database, client, public_url=addresses.console, issuer=addresses.issuer)
        await console.sessions.create_indexes()
        port = int(addresses.console.rpartition(":")[2])
        config = uvicorn.Config(console.app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())

        async def started() -> bool:
            return server.started

        await eventually(started, what="the console")
        yield console
        server.should_exit = True
        await serving
    await mongo.close(database)


class Browser:
    """A browser without a screen: keeps cookies, follows no redirect by itself, sends what browsers send with forms."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self.http = httpx.AsyncClient(trust_env=False, base_url=addresses.console, timeout=20)

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """Open an address, of the console where it is a path."""
        return await self.http.get(url, **options)

    async def post(self, url: str, form: Any, *, origin: str | None = "own", **headers: str) -> httpx.Response:
        """Send a form as a page of this origin would."""
        if origin is not None:
            headers["origin"] = self._addresses.console if origin == "own" else origin
        return await self.http.post(url, data=form, headers=headers)

    async def follow(self, answer: httpx.Response) -> httpx.Response:
        """Follow redirects as long as they stay with the console or its issuer."""
        while answer.has_redirect_location:
            url = httpx.URL(answer.headers["location"])
            if url.is_absolute_url and not str(url).startswith((self._addresses.console, self._addresses.issuer)):
                return answer
            answer = await self.get(str(answer.url.join(url)))
        return answer

    async def choose(self, sign_in_page: httpx.Response, person: str) -> httpx.Response:
        """Choose a person on the issuer's page; the answer is what the issuer says, a redirect as a rule."""
        action = re.search(r'action="([^"]+)"', sign_in_page.text)
        assert action is not None
        return await self.http.post(str(sign_in_page.url.join(unescape(action[1]))), data={"choice": person})

    async def open(self, path: str, person: str = "northwind.operator") -> httpx.Response:
        """Open a page of the console, signing in on the way if it asks for that."""
        answer = await self.follow(await self.get(path))
        if str(answer.url).startswith(self._addresses.issuer):
            answer = await self.follow(await self.choose(answer, person))
        return answer

    def cookie(self) -> str | None:
        """The console's session cookie."""
        return next((each.value for each in self.http.cookies.jar if each.name == "consent_console"), None)


def csrf_token(page: httpx.Response) -> str:
    """The form token of a page."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


NewBrowser = Callable[[], Awaitable[Browser]]


@pytest_asyncio.fixture
async def new_browser(addresses: Addresses, console: Console) -> AsyncIterator[NewBrowser]:
    """Opens browsers, each with cookies of its own."""
    async with AsyncExitStack() as stack:

        async def new() -> Browser:
            browser = Browser(addresses)
            await stack.enter_async_context(_closing(browser.http))
            return browser

        yield new


@pytest_asyncio.fixture
async def browser(new_browser: NewBrowser) -> Browser:
    """A browser."""
    return await new_browser()


@asynccontextmanager
async def _closing(client: httpx.AsyncClient) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await client.aclose()
