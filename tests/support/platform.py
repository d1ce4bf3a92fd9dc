"""The whole system on ports and data of its own, and the people who use it. Knows addresses and pages only."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pymongo import AsyncMongoClient

from launcher.addresses import Addresses
from launcher.folder import StackFolder
from launcher.stack import members
from launcher.supervisor import Member, State, Supervisor
from support.browsing import Browser, Page
from support.eventually import eventually
from support.ports import free_ports

SCREEN = "/integrations/microsoft-entra-id"
CONTOSO = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"
FABRIKAM = "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21"
PASSWORD = "Passw0rd!"


class Quiet:
    """Nobody watches the start of a test's stack; what fails is raised, and logs are kept."""

    def changed(self, name: str, state: State, note: str = "") -> None:
        """Say nothing."""


class Platform:
    """A running system."""

    def __init__(self, folder: Path) -> None:
        self.folder = StackFolder(folder)
        self.addresses = Addresses(free_ports())
        self._members: dict[str, Member] = {}
        self._supervisor: Supervisor | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self, *, keep_running: bool = False) -> None:
        """Start everything; with ``keep_running`` what ends is started again, as ``make demo`` does."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self._members = {member.name: member for member in members(self.folder, self.addresses)}
        self._supervisor = Supervisor(self._members.values(), Quiet())
        await self._supervisor.start()
        if keep_running:
            self._keeping = asyncio.create_task(self._supervisor.keep_running())

    async def end(self) -> None:
        """End everything at once: nobody needs its data any more."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._supervisor is not None:
            await self._supervisor.kill()

    async def kill(self, name: str) -> None:
        """End one process as a crash would: SIGKILL."""
        await self._members[name].part.process.kill()

    async def start_again(self, name: str) -> None:
        """Start a process that was killed, on the data it left, and wait until it is ready."""
        await self._members[name].part.start()

    def pause(self, name: str) -> None:
        """Stop a process in its tracks without ending it."""
        self._members[name].part.process.send_signal(signal.SIGSTOP)

    def url(self, name: str, path: str = "") -> str:
        """An address of a part."""
        return self.addresses.url(name) + path

    @property
    def bootstrap_servers(self) -> str:
        """Kafka."""
        return f"127.0.0.1:{self.addresses.ports['kafka']}"

    @asynccontextmanager
    async def mongo(self) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
        """The database server."""
        url = f"mongodb://127.0.0.1:{self.addresses.ports['mongod']}/?directConnection=true"
        async with AsyncMongoClient[dict[str, Any]](url, tz_aware=True) as client:
            yield client

    async def token(self, role: str, *, account: str = "northwind", app: str | None = None) -> str:
        """An access token."""
        form = {"role": role, "account_id": account} | ({"app_id": app} if app else {})
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(self.url("idp", "/dev/token"), data=form)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    async def api(
        self, service: str, path: str, *, role: str = "viewer", method: str = "GET", **options: Any
    ) -> httpx.Response:
        """Call a service's API with a token of a role; ``account`` and ``app`` may be given."""
        named = {name: options.pop(name) for name in ("account", "app") if name in options}
        token = await self.token(role, **named)
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.request(
                method, self.url(service, path), headers={"authorization": f"Bearer {token}"}, **options
            )

    async def sandbox(self, method: str, path: str, **body: Any) -> Any:
        """Call the sandbox's admin API."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.request(method, self.url("sandbox", f"/sandbox/api{path}"), json=body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def pushes(self, tenant_id: str, *, permission_set_id: str, status: str) -> list[dict[str, Any]]:
        """What the sample app accepted about a grant."""
        async with httpx.AsyncClient(trust_env=False) as client:
            received = (await client.get(self.url("app", "/api/received"))).json()["items"]
        pushes = [item | json.loads(item["body"]) for item in received if item["verified"]]
        wanted = {"permission_set_id": permission_set_id, "status": status}
        return [
            push
            for push in pushes
            if push["type"] == "permission.status_changed"
            and push["data"]["tenant"]["id"] == tenant_id
            and wanted.items() <= push["data"].items()
        ]

    async def pushed(
        self, tenant_id: str, *, permission_set_id: str, status: str = "granted", within: float = 30
    ) -> Any:
        """The first push about a grant, once the sample app has it."""
        return (
            await eventually(
                lambda: self.pushes(tenant_id, permission_set_id=permission_set_id, status=status),
                within=within,
                what=f"a push that {permission_set_id} on {tenant_id} is {status}",
            )
        )[0]


@asynccontextmanager
async def running(folder: Path, *, keep_running: bool = False) -> AsyncIterator[Platform]:
    """The system for as long as the context lasts."""
    platform = Platform(folder)
    try:
        await platform.start(keep_running=keep_running)
        yield platform
    finally:
        await platform.end()


async def sign_in(browser: Browser, platform: Platform, *, person: str = "Northwind admin", path: str = SCREEN) -> Page:
    """Open a page of the console, and sign in at the platform's issuer as one of its people."""
    page = await browser.get(platform.url("gateway", path))
    return page if page.url.startswith(platform.url("gateway")) else await page.submit(person)


async def consent(
    page: Page,
    *,
    permission_set_id: str,
    administrator: str,
    password: str = PASSWORD,
    where: dict[str, str] | None = None,
) -> Page:
    """Click Grant permissions on the screen, sign in to Entra, accept, and come to the page where the flow ends."""
    review = await at_entra(
        page, permission_set_id=permission_set_id, administrator=administrator, password=password, where=where
    )
    return await review.submit("Accept")


async def at_entra(
    page: Page,
    *,
    permission_set_id: str,
    administrator: str,
    password: str = PASSWORD,
    where: dict[str, str] | None = None,
) -> Page:
    """Click Grant permissions and sign in to Entra: the page that asks for consent, or what comes instead of it."""
    page = await page.submit("Grant", where={"permission_set_id": permission_set_id, **(where or {})})
    if any(form.says("Sign in") for form in page.forms):
        page = await page.submit("Sign in", username=administrator, password=password)
    return page
