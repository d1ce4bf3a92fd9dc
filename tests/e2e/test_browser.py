"""The main job in a real Chromium: clicks, pages and the live part, as an administrator meets them."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from support.chromium import ARGUMENTS, CHROMIUM, missing
from support.platform import FABRIKAM, PASSWORD, SCREEN, Platform

SET = "Read directory data"
PICTURES = os.environ.get("SCREENSHOTS")

MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


@pytest.fixture
async def context() -> AsyncIterator[BrowserContext]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield await browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
        await browser.close()


async def picture(page: Page, name: str) -> None:
    """Keep a screenshot for the documentation, where one is wanted."""
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


async def test_an_administrator_grants_a_set_and_everybody_sees_it_live(
    platform: Platform, context: BrowserContext
) -> None:
    problems: list[str] = []
    page = await context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))

    await page.goto(platform.url("gateway", SCREEN))
    await page.get_by_role("button", name="Northwind operator").click()
    await expect(page.get_by_role("heading", name="Microsoft Entra ID", level=1)).to_be_visible()
    await picture(page, "1-before")

    # A colleague looks at the same screen meanwhile, and at the sample app.
    colleague = await context.new_page()
    await colleague.goto(platform.url("gateway", SCREEN))
    app = await context.new_page()
    await app.goto(platform.url("app"))

    await page.get_by_role("button", name="Add Tenant").or_(page.get_by_role("link", name="Add Tenant")).first.click()
    await page.get_by_role("checkbox", name=SET, exact=False).first.check()
    await picture(page, "2-add-tenant")
    await page.get_by_role("button", name="Continue").click()

    await page.get_by_label("Email").or_(page.locator("[name=username]")).first.fill("admin@fabrikam.com")
    await page.locator("[name=password]").fill(PASSWORD)
    await picture(page, "3-sign-in")
    await page.get_by_role("button", name="Sign in").first.click()
    await expect(page.get_by_role("button", name="Accept")).to_be_visible()
    await picture(page, "4-permissions-requested")
    await page.get_by_role("button", name="Accept").click()

    await expect(page.get_by_role("heading", level=1)).to_contain_text("Granted")
    await expect(page.locator("main")).to_contain_text("Fabrikam Inc")
    await expect(page.locator("main")).to_contain_text(FABRIKAM)
    await picture(page, "5-granted")

    # Nobody reloaded the colleague's page.
    await expect(colleague.locator("main")).to_contain_text("Fabrikam Inc", timeout=15_000)
    await expect(app.locator("body")).to_contain_text("Fabrikam Inc", timeout=30_000)
    await picture(app, "7-sample-app")

    await page.goto(platform.url("gateway", SCREEN))
    section = page.get_by_role("region", name="Fabrikam Inc")
    await expect(section).to_contain_text(FABRIKAM)
    await expect(section).to_contain_text("Granted")
    await section.get_by_role("link", name="Details").first.click()
    await picture(page, "6-screen")
    assert problems == []
