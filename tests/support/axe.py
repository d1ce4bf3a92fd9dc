"""axe-core, which a package from the index carries: nothing is fetched from anywhere while tests run."""

from collections.abc import Collection
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page

# What a theme can break: it sets colours, and nothing else.
OF_COLOURS = ("color-contrast", "link-in-text-block")


async def findings(page: Page, *, rules: Collection[str] = ()) -> list[str]:
    """What axe-core has to say against the page, with the elements; by all of its rules, or by some."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE_SCRIPT)
    said: Any = await page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}" for one in said["violations"] for node in one["nodes"]
    ]


async def findings_in_both_themes(page: Page) -> list[str]:
    """The same by light, and what only the dark theme breaks; the page is left light."""
    await page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    dark = [f"dark: {one}" for one in await findings(page, rules=OF_COLOURS)]
    await page.emulate_media(color_scheme="light", reduced_motion="reduce")
    return [*await findings(page), *dark]
