"""What protects the pages: cookies, the answers' headers, and the checks that every form must pass."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import structlog
from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

FORM_BYTES = 64 * 1024
FORM_TARGET_SECONDS = 2.0
NEXT_CHARACTERS = 2048
HOME = "/integrations"
# A year. Not for subdomains, which are others' to decide on.
STRICT_SECONDS = 31_536_000

Referrer = Literal["same-origin", "no-referrer"]


class FormRefused(Exception):
    """The form was not sent by a page of ours; nothing was done."""


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, as a browser writes it in ``Origin``."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}" if parts.port in {None, default} else f"{parts.scheme}://{host}:{parts.port}"


def local_path(value: str | None) -> str:
    """``value`` where it leads to a page of ours, and the first page otherwise: never to another site."""
    if not value or len(value) > NEXT_CHARACTERS or not value.startswith("/") or value.startswith(("//", "/auth/")):
        return HOME
    # Browsers drop control characters and read a backslash as a slash: "/\t/host" and "/\host" would leave us.
    if "\\" in value or any(ord(character) <= 32 or ord(character) == 127 for character in value):
        return HOME
    return value


class FormTargets:
    """The foreign origins that our forms lead to, asked of those who know them, such as discovery documents.

    A source that doesn't answer in time, or fails, counts with what it said last; the form that needs it would then
    meet the same trouble and say so.
    """

    def __init__(self, *sources: Callable[[], Awaitable[str]]) -> None:
        self._sources = sources
        self._known: dict[Callable[[], Awaitable[str]], str] = {}

    async def __call__(self) -> list[str]:
        """The origins, sorted."""
        await asyncio.gather(*map(self._ask, self._sources))
        return sorted(set(self._known.values()))

    async def _ask(self, source: Callable[[], Awaitable[str]]) -> None:
        try:
            async with asyncio.timeout(FORM_TARGET_SECONDS):
                self._known[source] = await source()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a source, the page is shown
            log.warning("console.form_target_unknown", error=type(error).__name__)


class Cookies:
    """The three cookies: the console's session, the browser that began to sign in, and one that follows an invitation.

    HttpOnly and Lax: Entra and the issuer send the browser back by a top-level GET, which carries Lax cookies; forms of
    other sites don't. Under https they are Secure and have the ``__Host-`` prefix, so that no neighbouring host can
    set them (RFC 6265bis, 4.1.3.2).
    """

    def __init__(self, *, public_url: str) -> None:
        self._secure = public_url.startswith("https:")
        prefix = "__Host-" if self._secure else ""
        self.session = f"{prefix}consent_console"
        self.browser = f"{prefix}consent_console_sign_in"
        self.invite = f"{prefix}consent_invite"

    def set(self, response: Response, name: str, value: str, *, seconds: int) -> None:
        """Send one of them."""
        response.set_cookie(name, value, max_age=seconds, path="/", secure=self._secure, httponly=True, samesite="lax")

    def forget(self, response: Response, name: str) -> None:
        """Have the browser drop one of them."""
        response.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")


class StrictTransport:
    """ASGI middleware: under https, every answer tells browsers to come back by https only (RFC 6797)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, and add the header to its answer."""

        async def with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Strict-Transport-Security"] = f"max-age={STRICT_SECONDS}"
            await send(message)

        await self._app(scope, receive, with_header)


def protect(response: Response, *, form_targets: Iterable[str] = (), referrer: Referrer = "same-origin") -> None:
    """Give a page its headers: nothing inline, no frames, no caches, and forms that lead where they must, only.

    ``form_targets`` are origins beside our own. Chromium applies ``form-action`` to the redirects that follow a form,
    so a form whose answer is a redirect to Entra needs Entra's origin. ``no-referrer`` is for pages whose address holds
    a secret; it makes a browser send ``Origin: null`` with their forms, which ``from_our_page`` knows.
    """
    policy = [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        " ".join(["form-action 'self'", *form_targets]),
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
    response.headers.update(
        {
            "Content-Security-Policy": "; ".join(policy),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": referrer,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Cache-Control": "no-store",
        }
    )


def from_our_page(request: Request, *, origin: str) -> bool:
    """Whether the browser says that the request comes from our own origin.

    ``Origin`` decides where it is sent. Pages under ``no-referrer`` send ``null``; there ``Sec-Fetch-Site`` decides,
    which no page can forge (W3C Fetch Metadata).
    """
    sent = request.headers.get("origin")
    if sent is not None and sent != "null":
        return sent == origin
    return request.headers.get("sec-fetch-site") == "same-origin"


async def read_form(request: Request) -> dict[str, list[str]]:
    """The fields of a form, each with its values in order.

    Raises:
        FormRefused: it is no URL-encoded form, or it is larger than any of ours.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise FormRefused("not a form")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            raise FormRefused("too large")
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise FormRefused("not a form") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def check_form(request: Request, fields: dict[str, list[str]], *, origin: str, token: str) -> None:
    """Make sure that a page of ours, shown to this very session, sent the form.

    Raises:
        FormRefused: it did not.
    """
    if not from_our_page(request, origin=origin):
        raise FormRefused("another origin")
    sent = fields.get("csrf_token", [])
    if len(sent) != 1 or not hmac.compare_digest(sent[0].encode(), token.encode()):
        raise FormRefused("wrong token")
