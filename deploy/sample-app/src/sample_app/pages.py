"""Renders what the app shows, as HTML and as JSON."""

from dataclasses import asdict
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from sample_app.faults import FaultMode, Faults
from sample_app.settings import Settings
from sample_app.store import Arrival, StoreThread
from sample_app.subscriptions import Subscriber

_SHOWN_ARRIVALS = 50
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # no-referrer would make browsers hide the Origin of our own forms
    "X-Content-Type-Options": "nosniff",
}
_SMALL_WORDS = frozenset({"and", "of", "to"})


class Pages:
    """The app's one page, and the part of it that changes by itself."""

    def __init__(self, settings: Settings, store: StoreThread, subscribers: list[Subscriber], faults: Faults) -> None:
        self._settings = settings
        self._store = store
        self._subscribers = subscribers
        self._faults = faults
        self._templates = Environment(
            loader=PackageLoader("sample_app"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.filters["title_of"] = title_of

    async def page(self, *, notice: str | None = None, status: int = 200) -> HTMLResponse:
        """The whole page; ``notice`` is a sentence about what was just asked for."""
        return await self._render(
            "index.html", status, notice=notice, fault=self._faults.current, modes=list(FaultMode)
        )

    async def live_part(self) -> HTMLResponse:
        """Subscriptions, tenants and pushes."""
        return await self._render("live.html", 200)

    async def _render(self, name: str, status: int, **values: object) -> HTMLResponse:
        arrivals = await self._store.run(lambda store: store.arrivals(limit=_SHOWN_ARRIVALS))
        grants = await self._store.run(lambda store: store.grants())
        html = self._templates.get_template(name).render(
            apps=self._settings.app_ids,
            connect_urls={app_id: self._connect_url(app_id) for app_id in self._settings.app_ids},
            subscribers=self._subscribers,
            webhook_url=self._settings.webhook_url,
            arrivals=arrivals,
            grants=grants,
            **values,
        )
        return HTMLResponse(html, status, headers=_HEADERS)

    def _connect_url(self, app_id: str) -> str:
        """The gateway's screen, opened for this app."""
        return f"{self._settings.gateway_url}/integrations/microsoft-entra-id?{urlencode({'app': app_id})}"


def arrival_json(arrival: Arrival) -> dict[str, Any]:
    """One arrival as ``GET /api/received`` shows it; ``body`` is the verified text, to be parsed by the reader."""
    unverified = {"rejected": False, "fault": None}
    return {**asdict(arrival), "verified": unverified.get(arrival.verdict, True)}


def title_of(app_id: str) -> str:
    """The app's name as the suite writes it: ``identity-security`` is Identity Security."""
    words = app_id.split("-")
    return " ".join(word if word in _SMALL_WORDS else word.capitalize() for word in words)


def asset(name: str) -> bytes:
    """A file of the page."""
    return files("sample_app").joinpath("static", name).read_bytes()
