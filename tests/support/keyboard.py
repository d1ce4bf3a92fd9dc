"""Somebody with a keyboard and no mouse, in a real browser: Tab, Enter, Space, and letters."""

import re
from dataclasses import dataclass, field

from playwright.async_api import Page, expect

TABS = 250
_FOCUSED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    name: (element.getAttribute("aria-label") || element.labels?.[0]?.innerText || element.innerText || element.name)
      .replace(/\\s+/g, " ").trim(),
    seen: style.outlineStyle !== "none" && box.bottom > 0 && box.top < innerHeight,
    within: element.closest("section[aria-labelledby], tr, li")?.innerText || "",
  };
}"""


@dataclass
class Keyboard:
    """Keys pressed on a page; ``clicks`` counts what was pressed to make something happen, outside ``entra``."""

    page: Page
    entra: str
    clicks: int = 0
    walked: list[str] = field(default_factory=list)

    async def to(self, name: str | re.Pattern[str], *, within: str = "") -> None:
        """Tab on until something of this name has the focus, and make sure that it shows that it has.

        Raises:
            AssertionError: nothing of this name can be reached, or the focus can't be seen.
        """
        self.walked = []
        for _ in range(TABS):
            await self.page.keyboard.press("Tab")
            focused = await self.page.evaluate(_FOCUSED)
            if focused is None:
                continue
            self.walked.append(focused["name"])
            found = name.search(focused["name"]) if isinstance(name, re.Pattern) else focused["name"].startswith(name)
            if found and within in focused["within"]:
                assert focused["seen"], f"the focus on {focused['name']!r} can't be seen"
                return
        raise AssertionError(f"{name!r} can't be reached at {self.page.url}: {self.walked}")

    async def press(self, name: str | re.Pattern[str], *, within: str = "", key: str = "Enter") -> None:
        """Go there and press it; Enter leads to another page, and ends there."""
        await self.to(name, within=within)
        self.clicks += not self.page.url.startswith(self.entra)
        await (self.enter() if key == "Enter" else self.page.keyboard.press(key))

    async def enter(self) -> None:
        """Press Enter where that leads to another page, which may be the same one anew."""
        async with self.page.expect_event("framenavigated"):
            await self.page.keyboard.press("Enter")
        await self.page.wait_for_load_state()

    async def type(self, name: str, text: str) -> None:
        """Go to a field and type."""
        await self.to(name)
        await self.page.keyboard.type(text)

    async def accept_as(self, administrator: str, password: str, *, times: int = 1) -> None:
        """At Entra: sign in and accept, as often as there is a registration to accept."""
        await expect(self.page.get_by_role("heading", level=1)).to_have_text("Sign in")
        # The field of the name has the focus already; what is typed a moment before that is lost.
        await expect(self.page.get_by_label("Email")).to_be_focused()
        await self.page.keyboard.type(administrator)
        await self.type("Password", password)
        await self.enter()
        for _ in range(times):
            accept = self.page.get_by_role("button", name="Accept")
            await expect(accept).to_be_visible()
            await self.press("Accept")
