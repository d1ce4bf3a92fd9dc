"""Turns templates and texts into pages."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from consent_gateway.web.security import FormTargets, Referrer, protect
from consent_gateway.web.sessions import Session
from consent_gateway.web.texts import text

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_YEAR = "public, max-age=31536000, immutable"


class Pages:
    """Renders the console's pages. ``form_targets`` are the foreign origins that our forms may lead to."""

    def __init__(self, *, form_targets: FormTargets) -> None:
        self._form_targets = form_targets

    async def render(
        self,
        template: str,
        values: Mapping[str, object] | None = None,
        *,
        status: int = 200,
        session: Session | None = None,
        referrer: Referrer = "same-origin",
    ) -> HTMLResponse:
        """The page, with its headers. A page that knows the session shows who is signed in, and can hold forms."""
        html = _environment().get_template(template).render({**(values or {}), "session": session})
        response = HTMLResponse(html, status)
        protect(response, form_targets=await self._form_targets(), referrer=referrer)
        return response

    async def problem(
        self, kind: str, *, status: int, reference: str | None = None, session: Session | None = None
    ) -> HTMLResponse:
        """The page of something that went wrong: what happened, what to do next, what to quote."""
        values = {"kind": kind, "reference": reference}
        response = await self.render("problem.html", values, status=status, session=session, referrer="no-referrer")
        if status == 503:
            response.headers["Retry-After"] = "5"
        return response

    def router(self) -> APIRouter:
        """``/static``: the styles, the script and the icon, from memory."""
        routes = APIRouter(include_in_schema=False)

        @routes.get("/static/{name}")
        async def static(name: str, request: Request) -> Response:
            if name not in _assets():
                return Response(status_code=404)
            content, version = _assets()[name]
            fresh = request.query_params.get("v") == version
            headers = {"Cache-Control": _YEAR if fresh else "no-cache", "X-Content-Type-Options": "nosniff"}
            return Response(content, headers=headers, media_type=_TYPES[name.rpartition(".")[2]])

        return routes


def time_element(moment: datetime) -> Markup:
    """A time with its exact value; the script turns it into the reader's zone and into "2 minutes ago"."""
    utc = moment.astimezone(UTC)
    shown = f"{utc.day} {utc:%b %Y, %H:%M} UTC"
    return Markup('<time datetime="{}" data-relative>{}</time>').format(utc.isoformat(timespec="seconds"), shown)


def day_element(moment: datetime) -> Markup:
    """A day with the exact time behind it."""
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(utc.isoformat(timespec="seconds"), f"{utc.day} {utc:%b %Y}")


@cache
def _environment() -> Environment:
    """The templates; each is compiled once per process."""
    environment = Environment(
        loader=PackageLoader("consent_gateway"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(t=text, asset=_asset_url)
    environment.filters.update(time=time_element, day=day_element)
    return environment


def _asset_url(name: str) -> str:
    return f"/static/{name}?v={_assets()[name][1]}"


@cache
def _assets() -> Mapping[str, tuple[bytes, str]]:
    """The files by name: content, and the version that follows from it."""
    found = {}
    for file in files("consent_gateway").joinpath("static").iterdir():
        if file.name.rpartition(".")[2] in _TYPES:
            content = file.read_bytes()
            found[file.name] = (content, hashlib.sha256(content).hexdigest()[:12])
    return found
