"""The console's side of transfers: ask for a tenant after the proof, give one away."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse

from consent_gateway.consent.transfers import Transfers
from consent_gateway.errors import Kind, Refused
from consent_gateway.web.guard import SCREEN, Gate, Posted, person_of
from consent_gateway.web.pages import Pages
from consent_gateway.web.sessions import Session
from shared.events import Actor

PATH = f"{SCREEN}/transfers"


def router(*, gate: Gate, pages: Pages, transfers: Transfers) -> APIRouter:
    """The page of transfers, and the form on the page of an attempt."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type
    Form = Annotated[Posted, Depends(gate.posted)]  # noqa: N806 - a type

    @routes.get(PATH)
    async def listed(session: SignedIn) -> Response:
        person = person_of(session)
        values = {
            "transfers": await transfers.of_account(person.account_id),
            "may_accept": person.may_administer,
        }
        return await pages.render("transfers.html", values, session=session)

    @routes.post(f"{PATH}/{{transfer_id}}/accept")
    async def accept(transfer_id: str, form: Form) -> Response:
        person = person_of(form.session)
        if not person.may_administer:
            raise Refused(Kind.FORBIDDEN)
        await transfers.accept(transfer_id, person.account_id, actor=Actor(kind="user", id=person.subject))
        return RedirectResponse(PATH, 303)

    @routes.post("/consent/attempts/{attempt_id}/transfer")
    async def request(attempt_id: str, form: Form) -> Response:
        await transfers.request(attempt_id, person_of(form.session), tell_name=form.one("tell_name") == "yes")
        return RedirectResponse(f"/consent/attempts/{attempt_id}", 303)

    return routes
