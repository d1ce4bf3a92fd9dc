"""axe-core, which a package from the index carries: nothing is fetched from anywhere while tests run."""

from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page


async def findings(page: Page) -> list[str]:
    """What axe-core has to say against the page, with the elements."""
    await page.evaluate(AXE_SCRIPT)
    said: Any = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}" for one in said["violations"] for node in one["nodes"]
    ]
