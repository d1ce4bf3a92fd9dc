"""The page in a real Chromium: it changes by itself, and its own forms pass their own check."""

import pytest
from playwright.async_api import async_playwright, expect

from support.chromium import CHROMIUM, missing
from support.eventually import eventually
from support.sample_app_platform import StartSample

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

MISSING = missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


async def test_a_person_watches_pushes_and_turns_the_knobs(start_sample: StartSample) -> None:
    sample = await start_sample()
    await eventually(sample.ready)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await browser.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))

        await page.goto(str(sample.http.base_url))
        await expect(page.get_by_role("status")).to_have_text("Live")
        await sample.push(webhook_id="the-push")
        await expect(page.get_by_role("row", name="the-push")).to_contain_text("applied")
        await expect(page.get_by_role("row", name="Contoso Ltd")).to_contain_text("yes")

        await page.get_by_label("Answer 500").check()
        await page.get_by_label("Only for so many pushes").fill("1")
        await page.get_by_role("button", name="Apply").click()
        await expect(page.get_by_label("Answer 500")).to_be_checked()
        assert (await sample.push(webhook_id="another")).status_code == 500
        await page.get_by_role("button", name="Rotate the secret").click()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await eventually(lambda: _calls(sample.platform.calls), lambda calls: "rotate-secret" in calls)

        assert problems == []
        await browser.close()


async def _calls(calls: list[str]) -> list[str]:
    return calls
