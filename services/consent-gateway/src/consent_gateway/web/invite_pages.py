"""``/invite/{token}``: what an invited person sees. Needs no sign-in at the console; only a form changes anything."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.invitations import Invitations
from consent_gateway.web.browsers import browser_of
from consent_gateway.web.guard import Gate
from consent_gateway.web.pages import Pages
from consent_gateway.web.security import FormRefused, check_form, from_our_page, read_form
from consent_gateway.web.sessions import csrf_token, digest, random_token

# Longer than the ten minutes of each of its steps.
GUEST_SECONDS = 3_600


def router(*, gate: Gate, pages: Pages, catalog: Catalog, invitations: Invitations) -> APIRouter:
    """The page and its two forms: sign in to Entra; then, with the tenant named, connect it."""
    routes = gate.router()

    @routes.get("/invite/{token}")
    async def ask(token: str, request: Request) -> Response:
        cookie = _cookie(request, gate, token)
        asking = await invitations.open(token, guest=digest(cookie) if cookie else None)
        values = {
            "asking": asking,
            "token": token,
            "form_token": csrf_token(cookie) if cookie else "",
            "sets": [catalog.sets[each] for each in asking.invitation.permission_set_ids if each in catalog.sets],
        }
        return await pages.render("invite.html", values, referrer="no-referrer")

    @routes.post("/invite/{token}")
    async def answer(token: str, request: Request) -> Response:
        fields = await read_form(request)
        if fields.get("step") == ["connect"]:
            cookie = _cookie(request, gate, token)
            if cookie is None:
                raise FormRefused("no invitation is followed in this browser")
            check_form(request, fields, origin=gate.origin, token=csrf_token(cookie))
            return RedirectResponse(await invitations.connect(token, guest=digest(cookie)), 303)
        # Nobody is known yet in whose name a token could be given; the browser says where the form comes from.
        if not from_our_page(request, origin=gate.origin):
            raise FormRefused("another origin")
        cookie = f"{random_token()}.{token}"
        begun = await invitations.begin(token, guest=digest(cookie), browser=browser_of(request))
        response = RedirectResponse(begun, 303)
        gate.cookies.set(response, gate.cookies.invite, cookie, seconds=GUEST_SECONDS)
        return response

    return routes


def _cookie(request: Request, gate: Gate, token: str) -> str | None:
    """The cookie of this very invitation."""
    cookie = request.cookies.get(gate.cookies.invite)
    return cookie if cookie is not None and cookie.partition(".")[2] == token else None
