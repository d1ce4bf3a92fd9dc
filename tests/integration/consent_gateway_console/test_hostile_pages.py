"""What Chromium lets other sites do to our pages, and injected markup do in them: with our headers, and without."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, expect

from support.chromium import missing
from support.gallery import ORIGIN, gallery, looking

MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
EVIL = "http://evil.test"
# As if a name had got into the page without being escaped.
INJECTED = f"""<script>window.ran = ["script"]</script>
<img src="/static/icon.svg" onload="window.ran = [...(window.ran ?? []), 'handler']">
<form id="leading-away" action="{EVIL}/"><button>Go on</button></form>"""


@pytest_asyncio.fixture(params=[False, True], ids=["protected", "unprotected"])
async def visited(request: pytest.FixtureRequest) -> AsyncIterator[tuple[BrowserContext, bool]]:
    """A browser, and whether the pages have lost their headers."""
    async with looking(gallery(), unprotected=request.param, injected=INJECTED) as context:
        frame = f"<iframe src='{ORIGIN}/screen'></iframe>"
        await context.route(f"{EVIL}/**", lambda route: route.fulfill(body=frame, content_type="text/html"))
        yield context, request.param


async def test_other_sites_and_injected_markup_get_nowhere(visited: tuple[BrowserContext, bool]) -> None:
    """Without the headers each of these attacks gets through."""
    context, unprotected = visited
    page = await context.new_page()
    async with page.expect_event("framenavigated", lambda frame: frame.parent_frame is not None):
        await page.goto(f"{EVIL}/")
    framed = page.frame_locator("iframe").get_by_role("heading", name="Microsoft Entra ID", level=1)
    await expect(framed).to_have_count(1 if unprotected else 0)

    await page.goto(f"{ORIGIN}/screen", wait_until="load")
    assert await page.evaluate("window.ran ?? []") == (["script", "handler"] if unprotected else [])

    led_away = "document.getElementById('leading-away').requestSubmit()"
    if unprotected:
        await page.evaluate(led_away)
        await page.wait_for_url(f"{EVIL}/**")
    else:
        stopped_by = await page.evaluate(f"""() => new Promise(resolve => {{
            document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
            {led_away};
        }})""")
        assert stopped_by == "form-action"
