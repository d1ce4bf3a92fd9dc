"""Flows that end otherwise than granted, and the pages of the fleet, in a real Chromium with a keyboard only."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from support.chromium import ARGUMENTS, CHROMIUM, missing
from support.keyboard import Keyboard
from support.operators import DIRECTORY, PROTECTED, grant, new_tenant, person
from support.platform import PASSWORD, SCREEN, Platform

MISSING = missing()
pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


async def sign_in(page: Page, keys: Keyboard, name: str) -> None:
    """At Entra, up to whatever it shows to this account."""
    await expect(page.get_by_label("Email")).to_be_focused()
    await page.keyboard.type(name)
    await keys.type("Password", PASSWORD)
    await keys.enter()


async def ended(page: Page, title: str) -> None:
    """The page of an end: what happened, and a reference to quote."""
    await expect(page.get_by_role("heading", level=1)).to_have_text(title)
    await expect(page.locator("main")).to_contain_text("Reference")


async def test_what_was_declined_is_begun_again_from_the_page_that_says_so(
    platform: Platform, chromium: Browser
) -> None:
    _, administrator = await new_tenant(platform, "Southridge Video")
    async with person(chromium, platform, "Northwind operator", f"{SCREEN}?add=tenant") as (page, keys):
        await keys.press(re.compile(f"^{DIRECTORY} Users"), key="Space")
        await keys.press("Continue to Microsoft")
        await sign_in(page, keys, administrator)
        await keys.press("Cancel")
        await ended(page, "You did not accept")
        await keys.press("Start again")
        await expect(page.get_by_role("button", name="Accept")).to_be_visible()
        await keys.press("Accept")
        await ended(page, "Granted")


async def test_somebody_who_is_no_administrator_returns_or_hands_over_to_one(
    platform: Platform, chromium: Browser
) -> None:
    async with person(chromium, platform, "Northwind operator", f"{SCREEN}?add=tenant") as (page, keys):
        await keys.press(re.compile(f"^{DIRECTORY} Users"), key="Space")
        await keys.press("Continue to Microsoft")
        await sign_in(page, keys, "user@fabrikam.com")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Need admin approval")
        await keys.press("Return to the application without granting consent")
        await ended(page, "You did not accept")
        await keys.press("Start again")
        await keys.press("Have an admin account? Sign in with that account")
        await sign_in(page, keys, "admin@fabrikam.com")
        await expect(page.get_by_role("button", name="Accept")).to_be_visible()
        await keys.press("Accept")
        # Two accounts are signed in: only the person knows which of them accepted.
        await expect(page.get_by_role("heading", level=1)).to_have_text("Pick an account")
        await keys.press(re.compile("admin@fabrikam.com"))
        await ended(page, "Granted")
        await expect(page.locator("main")).to_contain_text("Fabrikam")


async def test_another_tenant_is_refused_begun_without_naming_one_and_reset(
    platform: Platform, chromium: Browser
) -> None:
    named, _ = await new_tenant(platform, "Alpine Ski House")
    _, administrator = await new_tenant(platform, "Margie's Travel")
    async with person(chromium, platform, "Northwind operator", f"{SCREEN}?add=tenant") as (page, keys):
        await keys.press(re.compile(f"^{DIRECTORY} Users"), key="Space")
        await keys.type("Tenant", named)
        await keys.press("Continue to Microsoft")
        await sign_in(page, keys, administrator)
        await ended(page, "That account belongs to another tenant")
        await keys.press("Start without naming a tenant")
        await expect(page.get_by_role("button", name="Accept")).to_be_visible()
        await keys.press("Accept")
        await ended(page, "Granted")
        await expect(page.locator("main")).to_contain_text("Margie's Travel")
        await keys.press("Go to Microsoft Entra ID")
        await keys.press("Reset That account belongs to another tenant")
        await expect(page.get_by_role("region", name="Margie's Travel")).to_contain_text("Granted")
        await expect(page.get_by_role("region", name="This did not succeed")).to_have_count(0)


async def test_the_fleet_is_filtered_checked_and_exported(platform: Platform, chromium: Browser) -> None:
    tenant_id, administrator = await new_tenant(platform, "Graphic Design Institute")
    async with person(chromium, platform, "Northwind operator", f"{SCREEN}?add=tenant") as (page, keys):
        await grant(page, keys, DIRECTORY, administrator)
        await keys.press("Go to Microsoft Entra ID")
        await keys.press("All tenants")
        await keys.type("Name, domain or tenant ID", "graphic design")
        await keys.to("Permission set")
        await page.keyboard.type("Read directory data")
        await keys.to("Status")
        await page.keyboard.type("Granted")
        await keys.press("Filter")
        await expect(page.get_by_label("Name, domain or tenant ID")).to_have_value("graphic design")
        rows = page.get_by_role("table", name="Tenants and the status").get_by_role("row")
        await expect(rows).to_have_count(2)
        await keys.press("Select Graphic Design Institute", key="Space")
        await keys.press("Check the selected now")
        await expect(page.get_by_role("status").filter(has_text="permission set")).to_be_visible()

        await keys.to("Download as CSV")
        async with page.expect_download() as downloading:
            await page.keyboard.press("Enter")
        table = (await (await downloading.value).path()).read_text(encoding="utf-8-sig")
        assert tenant_id in table

        await keys.press("Graphic Design Institute")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("History")
        await keys.to(re.compile("CSV"))
        async with page.expect_download() as downloading:
            await page.keyboard.press("Enter")
        assert "granted" in (await (await downloading.value).path()).read_text(encoding="utf-8-sig").lower()


async def test_who_comes_from_an_app_sees_what_it_lacks_and_goes_back(platform: Platform, chromium: Browser) -> None:
    _, administrator = await new_tenant(platform, "Consolidated Messenger")
    async with person(chromium, platform, "Adatum operator", f"{SCREEN}?add=tenant") as (page, keys):
        await grant(page, keys, DIRECTORY, administrator)
        await page.goto(platform.url("gateway", f"{SCREEN}?app=zero-trust-secure-access"))
        needs = page.get_by_role("region", name="From Zero Trust Secure Access")
        await expect(needs).to_contain_text(f"needs “{PROTECTED}”")
        keys.clicks = 0
        await keys.press(f"Grant on Consolidated Messenger {PROTECTED}")
        await expect(page.get_by_role("button", name="Accept")).to_be_visible()
        await keys.press("Accept")
        await ended(page, "Granted")
        assert keys.clicks <= 3
        await page.goto(platform.url("gateway", f"{SCREEN}?app=zero-trust-secure-access"))
        await expect(needs).not_to_contain_text(f"Grant on Consolidated Messenger {PROTECTED}")
        await keys.press("Back to Zero Trust Secure Access")
        await expect(page).to_have_url(re.compile(f"^{platform.url('app')}"))
