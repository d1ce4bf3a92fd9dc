"""People of the suite with a keyboard, at the console of a running system, and administrators of new tenants."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from playwright.async_api import Browser, Page, expect

from support.keyboard import Keyboard
from support.platform import PASSWORD, SCREEN, Platform

DIRECTORY, PROTECTED = "Read directory data", "Read protected content and sensitivity label information"
ACCOUNTS = "Read directory data and perform account management actions"


@asynccontextmanager
async def person(
    chromium: Browser, platform: Platform, name: str, path: str = SCREEN, *, script: bool = True
) -> AsyncIterator[tuple[Page, Keyboard]]:
    """Somebody of the suite at their own browser, on a page of the console."""
    context = await chromium.new_context(
        viewport={"width": 1280, "height": 900}, locale="en-GB", java_script_enabled=script
    )
    problems: list[str] = []
    context.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page = await context.new_page()
    page.set_default_timeout(20_000)
    await page.goto(platform.url("gateway", path))
    if name:
        await page.get_by_role("button", name=name, exact=False).first.click()
        await page.wait_for_url(f"{platform.url('gateway')}/**")
    yield page, Keyboard(page, platform.url("sandbox"))
    await context.close()
    assert not [one for one in problems if "Content Security" in one or "Uncaught" in one], problems


async def new_tenant(platform: Platform, name: str) -> tuple[str, str]:
    """A tenant of the test's own with its Global Administrator: its id, and the administrator's name."""
    domain = f"{uuid4().hex[:10]}.example"
    tenant = await platform.sandbox("POST", "/tenants", display_name=name, domains=[domain])
    return tenant["id"], f"admin@{domain}"


async def grant(page: Page, keys: Keyboard, title: str, administrator: str) -> None:
    """From the form of Add Tenant to the page that says that it is granted."""
    await keys.press(re.compile(f"^{title} (Users|Lets)"), key="Space")
    await keys.press("Continue to Microsoft")
    await keys.accept_as(administrator, PASSWORD)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Granted")
