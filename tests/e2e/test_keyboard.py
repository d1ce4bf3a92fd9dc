"""Every flow of the screen in a real Chromium with a keyboard only, in front of the real services and the sandbox."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from consent_gateway.app import create_app
from support import gateway
from support.axe import findings_in_both_themes
from support.chromium import ARGUMENTS, CHROMIUM, missing
from support.every_route import routes
from support.operators import ACCOUNTS, DIRECTORY, PROTECTED, grant, new_tenant, person
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


async def test_a_set_is_granted_updated_live_blocked_unblocked_and_checked_by_keyboard(
    platform: Platform, chromium: Browser
) -> None:
    tenant_id, administrator = await new_tenant(platform, "Wide World Importers")
    async with person(chromium, platform, "Northwind operator") as (page, keys):
        # No more than three clicks outside Entra from the screen to a granted set.
        await keys.press("Add Tenant")
        await grant(page, keys, DIRECTORY, administrator)
        assert keys.clicks <= 3
        await expect(page.locator("main")).to_contain_text(tenant_id)

        # A further set on the same tenant takes one.
        await page.goto(platform.url("gateway", SCREEN))
        keys.clicks = 0
        await keys.press(f"Grant permissions {PROTECTED} on Wide World Importers")
        await expect(page.get_by_role("button", name="Accept").or_(page.get_by_label("Email"))).to_be_visible()
        if await page.get_by_label("Email").is_visible():
            await keys.accept_as(administrator, PASSWORD)
        else:
            await keys.press("Accept")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Granted")
        assert keys.clicks <= 3

        await keys.press("Go to Microsoft Entra ID")
        await keys.press(f"Manage {DIRECTORY} on Wide World Importers")
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"Manage {DIRECTORY}")
        await expect(page.locator("main")).to_contain_text("What stops working")
        await keys.press("Block permissions")
        await expect(page.locator("[data-announce]")).to_have_text(re.compile("Blocked"))
        await keys.press("Go to Microsoft Entra ID")
        tenant = page.get_by_role("region", name="Wide World Importers")
        await expect(tenant).to_contain_text("Blocked")
        await keys.press(f"Unblock {DIRECTORY} on Wide World Importers")
        await expect(tenant).not_to_contain_text("Blocked")
        await keys.press("Check now Wide World Importers")
        await expect(tenant).to_be_visible()


async def test_what_was_removed_in_entra_is_revoked_on_the_screen_after_the_check(
    platform: Platform, chromium: Browser
) -> None:
    tenant_id, administrator = await new_tenant(platform, "Tailspin Toys")
    async with person(chromium, platform, "Northwind admin") as (page, keys):
        await keys.press("Add Tenant")
        await grant(page, keys, ACCOUNTS, administrator)
        await page.goto(platform.url("gateway", f"{SCREEN}/tenants/{tenant_id}/permission-sets/manage-accounts"))
        await keys.to("Open it in the Entra admin center")
        client_id = await page.get_by_role("link", name="Open it in").get_attribute("href")
        assert client_id is not None
        await platform.sandbox("DELETE", f"/tenants/{tenant_id}/apps/{client_id.rpartition('/')[2]}")
        await keys.press("I removed it: check now")
        # What Entra says is believed after several answers; until then the page says that it is on its way.
        await expect(page.locator("main")).to_contain_text(re.compile("A check runs|looked at again|Revoked"))
        await page.goto(platform.url("gateway", f"{SCREEN}/tenants/{tenant_id}"))
        await keys.press("Disconnect Tailspin Toys")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Microsoft Entra ID")
        await expect(page.get_by_role("region", name="Tailspin Toys")).to_have_count(0)


async def test_several_sets_are_granted_in_one_guided_visit(platform: Platform, chromium: Browser) -> None:
    _, administrator = await new_tenant(platform, "Proseware")
    async with person(chromium, platform, "Northwind operator", f"{SCREEN}?add=tenant") as (page, keys):
        await keys.press(re.compile(f"^{DIRECTORY} Users"), key="Space")
        await keys.press(re.compile(f"^{PROTECTED} "), key="Space")
        await keys.press("Continue to Microsoft")
        await keys.accept_as(administrator, PASSWORD, times=2)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Granted")
        await expect(page.locator("main")).to_contain_text("2 of 2")


async def test_an_invitation_is_handed_over_and_its_outcome_confirmed_without_a_reload(
    platform: Platform, chromium: Browser
) -> None:
    _, administrator = await new_tenant(platform, "Lucerne Publishing")
    async with person(chromium, platform, "Northwind operator", f"{SCREEN}?add=tenant") as (page, keys):
        await keys.press(re.compile(f"^{DIRECTORY} Users"), key="Space")
        await keys.press("Make a link for an administrator instead")
        link = await page.locator(".made code").inner_text()
        row = page.locator("#live tbody tr").first
        await expect(row).to_contain_text("Not opened yet")
        async with person(chromium, platform, "", link.removeprefix(platform.url("gateway"))) as (guest, guest_keys):
            await guest_keys.press("Sign in to Microsoft")
            await guest.wait_for_url(f"{platform.url('sandbox')}/**")
            await expect(guest.get_by_label("Email")).to_be_focused()
            await guest.keyboard.type(administrator)
            await guest_keys.type("Password", PASSWORD)
            await guest_keys.enter()
            # A tenant that does not know the application yet asks before it tells who signed in.
            await guest_keys.press("Accept")
            await expect(guest.get_by_role("heading", level=1)).to_have_text("Connect this tenant?")
            await guest_keys.press("Connect this tenant")
            await expect(guest.get_by_role("button", name="Accept")).to_be_visible()
            await guest_keys.press("Accept")
            await expect(guest.get_by_role("heading", level=1)).to_have_text("Waiting for confirmation")
        # Nobody reloaded the page of whoever asked, and the link that is shown once is still there.
        await expect(row).to_contain_text("Waiting for your confirmation")
        await expect(row).to_contain_text("Lucerne Publishing")
        await expect(page.locator(".made code")).to_have_text(link)
        await keys.press("Confirm the tenant")
        await expect(page.get_by_role("region", name="Lucerne Publishing")).to_contain_text("Granted")


async def test_a_limited_app_is_moved_in_one_step_from_where_the_conflict_is_named(
    platform: Platform, chromium: Browser
) -> None:
    _, administrator = await new_tenant(platform, "Woodgrove Bank")
    async with person(chromium, platform, "Northwind admin", f"{SCREEN}?add=tenant") as (page, keys):
        await grant(page, keys, DIRECTORY, administrator)
    _, administrator = await new_tenant(platform, "Litware")
    async with person(chromium, platform, "Northwind admin", f"{SCREEN}?app=mobile-security") as (page, keys):
        # Whichever tenant the app uses now, it is another one than the next.
        await expect(page.get_by_role("region", name="From Mobile Security")).to_contain_text("one tenant only")
        await keys.press("Add Tenant")
        await grant(page, keys, DIRECTORY, administrator)
        await expect(page.locator("main")).to_contain_text("Mobile Security stays on")
        await keys.press("Move Mobile Security here")
        litware = page.get_by_role("region", name="Litware")
        await expect(litware).to_contain_text("Mobile Security")
        await expect(litware).not_to_contain_text("Mobile Security · uses")
        await page.goto(platform.url("gateway", f"{SCREEN}?app=mobile-security"))
        await expect(page.get_by_role("region", name="From Mobile Security")).to_contain_text("uses Litware")


async def test_the_screen_is_right_again_after_the_gateway_was_gone(platform: Platform, chromium: Browser) -> None:
    tenant_id, administrator = await new_tenant(platform, "Adventure Works")
    async with person(chromium, platform, "Northwind operator") as (page, keys):
        await keys.press("Add Tenant")
        await grant(page, keys, DIRECTORY, administrator)
        await page.goto(platform.url("gateway", SCREEN))
        live = page.locator("[data-live]")
        await expect(live).to_have_attribute("data-state", "on")
        manage = page.get_by_role("link", name="Manage Adventure Works")
        await manage.focus()
        await page.evaluate("window.notReloaded = true")
        await platform.kill("consent-gateway")
        await expect(live).to_have_attribute("data-state", "off")
        await platform.start_again("consent-gateway")
        await expect(live).to_have_attribute("data-state", "on", timeout=30_000)
        path = f"/v1/tenants/{tenant_id}/permission-sets/read-directory-data/block"
        assert (await platform.api("gateway", path, role="operator", method="POST")).is_success
        await expect(page.get_by_role("region", name="Adventure Works")).to_contain_text("Blocked")
        await expect(manage).to_be_focused()
        assert await page.evaluate("window.notReloaded") is True


async def test_without_a_script_a_set_is_granted_all_the_same(platform: Platform, chromium: Browser) -> None:
    tenant_id, administrator = await new_tenant(platform, "Fourth Coffee")
    async with person(chromium, platform, "Northwind operator", script=False) as (page, _):
        await page.get_by_role("link", name="Add Tenant").click()
        await page.get_by_role("checkbox", name=re.compile(f"^{DIRECTORY} Users")).check()
        await page.get_by_role("button", name="Continue to Microsoft").click()
        await page.get_by_label("Email").fill(administrator)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await page.get_by_role("button", name="Accept").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Granted")
        await page.get_by_role("link", name="Go to Microsoft Entra ID").click()
        await expect(page.get_by_role("region", name="Fourth Coffee")).to_contain_text(tenant_id)
        await page.get_by_role("region", name="Fourth Coffee").get_by_role("link", name="Details of").first.click()
        await expect(page.get_by_role("table", name=f"Permissions of {DIRECTORY}")).to_be_visible()


async def test_axe_finds_nothing_on_any_page_with_real_data(platform: Platform, chromium: Browser) -> None:
    """Whatever page there is without an id in its address; the others are in the gallery."""
    paths = [one.path for one in routes(create_app(gateway.settings())) if one.method == "GET" and not one.names]
    pages = [one for one in paths if one.startswith("/integrations") and not one.endswith("/events") and "." not in one]
    found = {}
    for name, some in (("Northwind admin", pages), ("Vision One staff (Northwind)", pages)):
        async with person(chromium, platform, name) as (page, _):
            for path in some:
                answer = await page.goto(platform.url("gateway", path))
                assert answer is not None
                if not answer.headers["content-type"].startswith("text/html"):
                    continue
                assert answer.status in {200, 403}, (path, answer.status)
                if said := await findings_in_both_themes(page):
                    found[path] = said
    assert found == {}
