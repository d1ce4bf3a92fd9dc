"""Renders the pages that a browser shows."""

from collections.abc import Iterable
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # no-referrer would make browsers hide the Origin of our own forms
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Pages:
    """The issuer's pages, with the headers that keep them private and unframed."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("platform_idp"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )

    def render(
        self, name: str, *, status: int = 200, form_targets: Iterable[str] = (), **values: object
    ) -> HTMLResponse:
        """One page. ``form_targets`` are the origins a form's answer may redirect to.

        Browsers apply ``form-action`` to the redirect that answers a form too, so the client's origin must
        be named for the sign-in to arrive there.
        """
        form_action = " ".join(("'self'", *form_targets))
        policy = (
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
            f"form-action {form_action}"
        )
        html = self._templates.get_template(name).render(**values)
        return HTMLResponse(html, status, headers={**_HEADERS, "Content-Security-Policy": policy})


def stylesheet() -> bytes:
    """The one stylesheet of all pages."""
    return files("platform_idp").joinpath("static", "style.css").read_bytes()
