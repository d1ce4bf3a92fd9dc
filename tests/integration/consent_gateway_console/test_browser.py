"""The screen in a real Chromium: live, by keyboard, without a script, narrow, under its strict policy."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from consent_gateway.grants.grants import Tenant
from support.chromium import ARGUMENTS, CHROMIUM, missing
from support.console import CONTOSO, Console, every_status, grant, tenant

from .conftest import SCREEN, Addresses, Browser

MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")

DIRECTORY = "read-directory-data"


@pytest_asyncio.fixture
async def context(browser: Browser, addresses: Addresses) -> AsyncIterator[BrowserContext]:
    """A Chromium that is signed in, and complains about everything that its console complains about."""
    await browser.open("/integrations")
    cookie = browser.cookie()
    assert cookie is not None
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await chromium.new_context(base_url=addresses.console, viewport={"width": 1280, "height": 900})
        await context.add_cookies([{"name": "consent_console", "value": cookie, "url": addresses.console}])
        complaints: list[str] = []
        context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        yield context
        await chromium.close()
        # That a form was answered with an error is said on the console too.
        assert not [one for one in complaints if "status of 400" not in one]


@pytest_asyncio.fixture
async def page(context: BrowserContext, console: Console) -> Page:
    """The screen with one tenant, connected to its stream."""
    console.tenants[:] = [contoso(console, blocked=False)]
    page = await context.new_page()
    await page.goto(SCREEN)
    await expect(page.locator("[data-live]")).to_have_attribute("data-state", "on")
    return page


def contoso(console: Console, **changes: object) -> Tenant:
    granted = grant(console.consent.catalog, CONTOSO, DIRECTORY, **changes)
    return tenant(CONTOSO, "Contoso Ltd", "contoso.com", granted)


STATUS = f'[id="row-{CONTOSO}.{DIRECTORY}"] .state'


async def test_a_change_shows_within_a_second_and_leaves_the_focus_where_it_was(page: Page, console: Console) -> None:
    details = page.get_by_role("link", name="Details of Read directory data", exact=True)
    await details.focus()
    console.tenants[:] = [contoso(console, blocked=True)]
    console.hints.tell("northwind", CONTOSO)
    await expect(page.locator(STATUS)).to_contain_text("Blocked", timeout=1000)
    await expect(details).to_be_focused()
    await expect(page.locator("#announcements")).to_have_text("Contoso Ltd, Read directory data: Blocked")


async def test_what_is_being_typed_survives_a_change(page: Page, console: Console) -> None:
    await page.goto(f"{SCREEN}?add=tenant")
    await expect(page.locator("[data-live]")).to_have_attribute("data-state", "on")
    await page.get_by_label("Tenant ID (optional)").fill("8f4c1a52")
    box = page.get_by_role("checkbox", name=re.compile("^Read directory data Users"))
    await box.check()
    console.tenants[:] = [contoso(console, blocked=True)]
    console.hints.tell("northwind", CONTOSO)
    await expect(page.locator(STATUS)).to_contain_text("Blocked")
    await expect(page.get_by_label("Tenant ID (optional)")).to_have_value("8f4c1a52")
    await expect(box).to_be_checked()


async def test_a_form_that_comes_back_with_an_error_is_live_and_keeps_what_it_says(
    page: Page, console: Console
) -> None:
    await page.goto(f"{SCREEN}?add=tenant")
    await page.get_by_label("Tenant ID (optional)").fill("contoso")
    await page.get_by_role("checkbox").first.check()
    await page.get_by_role("button", name="Continue to Microsoft").click()
    await expect(page.get_by_role("alert")).to_contain_text("That is not a tenant ID")
    await expect(page.locator("[data-live]")).to_have_attribute("data-state", "on")
    console.tenants[:] = [contoso(console, blocked=True)]
    console.hints.tell("northwind", CONTOSO)
    await expect(page.locator(STATUS)).to_contain_text("Blocked")
    await expect(page.get_by_role("alert")).to_contain_text("That is not a tenant ID")
    await expect(page.get_by_label("Tenant ID (optional)")).to_have_value("contoso")
    await page.reload()
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(page.get_by_role("heading", name="Add Tenant")).to_be_visible()


async def test_a_tenant_that_was_added_elsewhere_appears(page: Page, console: Console) -> None:
    console.tenants[:] = every_status(console.consent.catalog)
    console.hints.tell("northwind", CONTOSO)
    await expect(page.get_by_role("heading", name="Fabrikam Inc")).to_be_visible(timeout=1000)
    await expect(page.get_by_role("heading", level=2)).to_have_count(2)


async def test_what_happened_while_the_connection_was_lost_shows_when_it_is_back(page: Page, console: Console) -> None:
    await page.context.set_offline(True)
    console.hints.stop()
    await expect(page.locator("[data-live]")).to_have_attribute("data-state", "off")
    console.tenants[:] = [contoso(console, blocked=True)]
    await page.context.set_offline(False)
    await expect(page.locator(STATUS)).to_contain_text("Blocked", timeout=15_000)
    await expect(page.locator("[data-live]")).to_have_attribute("data-state", "on")


async def test_details_open_in_place_by_keyboard_and_stay_open_through_a_change(page: Page, console: Console) -> None:
    details = page.get_by_role("link", name="Details of Read directory data", exact=True)
    await details.focus()
    await page.keyboard.press("Enter")
    table = page.get_by_role("table", name="Permissions of Read directory data")
    await expect(table).to_be_visible()
    hide = page.get_by_role("link", name="Hide details of Read directory data")
    await expect(hide).to_be_focused()
    await expect(hide).to_have_attribute("aria-expanded", "true")
    console.tenants[:] = [contoso(console, blocked=True)]
    console.hints.tell("northwind", CONTOSO)
    await expect(page.locator(STATUS)).to_contain_text("Blocked")
    await expect(table).to_be_visible()
    await page.keyboard.press("Enter")
    await expect(table).to_be_hidden()


async def test_granting_takes_one_click(page: Page, console: Console) -> None:
    await page.route("https://login.entra.test/**", lambda route: route.fulfill(body="Entra"))
    await page.get_by_role("button", name=re.compile("^Grant permissions Read protected content")).click()
    await page.wait_for_url("https://login.entra.test/**")
    assert [asked[0] for asked in console.consent.asked] == ["start"]


async def test_a_second_click_while_the_first_is_on_its_way_is_held_back(page: Page) -> None:
    button = page.get_by_role("button", name=re.compile("^Grant permissions Read protected content"))
    held_back = await button.evaluate("""button => {
        const heldBack = [];
        document.addEventListener("submit", event => {
            heldBack.push(event.defaultPrevented);
            event.preventDefault();
        });
        button.click();
        button.click();
        return heldBack;
    }""")
    assert held_back == [False, True]


async def test_the_whole_screen_works_by_keyboard(page: Page) -> None:
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    seen = []
    for _ in range(60):
        await page.keyboard.press("Tab")
        name = await page.evaluate("document.activeElement === document.body ? null : document.activeElement.innerText")
        if name is None:
            break
        seen.append(name.split("\n")[0])
        visible = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
        assert visible, f"no focus ring on {seen[-1]!r}"
    for wanted in ("Third-Party Integration", "Sign out", "Add Tenant", "Details"):
        assert wanted in seen
    assert any(each.startswith("Grant permissions") for each in seen)


@pytest.mark.parametrize(("width", "zoom"), [(320, 1), (1280, 2), (1280, 4)])
async def test_nothing_is_cut_off_when_narrow_or_zoomed(page: Page, console: Console, width: int, zoom: int) -> None:
    console.tenants[:] = every_status(console.consent.catalog)
    await page.set_viewport_size({"width": width // zoom, "height": 800})
    details = "&".join(f"details={CONTOSO}.{each}" for each in console.consent.catalog.sets)
    for path in (f"{SCREEN}?{details}&add=tenant&app=mobile-security", "/integrations", "/connect/link-token"):
        await page.goto(path)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


async def test_without_a_script_everything_but_the_live_part_works(
    context: BrowserContext, console: Console, addresses: Addresses
) -> None:
    console.tenants[:] = every_status(console.consent.catalog)
    assert context.browser is not None
    plain = await context.browser.new_context(
        base_url=addresses.console, java_script_enabled=False, storage_state=await context.storage_state()
    )
    page = await plain.new_page()
    await page.goto(SCREEN)
    await expect(page.locator("[data-live]")).to_be_hidden()
    await page.get_by_role("link", name="Details of Read directory data", exact=True).first.click()
    await expect(page.get_by_role("table", name="Permissions of Read directory data")).to_be_visible()
    await page.get_by_role("link", name="Add Tenant").click()
    await page.get_by_role("checkbox").first.check()
    await page.route("https://login.entra.test/**", lambda route: route.fulfill(body="Entra"))
    await page.get_by_role("button", name="Continue to Microsoft").click()
    await page.wait_for_url("https://login.entra.test/**")
    await plain.close()


async def test_times_are_in_the_readers_zone_with_the_exact_value_at_hand(page: Page) -> None:
    checked = page.locator("header time").first
    await expect(checked).to_have_text(re.compile("minutes ago"))
    await expect(checked).to_have_attribute("title", re.compile(r"\d\d:\d\d|\d:\d\d"))


async def test_an_ended_session_leads_to_the_sign_in(page: Page, console: Console, browser: Browser) -> None:
    cookie = browser.cookie()
    assert cookie is not None
    await console.sessions.end(cookie)
    await page.wait_for_url(re.compile("/authorize"))
