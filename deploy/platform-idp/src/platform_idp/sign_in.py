"""The routes that a browser visits: authorize, choose a person, sign out."""

import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from platform_idp.authorization import AuthorizationRequest, parse_authorization_request
from platform_idp.codes import AuthorizationCodes
from platform_idp.errors import AuthorizationRefused, UntrustedRequest
from platform_idp.forms import read_form, read_pairs
from platform_idp.pages import Pages, stylesheet
from platform_idp.people import ACCOUNTS, Person, find_person, people
from platform_idp.settings import Settings
from platform_idp.tokens import SignIn, Tokens

_COOKIE = "platform_idp_sign_in"
_STALE_PROMPTS = frozenset({"login", "select_account"})


class SignInPages:
    """Turns a browser's visit into a code for the console, or into a page.

    The sign-in page keeps no state: its form posts the authorization request again, which is checked again.
    """

    def __init__(
        self,
        settings: Settings,
        codes: AuthorizationCodes,
        tokens: Tokens,
        pages: Pages,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._codes = codes
        self._tokens = tokens
        self._pages = pages
        self._now = now

    def authorize(self, request: Request, parameters: Sequence[tuple[str, str]]) -> Response:
        """Straight back to the client for somebody who is signed in; the sign-in page otherwise."""
        asked = parse_authorization_request(parameters, console=self._settings.console)
        sign_in = self._signed_in(request)
        fresh = sign_in is not None and (asked.max_age is None or self._now() - sign_in.auth_time <= asked.max_age)
        if sign_in is not None and fresh and not asked.prompts & _STALE_PROMPTS:
            return self._back_with_code(asked, sign_in)
        if "none" in asked.prompts:
            raise asked.refused("login_required", "nobody is signed in at this issuer")
        return self._pages.render(
            "sign_in.html",
            form_targets=[_origin(asked.redirect_uri)],
            query=urlencode(parameters),
            accounts=_people_by_account(),
            signed_in=sign_in.person if sign_in else None,
        )

    def choose(self, parameters: Sequence[tuple[str, str]], form: Mapping[str, str]) -> Response:
        """The chosen person is signed in and sent back to the client with a code."""
        asked = parse_authorization_request(parameters, console=self._settings.console)
        if form.get("choice") == "cancel":
            raise asked.refused("access_denied", "the person cancelled the sign-in")
        person = find_person(form.get("choice", ""))
        if person is None:
            raise UntrustedRequest("That person does not exist here. Go back and choose one from the list.")
        sign_in = SignIn(person, auth_time=int(self._now()))
        response = self._back_with_code(asked, sign_in)
        response.set_cookie(
            _COOKIE,
            self._tokens.session(sign_in),
            max_age=self._settings.tokens.session_seconds,
            httponly=True,
            samesite="lax",
            secure=self._settings.issuer.startswith("https:"),
        )
        return response

    def sign_out(self, request: Request, parameters: Mapping[str, str], *, confirmed: bool) -> Response:
        """End the sign-in (OpenID Connect RP-Initiated Logout 1.0).

        Without an ID token of ours as a hint, anybody could have made the link: the person is asked first.
        """
        hinted_client = self._tokens.hinted_client(parameters.get("id_token_hint", ""))
        if hinted_client is None and not confirmed and self._signed_in(request) is not None:
            targets = [_origin(uri) for uri in self._settings.console.post_logout_redirect_uris]
            return self._pages.render(
                "sign_out.html", form_targets=targets, parameters=_without_hint(parameters), done=False
            )
        response = self._after_sign_out(parameters, client_id=hinted_client or parameters.get("client_id"))
        response.delete_cookie(_COOKIE, httponly=True, samesite="lax")
        return response

    def home(self, request: Request) -> HTMLResponse:
        """What this issuer is, for somebody who opens its address."""
        sign_in = self._signed_in(request)
        person = sign_in.person if sign_in else None
        return self._pages.render("home.html", issuer=self._settings.issuer, signed_in=person)

    async def on_refusal(self, _request: Request, refusal: Exception) -> Response:
        """The error, sent to the client through the browser."""
        assert isinstance(refusal, AuthorizationRefused)  # noqa: S101 (registered for this class only)
        return self._back(
            refusal.redirect_uri,
            {"error": refusal.error, "error_description": refusal.description, "state": refusal.state},
        )

    async def on_untrusted(self, _request: Request, error: Exception) -> Response:
        """The error, shown where it happened."""
        return self._pages.render("error.html", status=400, message=str(error))

    def _signed_in(self, request: Request) -> SignIn | None:
        cookie = request.cookies.get(_COOKIE)
        return self._tokens.read_session(cookie) if cookie else None

    def _back_with_code(self, asked: AuthorizationRequest, sign_in: SignIn) -> RedirectResponse:
        code = self._codes.issue(asked, sign_in.person, auth_time=sign_in.auth_time)
        return self._back(asked.redirect_uri, {"code": code, "state": asked.state})

    def _back(self, redirect_uri: str, answer: Mapping[str, str | None]) -> RedirectResponse:
        target = _with_query(redirect_uri, {**answer, "iss": self._settings.issuer})
        return RedirectResponse(target, 303, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})

    def _after_sign_out(self, parameters: Mapping[str, str], *, client_id: str | None) -> Response:
        target = parameters.get("post_logout_redirect_uri")
        console = self._settings.console
        if target in console.post_logout_redirect_uris and client_id in (None, console.client_id):
            return RedirectResponse(_with_query(target, {"state": parameters.get("state")}), 303)
        return self._pages.render("sign_out.html", parameters={}, done=True)


def routes(sign_in_pages: SignInPages) -> list[Route]:
    """All routes that answer with a page or a redirect."""

    async def home(request: Request) -> Response:
        return sign_in_pages.home(request)

    async def authorize(request: Request) -> Response:
        by_form = request.method == "POST"
        parameters = await read_pairs(request) if by_form else request.query_params.multi_items()
        return sign_in_pages.authorize(request, parameters)

    async def choose(request: Request) -> Response:
        if not _is_own_page(request):
            raise UntrustedRequest("That form was sent by another site. Start again from the application.")
        return sign_in_pages.choose(request.query_params.multi_items(), await read_form(request))

    async def sign_out(request: Request) -> Response:
        by_form = request.method == "POST"
        parameters = await read_form(request) if by_form else dict(request.query_params)
        own_button = by_form and parameters.get("confirm") == "yes" and _is_own_page(request)
        return sign_in_pages.sign_out(request, parameters, confirmed=own_button)

    async def no_icon(_request: Request) -> Response:
        return Response(status_code=204)

    async def style(_request: Request) -> Response:
        return Response(stylesheet(), media_type="text/css", headers={"Cache-Control": "max-age=300"})

    return [
        Route("/", home),
        Route("/authorize", authorize, methods=["GET", "POST"]),
        Route("/sign-in", choose, methods=["POST"]),
        Route("/logout", sign_out, methods=["GET", "POST"]),
        Route("/style.css", style),
        Route("/favicon.ico", no_icon),
    ]


def _people_by_account() -> list[tuple[str, list[Person]]]:
    everybody = list(people())
    return [(account.name, [who for who in everybody if who.account == account]) for account in ACCOUNTS.values()]


def _is_own_page(request: Request) -> bool:
    """Whether a form was posted from this issuer's own page; programs that send no Origin may post too."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _with_query(url: str, answer: Mapping[str, str | None]) -> str:
    parts = urlsplit(url)
    added = urlencode({name: value for name, value in answer.items() if value is not None})
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, added)))))


def _without_hint(parameters: Mapping[str, str]) -> dict[str, str]:
    return {name: parameters[name] for name in ("post_logout_redirect_uri", "client_id", "state") if name in parameters}
