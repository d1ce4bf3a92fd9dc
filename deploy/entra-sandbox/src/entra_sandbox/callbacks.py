"""The way back to the client: parameters in the query, the fragment or a form, encoded as Entra encodes them."""

import re
from urllib.parse import quote_plus

from fastapi.responses import RedirectResponse, Response

from entra_sandbox.pages import Pages


def encode(params: dict[str, str]) -> str:
    """`a=b&c=d` with `+` for spaces and lower-case escapes, as Entra writes them."""
    return "&".join(f"{name}={_escape(value)}" for name, value in params.items())


def _escape(value: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda match: match.group().lower(), quote_plus(value))


def answer(pages: Pages, redirect_uri: str, params: dict[str, str], *, mode: str = "query") -> Response:
    """Sends the browser back to the client; empty parameters are left out."""
    given = {name: value for name, value in params.items() if value}
    if mode == "form_post":
        return pages.render("form_post.html", action=redirect_uri, params=given)
    mark = "#" if mode == "fragment" else "&" if "?" in redirect_uri else "?"
    response = RedirectResponse(f"{redirect_uri}{mark}{encode(given)}", status_code=302)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
