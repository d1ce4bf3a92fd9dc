"""axe-core looks at every page of the console, in all its states, light and dark (WCAG 2.2 A and AA)."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from support.axe import findings_in_both_themes
from support.chromium import missing
from support.gallery import ORIGIN, looking, pages_without_a_picture, standing_for_all

MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
SHOWN = standing_for_all()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def context() -> AsyncIterator[BrowserContext]:
    async with looking(SHOWN) as context:
        yield context


def test_no_page_is_left_out() -> None:
    assert pages_without_a_picture(SHOWN) == set()


@pytest.mark.asyncio(loop_scope="module")
async def test_axe_finds_nothing_and_nothing_scrolls_sideways_on_any_page(context: BrowserContext) -> None:
    """320 px is 1280 px at 400 % zoom (WCAG 1.4.10), 640 px is 1280 px at 200 %."""
    page = await context.new_page()
    found = {}
    for name in SHOWN:
        await page.set_viewport_size({"width": 1280, "height": 800})
        await page.goto(f"{ORIGIN}/{name}")
        said = await findings_in_both_themes(page)
        for width in (640, 320):
            await page.set_viewport_size({"width": width, "height": 800})
            if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                said.append(f"scrolls sideways at {width} px")
        if said:
            found[name] = said
    await page.close()
    assert found == {}


@pytest.mark.asyncio(loop_scope="module")
async def test_axe_would_find_something(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto(f"{ORIGIN}/screen")
    await page.evaluate("""() => {
        document.querySelector("h1").style.color = "#eee";
        document.querySelector("main a").textContent = "";
    }""")
    said = await findings_in_both_themes(page)
    await page.close()
    assert any(one.startswith("color-contrast: ") for one in said)
    assert any(one.startswith("link-name: ") for one in said)


@pytest.mark.asyncio(loop_scope="module")
async def test_axe_would_find_what_is_wrong_in_the_dark_only(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto(f"{ORIGIN}/screen")
    # Black on white is as it should be; on the dark theme's ground nobody can read it.
    await page.evaluate("document.querySelector('h1').style.color = '#000'")
    said = await findings_in_both_themes(page)
    await page.close()
    assert [one.partition(" [")[0] for one in said] == ["dark: color-contrast:"]
