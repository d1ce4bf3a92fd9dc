"""Pictures of the console's pages for the documentation: light and dark, wide and narrow. ``make screenshots``."""

import os
from pathlib import Path
from typing import Literal

import pytest

from support.chromium import missing
from support.gallery import ORIGIN, looking, standing_for_all
from support.gallery_registry import of_the_registry

PICTURES = os.environ.get("SCREENSHOTS")
MISSING = missing()
pytestmark = [
    pytest.mark.skipif(PICTURES is None, reason="optional: pictures are taken by make screenshots"),
    pytest.mark.skipif(MISSING is not None, reason=MISSING or ""),
]
# One picture of each page, and of the screen in its main states.
KEPT = {
    *("integrations", "screen", "screen-details", "screen-first-visit", "screen-from-app", "screen-failed"),
    *("add-tenant", "grant-granted", "tenant", "invitations", "invite", "invite-connect", "transfers", "connect"),
    *("end-granted", "end-held", "end-tenant_taken", "problem-expired", "signed-out"),
}
WIDTHS: dict[str, int] = {"wide": 1280, "narrow": 320}
Theme = Literal["light", "dark"]


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_pictures_are_taken(theme: Theme) -> None:
    shown = {name: one for name, one in standing_for_all().items() if name in KEPT} | of_the_registry()
    folder = Path(PICTURES or "") / "pages"
    folder.mkdir(exist_ok=True)
    async with looking(shown) as context:
        page = await context.new_page()
        await page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for size, width in WIDTHS.items():
            await page.set_viewport_size({"width": width, "height": 700})
            for name in shown:
                await page.goto(f"{ORIGIN}/{name}")
                path = folder / f"{name}-{theme}-{size}.jpg"
                await page.screenshot(path=path, type="jpeg", quality=60, full_page=True)
