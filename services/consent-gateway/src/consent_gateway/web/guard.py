"""Who is at the browser, and what the browser is shown when something is in the way.

Every page route is a ``PageRoute``: what its function raises becomes a page, or a sign-in, never a stack trace.
"""

import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast
from urllib.parse import quote

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException

from consent_gateway.consent.attempts import Person
from consent_gateway.errors import Refused
from consent_gateway.grants.grants import Tenant
from consent_gateway.web.browsers import browser_of
from consent_gateway.web.oidc import Provider, ProviderUnavailable
from consent_gateway.web.pages import Pages
from consent_gateway.web.security import Cookies, FormRefused, check_form, local_path, origin_of, protect, read_form
from consent_gateway.web.sessions import SIGN_IN_SECONDS, Session, Sessions, SignIn, digest, random_token, utc_now

log = structlog.get_logger(__name__)

SCREEN = "/integrations/microsoft-entra-id"
LIVE_HEADER = "x-console-live"


class ReadTenants(Protocol):
    """Reads tenants of an account, each with its grants, by tenant id; ``after`` is the last id of the page before."""

    async def __call__(self, account_id: str, *, limit: int = 200, after: str | None = None) -> Sequence[Tenant]:
        """At most ``limit`` of them."""
        ...


_PAGE_OF: Mapping[type[Exception], tuple[str, int]] = {
    FormRefused: ("form_refused", 403),
    ProviderUnavailable: ("issuer_unavailable", 503),
    PyMongoError: ("store_unavailable", 503),
    RequestValidationError: ("malformed", 400),
}


class SignInNeeded(Exception):
    """Nobody is signed in, or the sign-in is to be renewed."""

    def __init__(self, next_path: str) -> None:
        super().__init__("sign-in needed")
        self.next_path = next_path


@dataclass(frozen=True)
class Posted:
    """A form of ours, and the session whose page sent it."""

    session: Session
    fields: Mapping[str, list[str]]

    def one(self, name: str) -> str | None:
        """The only value of a field, without surrounding space; None where it is absent, empty or repeated."""
        values = self.fields.get(name, [])
        return values[0].strip() or None if len(values) == 1 else None

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return self.fields.get(name, [])


class Gate:
    """Lets signed-in people and genuine forms through."""

    def __init__(self, sessions: Sessions, provider: Provider, pages: Pages, *, public_url: str) -> None:
        self.cookies = Cookies(public_url=public_url)
        self.sessions = sessions
        self._provider = provider
        self._pages = pages
        self.origin = origin_of(public_url)

    def router(self) -> APIRouter:
        """A router whose routes are pages."""
        return APIRouter(route_class=_page_route(self._answer), include_in_schema=False)

    async def session(self, request: Request) -> Session | None:
        """The browser's session, if it has one that is alive."""
        token = request.cookies.get(self.cookies.session)
        session = await self.sessions.open(token, touch=not _is_live(request)) if token else None
        return replace(session, browser=browser_of(request)) if session is not None else None

    async def person(self, request: Request) -> Session:
        """The session of a person whose sign-in is fresh, for pages that are read.

        Raises:
            SignInNeeded: there is none; after the sign-in the person gets to this page.
        """
        session = await self.session(request)
        if session is None or session.renew_at <= utc_now():
            query = request.url.query
            raise SignInNeeded(request.url.path + (f"?{query}" if query else ""))
        return session

    async def still(self, request: Request) -> Person | None:
        """Who is signed in at the browser now, by a sign-in that is fresh. Looked up anew; no use of the session."""
        token = request.cookies.get(self.cookies.session)
        session = await self.sessions.open(token, touch=False) if token else None
        return person_of(session) if session is not None and session.renew_at > utc_now() else None

    def guest(self, request: Request) -> str | None:
        """What names the browser's session of an invitation, if it has one."""
        cookie = request.cookies.get(self.cookies.invite)
        return digest(cookie) if cookie else None

    def invitation(self, request: Request) -> str:
        """The address of the invitation that the browser follows."""
        token = request.cookies.get(self.cookies.invite, "").partition(".")[2]
        return f"/invite/{quote(token, safe='')}"

    async def still_signed_in(self, request: Request) -> bool:
        """Whether the browser's sign-in is still fresh, as far as the database can tell."""
        try:
            session = await self.session(request)
        except PyMongoError:
            return True
        return session is not None and session.renew_at > utc_now()

    async def posted(self, request: Request) -> Posted:
        """A form that a page of ours sent for the person it was shown to.

        Raises:
            FormRefused: another site, another session or nobody sent it.
            SignInNeeded: the sign-in is over; the person gets to the screen, which says that nothing was done.
        """
        fields = await read_form(request)
        session = await self.session(request)
        if session is None or session.renew_at <= utc_now():
            raise SignInNeeded(f"{SCREEN}?notice=signed-in-again")
        check_form(request, fields, origin=self.origin, token=session.csrf_token)
        return Posted(session, fields)

    async def begin_sign_in(self, request: Request, *, next_path: str) -> Response:
        """Send the browser to the issuer.

        Raises:
            ProviderUnavailable: the issuer's addresses can't be read.
        """
        browser = request.cookies.get(self.cookies.browser) or random_token()
        state = random_token()
        sign_in = SignIn(nonce=random_token(), code_verifier=random_token(), next=local_path(next_path))
        url = await self._provider.authorization_url(
            state=state, nonce=sign_in.nonce, code_verifier=sign_in.code_verifier
        )
        await self.sessions.begin(sign_in, state=state, browser=browser)
        response = RedirectResponse(url, 303)
        self.cookies.set(response, self.cookies.browser, browser, seconds=SIGN_IN_SECONDS)
        return response

    def answer_unknown(self, app: FastAPI) -> None:
        """Answer browsers at addresses that nothing is at with a page; whoever wants no page gets what it got before.

        To be called after the application's own handlers are installed.
        """
        otherwise = cast("Callable[[Request, Exception], Awaitable[Response]]", app.exception_handlers[HTTPException])

        async def on_http(request: Request, error: Exception) -> Response:
            if "text/html" in request.headers.get("accept", ""):
                response = await self._answer(request, error)
                response.headers.update(getattr(error, "headers", None) or {})
            else:
                response = await otherwise(request, error)
            response.headers["Vary"] = "Accept"
            return response

        app.add_exception_handler(HTTPException, on_http)

    async def _answer(self, request: Request, error: Exception) -> Response:
        """The page, or the sign-in, that an error leads to."""
        if isinstance(error, SignInNeeded):
            if _is_live(request):
                return Response(status_code=401)
            try:
                return await self.begin_sign_in(request, next_path=error.next_path)
            except (ProviderUnavailable, PyMongoError) as trouble:
                error = trouble
        kind, status = _kind_of(error)
        reference = secrets.token_hex(6)
        if kind == "internal":
            log.error("console.unexpected_error", reference=reference, error=type(error).__name__, exc_info=error)
        else:
            log.info("console.refused", kind=kind, status=status, reference=reference, error=type(error).__name__)
        return await self._pages.problem(kind, status=status, reference=reference)


def _is_live(request: Request) -> bool:
    """Whether the page itself asks, not the person: that is no use of the session, and can't be sent to sign in."""
    return LIVE_HEADER in request.headers or "text/event-stream" in request.headers.get("accept", "")


def person_of(session: Session) -> Person:
    """The signed-in person, as the consent flow knows people."""
    principal = session.identity.principal
    return Person(
        account_id=principal.account_id or "",
        account_name=principal.account_name,
        subject=principal.subject,
        name=session.identity.name,
        roles=principal.roles,
        session_hash=session.binding,
        browser=session.browser,
    )


def _kind_of(error: Exception) -> tuple[str, int]:
    """Which of the pages of ``problem.html`` an error is, and its status."""
    if isinstance(error, Refused):
        return error.kind.value, error.status
    if isinstance(error, HTTPException):
        # What only a form leads to is nowhere for whoever types its address, or goes back to it.
        return "not_found" if error.status_code in {404, 405} else "malformed", error.status_code
    found = (page for kind, page in _PAGE_OF.items() if isinstance(error, kind))
    return next(found, ("internal", 500))


def _page_route(answer: Callable[[Request, Exception], Awaitable[Response]]) -> type[APIRoute]:
    class PageRoute(APIRoute):
        """A route whose errors are pages, and whose every answer is protected."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    response = await handle(request)
                except Exception as error:  # noqa: BLE001 - each kind has its page; the rest is logged with its stack
                    response = await answer(request, error)
                if "Content-Security-Policy" not in response.headers:
                    protect(response, referrer="no-referrer")
                return response

            return guarded

    return PageRoute
