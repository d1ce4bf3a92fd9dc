"""The pages that tell what the registry knows, in a real Chromium: axe-core, both themes, narrow, by keyboard."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from shared.events import PermissionRevoked
from support.axe import findings_in_both_themes
from support.chromium import ARGUMENTS, CHROMIUM, missing
from support.consent_events import CONTOSO, FABRIKAM, grant_event
from support.fleet_site import fleet_site, served
from support.gateway import PUBLIC_URL
from support.registry_api import MANAGE, write

MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")

SCREEN = "/integrations/microsoft-entra-id"
PATHS = (
    f"{SCREEN}/fleet?status=not_consented",
    f"{SCREEN}/fleet?q=nobody&checked=3",
    f"{SCREEN}/fleet?account=adatum",
    f"{SCREEN}/fleet/accounts",
    f"{SCREEN}/history",
    f"{SCREEN}/history?tenant={CONTOSO}&account=northwind",
    f"{SCREEN}/invitations/many",
    f"{SCREEN}/planned",
)


@pytest_asyncio.fixture
async def page(mongo_url: str, mongo_database: str) -> AsyncIterator[Page]:
    """Somebody who is operator and of the staff, in front of a fleet of three tenants in two accounts."""
    async with fleet_site(mongo_url=mongo_url, database=mongo_database) as fleet:
        await write(
            fleet.registry,
            grant_event(revision=1),
            grant_event(revision=2, permission_set_id=MANAGE, status="partial"),
            grant_event(PermissionRevoked, tenant_id=FABRIKAM, status="revoked", usable=False, reason="removed"),
            grant_event(account_id="adatum"),
        )
        visit = await fleet.visit("staff", "northwind", "operator")
        async with served(fleet.site.app) as url, async_playwright() as playwright:
            # Forms are taken from the public address alone.
            here = f"--host-resolver-rules=MAP gateway.test:80 {url.removeprefix('http://')}"
            chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, here])
            context = await chromium.new_context(base_url=PUBLIC_URL, viewport={"width": 1280, "height": 900})
            await context.add_cookies([{"name": "consent_console", "value": visit.cookie, "url": PUBLIC_URL}])
            yield await context.new_page()
            await chromium.close()


async def test_axe_finds_nothing_and_nothing_scrolls_sideways(page: Page) -> None:
    found = {}
    for path in PATHS:
        await page.set_viewport_size({"width": 1280, "height": 900})
        answer = await page.goto(path)
        assert answer is not None
        assert answer.ok, path
        said = await findings_in_both_themes(page)
        for width in (640, 320):
            await page.set_viewport_size({"width": width, "height": 900})
            if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                said.append(f"scrolls sideways at {width} px")
        if said:
            found[path] = said
    assert found == {}


async def test_a_tenant_is_found_and_chosen_with_the_keyboard_alone(page: Page) -> None:
    await page.goto(f"{SCREEN}/fleet?account=northwind")
    await page.get_by_label("Name, domain or tenant ID").focus()
    await page.keyboard.type("contoso")
    await page.keyboard.press("Enter")
    tick = page.get_by_label("Select Contoso Ltd").first
    await expect(page.get_by_label("Name, domain or tenant ID")).to_have_value("contoso")
    await tick.focus()
    await page.keyboard.press("Space")
    await expect(tick).to_be_checked()
    button = page.get_by_role("button", name="Invite administrators of the selected")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Tenant IDs")).not_to_be_empty()
