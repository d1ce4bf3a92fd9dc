"""The pages in a real Chromium: by keyboard alone, without scripts, narrow, light and dark."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from support.chromium import CHROMIUM, missing

# Without these Chromium looks for its maker's servers.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
PICTURES = os.environ.get("SCREENSHOTS")

MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield launched
        await launched.close()


@dataclass
class Platform:
    """Where the sandbox sends browsers back to."""

    callback: str
    arrived: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(length.group(1))) if length else b""
        if " /cb" in head:
            self.arrived.append(body.decode() or head.split(" ")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\nback at the platform")
        await writer.drain()
        writer.close()


@pytest.fixture
async def platform(sandbox: Any, ids: Any) -> AsyncIterator[Platform]:
    """A platform whose callback is registered."""
    waiting = Platform("")
    server = await asyncio.start_server(waiting.answer, "127.0.0.1", 0)
    waiting.callback = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/cb"
    async with httpx.AsyncClient(trust_env=False) as client:
        registration = f"{sandbox.browser}/sandbox/api/registrations/{ids.client}"
        (await client.patch(registration, json={"redirect_uris": [waiting.callback]})).raise_for_status()
    yield waiting
    server.close()


async def app_of_contoso(sandbox: Any, ids: Any, method: str = "GET", action: str = "") -> Any:
    """The app as it is present in the tenant, by the admin API."""
    async with httpx.AsyncClient(trust_env=False) as client:
        path = f"sandbox/api/tenants/{ids.contoso}/apps/{ids.client}{action}"
        response = await client.request(method, f"{sandbox.browser}/{path}")
        return response.raise_for_status().json()


def consent_url(sandbox: Any, ids: Any, callback: str = "") -> str:
    params = {
        "client_id": ids.client,
        "redirect_uri": callback or ids.callback,
        "state": "s",
        "scope": "https://graph.microsoft.com/.default",
    }
    return f"{sandbox.browser}/{ids.contoso}/v2.0/adminconsent?{urlencode(params)}"


async def focused(page: Page) -> str:
    """What a screen reader would say of the focused element, more or less."""
    found = await page.evaluate(
        "document.activeElement === document.body ? ''"
        " : (document.activeElement.labels?.[0] ?? document.activeElement).innerText"
    )
    return str(found)


async def press_until(page: Page, name: str) -> None:
    for _ in range(40):
        if name in await focused(page):
            async with page.expect_navigation():
                await page.keyboard.press("Enter")
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{name} cannot be reached by keyboard on {await page.title()}")


async def test_an_administrator_consents_by_keyboard_alone_without_scripts(
    sandbox: Any, browser: Browser, ids: Any, platform: Platform
) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(consent_url(sandbox, ids, platform.callback))

    await expect(page.get_by_label("Email")).to_be_focused()
    await page.keyboard.type("admin@contoso.com")
    await page.keyboard.press("Tab")
    await page.keyboard.type("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("Your account or password is incorrect")
    await expect(page.get_by_label("Password")).to_be_focused()
    await page.keyboard.type("Passw0rd!")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Permissions requested")).to_be_visible()
    await page.get_by_text("Read all groups").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("read conversations for all groups")).to_be_visible()
    await page.get_by_role("button", name="Accept").focus()
    await page.keyboard.press("Enter")

    await expect(page.get_by_text("back at the platform")).to_be_visible()
    assert f"tenant={ids.contoso}" in platform.arrived[-1]
    assert (await app_of_contoso(sandbox, ids))["app_roles"]


async def test_every_way_on_can_be_reached_by_keyboard(
    sandbox: Any, browser: Browser, ids: Any, platform: Platform
) -> None:
    page = await browser.new_page()
    await page.goto(consent_url(sandbox, ids, platform.callback))

    await press_until(page, "Contoso Reader")
    await expect(page.get_by_role("heading", name="Need admin approval")).to_be_visible()
    await press_until(page, "Have an admin account?")
    await press_until(page, "Contoso Administrator")
    await expect(page.get_by_role("heading", name="Permissions requested")).to_be_visible()
    await press_until(page, "Use another account")
    await press_until(page, "Contoso User")
    await press_until(page, "Return to the application without granting consent")

    await expect(page.get_by_text("back at the platform")).to_be_visible()
    assert "error_subcode=cancel" in page.url


async def test_form_post_goes_on_by_itself(sandbox: Any, browser: Browser, ids: Any, platform: Platform) -> None:
    await app_of_contoso(sandbox, ids, "POST", "/consent")
    page = await browser.new_page()
    params = {
        "client_id": ids.client,
        "redirect_uri": platform.callback,
        "response_type": "code",
        "response_mode": "form_post",
        "scope": "openid",
    }
    await page.goto(f"{sandbox.browser}/{ids.contoso}/oauth2/v2.0/authorize?{urlencode(params)}")
    await page.get_by_role("button", name="Contoso Administrator").click()

    await expect(page.get_by_text("back at the platform")).to_be_visible()
    assert platform.arrived[-1].startswith("code=1.A")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_is_wider_than_a_small_screen_or_complains(
    sandbox: Any, browser: Browser, ids: Any, scheme: Any
) -> None:
    await app_of_contoso(sandbox, ids, "POST", "/consent")
    problems: list[str] = []
    context = await browser.new_context(color_scheme=scheme, viewport={"width": 320, "height": 700})
    page = await context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    pages = {
        "sign-in": consent_url(sandbox, ids),
        "overview": f"{sandbox.browser}/sandbox",
        "tenant": f"{sandbox.browser}/sandbox/tenants/{ids.contoso}",
        "registration": f"{sandbox.browser}/sandbox/registrations/{ids.client}",
        "troubles": f"{sandbox.browser}/sandbox/troubles",
        "requests": f"{sandbox.browser}/sandbox/requests",
    }
    for name, url in pages.items():
        await page.goto(url)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 320, name
        unlabelled = await page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
            ".filter(field => !field.labels.length).map(field => field.name)"
        )
        assert unlabelled == [], name
        if PICTURES:
            await page.set_viewport_size({"width": 1000, "height": 900})
            await page.screenshot(path=Path(PICTURES) / f"sandbox-{name}-{scheme}.png", full_page=True)
            await page.set_viewport_size({"width": 320, "height": 700})

    assert problems == []
