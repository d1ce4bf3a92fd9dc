"""The portal in a real Chromium, by keyboard alone: from the link to a delivery that is sent again."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from launcher.ports import free_port
from support.chromium import CHROMIUM, missing
from support.eventually import eventually
from support.status_events import status_event
from support.tokens import Issuer
from support.webhooks import answering

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PICTURES = os.environ.get("SCREENSHOTS")
FOCUSED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const box = element.getBoundingClientRect();
  return {
    name: (element.getAttribute("aria-label") || element.innerText).trim(),
    seen: getComputedStyle(element).outlineStyle !== "none" && box.bottom > 0 && box.top < innerHeight,
    row: element.closest("tr")?.innerText || "",
  };
}"""
# What has more in it than it shows, and can't be reached by keyboard to scroll it.
UNREACHABLE = """() => [...document.querySelectorAll("main *")]
  .filter((e) => /auto|scroll/.test(getComputedStyle(e).overflow) && e.tabIndex < 0)
  .filter((e) => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight).map((e) => e.outerHTML)"""
# What has to be scrolled sideways to be read, or is out of sight.
SIDEWAYS = """() => [...document.querySelectorAll("main *")].filter((e) =>
  (/auto|scroll/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth)
  || (!e.closest("thead") && e.getBoundingClientRect().right > innerWidth)).map((e) => e.outerHTML)"""
# Text of less than 4.5 to 1 against the page (WCAG 2.2, 1.4.3).
CONTRASTS = """() => {
  const parts = (color) => {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  const light = (color) => parts(color).map(linear).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const probe = document.createElement("div");
  document.body.append(probe);
  probe.className = "skip";
  const page = light(getComputedStyle(probe).backgroundColor);
  probe.remove();
  return [...document.querySelectorAll("h1, h2, p, dt, dd, th, td, nav a, dd a, td a, pre, code")]
    .map((e) => [e.tagName + "." + e.className, light(getComputedStyle(e).color)])
    .filter(([, one]) => (Math.max(one, page) + 0.05) / (Math.min(one, page) + 0.05) < 4.5);
}"""
MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


@pytest_asyncio.fixture
async def served(serve: Any) -> AsyncIterator[Any]:
    """With its real address, which forms have to come from."""
    port = free_port()
    async with serve(port=port, public_url=f"http://127.0.0.1:{port}") as running:
        yield running


@pytest_asyncio.fixture
async def page() -> AsyncIterator[Page]:
    """A browser that has no mouse; what it complains of (the content policy, too) fails the test."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await browser.new_page(viewport={"width": 1280, "height": 900}, locale="en-GB")
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        yield page
        await browser.close()
    # After signing out the way back leads nowhere, which the browser notes.
    assert [each for each in problems if "status of 401" not in each] == []


async def press(page: Page, name: str, *, within: str = "") -> None:
    """Tab on to what has this name, make sure that one sees where one is, and press Enter."""
    walked = []
    for _ in range(100):
        await page.keyboard.press("Tab")
        focused = await page.evaluate(FOCUSED)
        walked.append(focused)
        if focused is not None and focused["name"].startswith(name) and within in focused["row"]:
            assert focused["seen"], f"the focus on {name!r} can't be seen"
            await page.keyboard.press("Enter")
            return
    raise AssertionError(f"{name!r} can't be reached at {page.url}: {walked}")


async def looked_at(page: Page, name: str) -> None:
    """It fits a phone, says what it is, and everything that is scrolled can be; a picture of it where one is wanted."""
    assert await page.get_by_role("main").count() == 1
    assert await page.get_by_role("heading", level=1).count() == 1
    assert await page.locator("script, [style], [onclick]").count() == 0
    await page.set_viewport_size({"width": 320, "height": 700})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
    assert await page.evaluate(SIDEWAYS) == [], name
    assert await page.evaluate(UNREACHABLE) == [], name
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"portal-{name}-narrow.png", full_page=True)
    await page.set_viewport_size({"width": 1280, "height": 900})
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        assert await page.evaluate(CONTRASTS) == [], f"{name}, {theme}"
        if PICTURES:
            await page.screenshot(path=Path(PICTURES) / f"portal-{name}-{theme}.png", full_page=True)


async def test_a_developer_finds_what_failed_and_sends_it_again_by_keyboard(
    page: Page, served: Any, stage: Any, issuer: Issuer
) -> None:
    endpoint = await stage.make_receiver(answering(500, body=b"the database is away"))
    subscription = await stage.subscribe(endpoint.url, app_id="search", description="production")
    await stage.subscribe("https://hooks.example.com/other", app_id="search", enabled=False)
    event = status_event()
    await stage.publish(event)

    async def dead() -> Any:
        return await stage.deliveries.list_of(subscription.id, status="dead", after=None, limit=10)

    await eventually(dead, within=40)
    async with httpx.AsyncClient(base_url=served.url) as api:
        link = (await api.post("/v1/portal-links", headers=issuer.headers("app", app_id="search"))).json()["url"]

    heading = page.get_by_role("heading", level=1)
    await page.goto(link)
    await looked_at(page, "link")
    await press(page, "Open")
    await expect(heading).to_have_text("Endpoints")
    await expect(page.get_by_role("row", name=endpoint.url)).to_contain_text("failing since")
    await looked_at(page, "endpoints")

    await press(page, endpoint.url)
    await expect(heading).to_have_text(endpoint.url)
    await looked_at(page, "endpoint")
    await press(page, "dead")
    await expect(page.get_by_role("link", name="dead")).to_have_attribute("aria-current", "page")
    row = page.get_by_role("row", name="permission.status_changed")
    await expect(row).to_contain_text("attempts_exhausted")
    await press(page, "20", within="permission.status_changed")  # its time: of this century

    await expect(heading).to_have_text("permission.status_changed")
    await expect(page.get_by_role("table", name="Attempts").get_by_role("row")).to_have_count(1 + 4)
    await expect(page.get_by_role("table", name="Attempts")).to_contain_text("the database is away")
    await expect(page.get_by_role("region", name="Payload")).to_contain_text(
        '"permission_set_id": "read-directory-data"'
    )
    await expect(page.get_by_role("main")).to_contain_text(event.id)
    await looked_at(page, "delivery")

    endpoint.answer = answering(204)
    await press(page, "Send again")
    await expect(page.get_by_role("status")).to_contain_text("sent again")

    async def delivered() -> Any:
        return await stage.deliveries.list_of(subscription.id, status="delivered", after=None, limit=10)

    await eventually(delivered, within=40)
    await page.reload()
    await expect(page.get_by_role("table", name="Attempts").get_by_role("row")).to_have_count(1 + 5)
    await looked_at(page, "sent-again")
    await press(page, "Sign out")
    await expect(heading).to_have_text("Signed out")
    await page.go_back()
    await expect(heading).not_to_have_text("permission.status_changed")
