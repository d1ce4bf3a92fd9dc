"""The Entra sandbox in a process of its own, and people with browsers in front of it. Knows its pages and API only."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx

from support.browsing import Browser, Page
from support.eventually import eventually

PASSWORD = "Passw0rd!"


@dataclass(frozen=True)
class EntraSandbox:
    """A running sandbox."""

    browser: str
    login: str
    graph: str
    ca: str
    process: asyncio.subprocess.Process = field(repr=False)

    async def api(self, method: str, path: str, **body: object) -> Any:
        """Call the admin API: faults, flaws, tenants, registrations."""
        async with httpx.AsyncClient(base_url=f"{self.browser}/sandbox/api/", trust_env=False) as client:
            answer = await client.request(method, path, json=None if method == "GET" else body)
            answer.raise_for_status()
            return answer.json() if answer.content else None

    async def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """What the sandbox was asked, without what people's browsers asked."""
        seen = (await self.api("GET", "requests"))["items"]
        return [one for one in seen if endpoint is None or one.get("operation", one.get("endpoint")) == endpoint]


@asynccontextmanager
async def running(folder: Path, *, gateway_url: str) -> AsyncIterator[EntraSandbox]:
    """A sandbox for as long as the context lasts."""
    endpoints = folder / "endpoints.json"
    environment = {
        "HTTP__PORT": "0",
        "LOGIN__PORT": "0",
        "GRAPH__PORT": "0",
        "DATA_DIR": str(folder),
        "LOG__LEVEL": "warning",
        "GATEWAY__PUBLIC_URLS": gateway_url,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "entra_sandbox", env=environment)
    try:

        async def is_up() -> bool:
            assert process.returncode is None, "the sandbox ended"
            return endpoints.exists()

        await eventually(is_up, within=30, what="the sandbox's addresses")
        yield EntraSandbox(process=process, **json.loads(endpoints.read_text()))
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


class Visitor:
    """Somebody whom the gateway sends to Entra: signs in and accepts or cancels, until the browser leaves Entra."""

    def __init__(self, sandbox: EntraSandbox, browser: Browser) -> None:
        self._sandbox = sandbox
        self._browser = browser

    async def go(self, url: str, *, name: str = "admin@contoso.com", accept: bool = True) -> list[tuple[str, str]]:
        """Go there; returns the parameters that Entra sends the browser back with."""
        page = await self._stay(await self._browser.get(url, follow=False))
        while not self._left(page):
            if any(form.says("Sign in") for form in page.forms):
                page = await self._submit(page, "Sign in", username=name, password=PASSWORD)
            elif any(form.says("Accept") for form in page.forms):
                page = await self._submit(page, "Accept" if accept else "Cancel")
            else:
                raise AssertionError(f"no way on at {page.url} ({page.status}, {page.heading!r}): {page.text[:300]}")
        return parse_qsl(urlsplit(page.response.headers["location"]).query, keep_blank_values=True)

    async def _submit(self, page: Page, button: str, **values: str) -> Page:
        form = page.form(button)
        pressed = next((name, value) for name, value, label in form.buttons if button in label)
        filled = [(name, value) for name, value in form.values if name not in values]
        filled += [*values.items(), *([pressed] if pressed[0] else [])]
        action = urljoin(page.url, form.action)
        return await self._stay(await self._browser.send(form.method, action, filled, referrer=page.url, follow=False))

    async def _stay(self, page: Page) -> Page:
        """Follow redirects, but not out of the sandbox."""
        while page.response.is_redirect and not self._left(page):
            page = await self._browser.get(urljoin(page.url, page.response.headers["location"]), follow=False)
        return page

    def _left(self, page: Page) -> bool:
        location = page.response.headers.get("location", "")
        return page.response.is_redirect and not urljoin(page.url, location).startswith(self._sandbox.browser)
