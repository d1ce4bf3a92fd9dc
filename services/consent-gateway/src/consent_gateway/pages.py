"""Turns templates and texts into pages."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from consent_gateway.security import Referrer, protect
from consent_gateway.sessions import Session
from consent_gateway.texts import text

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_YEAR = "public, max-age=31536000, immutable"


class Pages:
    """Renders the console's pages. ``form_targets`` are the foreign origins that our forms may lead to."""

    def __init__(self, *, form_targets: Callable[[], Iterable[str]] = tuple) -> None:
        self.form_targets = form_targets
        self._assets = _read_assets()
        self._templates = Environment(
            loader=PackageLoader("consent_gateway"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(t=text, asset=self._asset_url, icon=_icon)
        self._templates.filters.update(time=time_element, day=day_element)

    def render(
        self,
        template: str,
        values: Mapping[str, object] | None = None,
        *,
        status: int = 200,
        session: Session | None = None,
        referrer: Referrer = "same-origin",
    ) -> HTMLResponse:
        """The page, with its headers. A page that knows the session shows who is signed in, and can hold forms."""
        html = self._templates.get_template(template).render({**(values or {}), "session": session})
        response = HTMLResponse(html, status)
        protect(response, form_targets=self.form_targets(), referrer=referrer)
        return response

    def problem(
        self, kind: str, *, status: int, reference: str | None = None, session: Session | None = None
    ) -> HTMLResponse:
        """The page of something that went wrong: what happened, what to do next, what to quote."""
        values = {"kind": kind, "reference": reference}
        response = self.render("problem.html", values, status=status, session=session, referrer="no-referrer")
        if status == 503:
            response.headers["Retry-After"] = "5"
        return response

    def router(self) -> APIRouter:
        """``/static``: the styles, the script and the icon, from memory."""
        routes = APIRouter(include_in_schema=False)

        @routes.get("/static/{name}")
        async def static(name: str, request: Request) -> Response:
            if name not in self._assets:
                return Response(status_code=404)
            content, version = self._assets[name]
            fresh = request.query_params.get("v") == version
            headers = {"Cache-Control": _YEAR if fresh else "no-cache", "X-Content-Type-Options": "nosniff"}
            return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])

        return routes

    def _asset_url(self, name: str) -> str:
        return f"/static/{name}?v={self._assets[name][1]}"


def time_element(moment: datetime) -> Markup:
    """A time with its exact value; the script turns it into the reader's zone and into "2 minutes ago"."""
    utc = moment.astimezone(UTC)
    shown = f"{utc.day} {utc:%b %Y, %H:%M} UTC"
    return Markup('<time datetime="{}" data-relative>{}</time>').format(utc.isoformat(timespec="seconds"), shown)


def day_element(moment: datetime) -> Markup:
    """A day with the exact time behind it."""
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(timespec="seconds"), f"{utc.day} {utc:%b %Y}")


def _icon(name: str) -> Markup:
    """A decorative icon; the word stands beside it."""
    return Markup('<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">{}</svg>').format(
        Markup(_ICONS[name])  # noqa: S704 - our own constants
    )


def _read_assets() -> Mapping[str, tuple[bytes, str]]:
    found = {}
    for file in files("consent_gateway").joinpath("static").iterdir():
        if file.name.rpartition(".")[2] in _TYPES:
            content = file.read_bytes()
            found[file.name] = (content, hashlib.sha256(content).hexdigest()[:12])
    return found


_ICONS = {
    "granted": '<circle cx="8" cy="8" r="7" fill="currentColor"/><path class="cut" d="M4.6 8.3 7 10.7l4.5-5.2"/>',
    "verifying": '<circle cx="8" cy="8" r="6" class="ring" stroke-dasharray="3.2 2.2"/>'
    '<path class="line" d="M8 5v3.2l2 1.4"/>',
    "partial": '<path d="M8 1.2 15.4 14.4H.6z" fill="currentColor"/><path class="cut" d="M8 6v4M8 11.7v1.2"/>',
    "update": '<circle cx="8" cy="8" r="7" fill="currentColor"/><path class="cut" d="M8 12V4.8M5 7.6l3-3 3 3"/>',
    "blocked": '<circle cx="8" cy="8" r="6" class="ring"/><path class="line" d="m3.9 12.1 8.2-8.2"/>',
    "revoked": '<circle cx="8" cy="8" r="7" fill="currentColor"/><path class="cut" d="m5.4 5.4 5.2 5.2m0-5.2-5.2 5.2"/>',
    "none": '<circle cx="8" cy="8" r="6" class="ring"/>',
    "unverified": '<circle cx="8" cy="8" r="6" class="ring"/><path class="line" d="M5 8h6"/>',
    "info": '<circle cx="8" cy="8" r="7" fill="currentColor"/><path class="cut" d="M8 7.2v4.4M8 4.2v1.4"/>',
    "microsoft": '<path d="M1 1h6.5v6.5H1z" fill="#f25022"/><path d="M8.5 1H15v6.5H8.5z" fill="#7fba00"/>'
    '<path d="M1 8.5h6.5V15H1z" fill="#00a4ef"/><path d="M8.5 8.5H15V15H8.5z" fill="#ffb900"/>',
}
