"""Console sign-in: OpenID Connect authorization code with PKCE against the suite's issuer."""

import secrets
from typing import Protocol

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from consent_gateway.people import user_id
from consent_gateway.web.guard import Gate
from consent_gateway.web.oidc import Provider, SignInRefused
from consent_gateway.web.pages import Pages
from consent_gateway.web.security import check_form, origin_of, read_form

log = structlog.get_logger(__name__)


class Names(Protocol):
    """Where names of people are kept."""

    async def remember(self, person_id: str, name: str | None) -> None:
        """Keep a person's latest name; nothing where there is none."""


def router(gate: Gate, provider: Provider, pages: Pages, *, public_url: str, people: Names | None = None) -> APIRouter:
    """``/auth/login``, ``/auth/callback`` and ``/auth/logout``; ``people`` keeps the names of who signs in."""
    routes = gate.router()
    sessions, cookies = gate.sessions, gate.cookies

    @routes.get("/auth/login")
    async def login(request: Request) -> Response:
        return await gate.begin_sign_in(request, next_path=request.query_params.get("next", ""))

    @routes.get("/auth/callback")
    async def callback(request: Request) -> Response:
        answer = _single_values(request)
        browser = request.cookies.get(cookies.browser)
        state = answer.get("state")
        sign_in = await sessions.take(state=state, browser=browser) if state and browser else None
        if sign_in is None:
            return await refuse("sign_in_unknown", 400, "no sign-in of this browser has this state")
        if "error" in answer:
            declined = answer["error"] == "access_denied"
            return await refuse(
                *(("sign_in_cancelled", 200) if declined else ("sign_in_failed", 502)), "the issuer says no"
            )
        try:
            identity = await provider.redeem(
                code=answer.get("code", ""),
                code_verifier=sign_in.code_verifier,
                nonce=sign_in.nonce,
                iss=answer.get("iss"),
            )
        except SignInRefused as refusal:
            return await refuse("sign_in_failed", 403, str(refusal))
        principal = identity.principal
        if not principal.account_id or not (principal.may("viewer") or principal.may("staff")):
            return await refuse("no_access", 403, "no account, or no role in it")
        token = await sessions.start(identity, replacing=request.cookies.get(cookies.session))
        if people is not None:
            await people.remember(user_id(principal.account_id, principal.subject), identity.name)
        log.info("console.signed_in", account_id=principal.account_id, subject=principal.subject)
        response = RedirectResponse(sign_in.next, 303)
        cookies.set(response, cookies.session, token, seconds=sessions.seconds)
        return response

    @routes.post("/auth/logout")
    async def logout(request: Request) -> Response:
        fields = await read_form(request)
        session = await gate.session(request)
        response: Response = await pages.render("signed_out.html")
        if session is not None:
            check_form(request, fields, origin=origin_of(public_url), token=session.csrf_token)
            await sessions.end(request.cookies[cookies.session])
            url = await provider.end_session_url(
                id_token=session.identity.id_token, return_to=f"{public_url}/integrations"
            )
            response = RedirectResponse(url, 303) if url else response
        cookies.forget(response, cookies.session)
        return response

    async def refuse(kind: str, status: int, reason: str) -> Response:
        reference = secrets.token_hex(6)
        log.warning("console.sign_in_refused", kind=kind, reason=reason, reference=reference)
        return await pages.problem(kind, status=status, reference=reference)

    return routes


def _single_values(request: Request) -> dict[str, str]:
    """The query's values; a name that is given twice counts as absent, since two readers could differ on it."""
    pairs = request.query_params.multi_items()
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}
