"""A browser without a screen: follows redirects, keeps cookies, fills in the forms that a page really has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import urlencode, urljoin

import httpx

MAX_REDIRECTS = 20
_VOID = frozenset({"input", "meta", "link", "br", "hr", "img", "use", "path", "circle"})


@dataclass
class Form:
    """A form of a page: where it goes, what it holds, and what its buttons say."""

    action: str
    method: str
    values: list[tuple[str, str]] = field(default_factory=list)
    choices: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)

    def says(self, text: str) -> bool:
        """Whether a button of the form has this text in its label."""
        return any(text in label for _, _, label in self.buttons)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.heading = ""
        self._form: Form | None = None
        self._open: list[tuple[str, Mapping[str, str], list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(action=values.get("action", ""), method=values.get("method", "get").lower())
            self.forms.append(self._form)
        elif tag == "input" and self._form is not None and "name" in values:
            self._input(self._form, values)
        if tag not in _VOID:
            self._open.append((tag, values, []))

    @staticmethod
    def _input(form: Form, values: Mapping[str, str]) -> None:
        pair = (values["name"], values.get("value", "on"))
        kind = values.get("type", "text")
        if kind == "submit":
            form.buttons.append((*pair, values.get("value", "")))
        elif kind not in {"checkbox", "radio"} or "checked" in values:
            form.values.append((pair[0], values.get("value", "")) if kind not in {"checkbox", "radio"} else pair)
        else:
            form.choices.append(pair)

    def handle_data(self, data: str) -> None:
        if data.strip() and not any(tag in {"script", "style"} for tag, _, _ in self._open):
            self.texts.append(data.strip())
        for _, _, words in self._open:
            words.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self._open:
            opened, values, words = self._open.pop()
            text = " ".join("".join(words).split())
            if opened == "button" and self._form is not None and values.get("type", "submit") == "submit":
                self._form.buttons.append((values.get("name", ""), values.get("value", ""), text))
            elif opened == "a" and "href" in values:
                self.links.append((text, values["href"]))
            elif opened == "h1":
                self.heading = text
            elif opened == "form":
                self._form = None
            if opened == tag:
                return


class Page:
    """An answer to the browser, after all redirects."""

    def __init__(self, browser: "Browser", response: httpx.Response) -> None:
        self._browser = browser
        self.response = response
        self.url = str(response.url)
        self.status = response.status_code
        reader = _Reader()
        reader.feed(response.text)
        self.forms, self.links, self.heading = reader.forms, reader.links, reader.heading
        self.text = " ".join(reader.texts)

    def form(self, button: str, **values: str) -> Form:
        """The first form with this button whose hidden values include these.

        Raises:
            AssertionError: the page has none; the message says what it has.
        """
        wanted = set(values.items())
        for form in self.forms:
            if form.says(button) and wanted <= {*form.values, *((n, v) for n, v, _ in form.buttons)}:
                return form
        have = [label for form in self.forms for _, _, label in form.buttons]
        raise AssertionError(
            f"no form {button!r} with {values} at {self.url} ({self.status}, {self.heading!r}): {have}"
        )

    async def submit(self, button: str, *, where: Mapping[str, str] | None = None, **values: str | list[str]) -> "Page":
        """Fill in the form that has the button and press it. A list ticks several choices of one name."""
        form = self.form(button, **(where or {}))
        filled = [(name, value) for name, value in form.values if name not in values]
        for name, value in values.items():
            filled += [(name, item) for item in (value if isinstance(value, list) else [value])]
        pressed = next((name, value) for name, value, label in form.buttons if button in label)
        if pressed[0]:
            filled.append(pressed)
        return await self._browser.send(form.method, urljoin(self.url, form.action), filled, referrer=self.url)

    async def follow(self, link: str) -> "Page":
        """Follow the first link with this text."""
        for text, target in self.links:
            if link in text:
                return await self._browser.get(urljoin(self.url, target))
        raise AssertionError(f"no link {link!r} at {self.url}: {[text for text, _ in self.links]}")


class Browser:
    """One person's browser: one cookie jar, which as in real browsers does not tell ports apart."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(timeout=30, trust_env=False, headers={"accept": "text/html"})
        self.visited: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    @property
    def cookies(self) -> httpx.Cookies:
        """The cookie jar."""
        return self._client.cookies

    async def get(self, url: str, *, follow: bool = True) -> Page:
        """Open an address; without `follow`, stop at the first answer."""
        return await self.send("get", url, [], follow=follow)

    async def send(
        self, method: str, url: str, values: list[tuple[str, str]], *, referrer: str | None = None, follow: bool = True
    ) -> Page:
        """Send a form, and follow where it leads."""
        headers = {}
        if method == "post":
            target = httpx.URL(referrer or url)
            headers["origin"] = f"{target.scheme}://{target.netloc.decode()}"
        pairs = urlencode(values)
        request = self._client.build_request(
            method.upper(),
            f"{url.partition('?')[0]}?{pairs}" if method == "get" and values else url,
            content=pairs if method == "post" else None,
            headers=headers | ({"content-type": "application/x-www-form-urlencoded"} if method == "post" else {}),
        )
        for _ in range(MAX_REDIRECTS):
            self.visited.append(str(request.url))
            response = await self._client.send(request)
            if not follow or response.next_request is None:
                return Page(self, response)
            request = response.next_request
        raise AssertionError(f"redirected for ever: {self.visited[-4:]}")
