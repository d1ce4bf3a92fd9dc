"""The console's page of invitations: make one, see what became of them, take back, confirm."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Person, Requester
from consent_gateway.consent.confirmations import Confirmations
from consent_gateway.consent.invitations import Invitations
from consent_gateway.errors import Kind, Refused
from consent_gateway.web.guard import SCREEN, Gate, Posted, person_of
from consent_gateway.web.pages import Pages
from consent_gateway.web.sessions import Session

SHOWN = 50
PATH = f"{SCREEN}/invitations"
# What somebody typed, or forgot to tick, is put right where it was typed.
_PUT_RIGHT = frozenset({Kind.MALFORMED, Kind.INVALID, Kind.TOO_MANY})


def router(
    *, gate: Gate, pages: Pages, catalog: Catalog, invitations: Invitations, confirmations: Confirmations
) -> APIRouter:
    """The routes of the page."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type
    Form = Annotated[Posted, Depends(gate.posted)]  # noqa: N806 - a type

    async def show(session: Session, *, status: int = 200, before: str | None = None, **more: object) -> Response:
        person = person_of(session)
        views = await invitations.of_account(person.account_id, limit=SHOWN + 1, before=before)
        more_there = len(views) > SHOWN
        values = {
            "views": views[:SHOWN],
            "next_page": f"{PATH}?{urlencode({'before': views[SHOWN - 1].invitation.id})}" if more_there else None,
            "catalog": catalog,
            "may_consent": person.may_consent,
        }
        blank = {"made": None, "error": None, "chosen": (), "tenant_id": ""}
        return await pages.render("invitations.html", values | blank | more, status=status, session=session)

    @routes.get(PATH)
    async def listed(request: Request, session: SignedIn) -> Response:
        return await show(session, before=request.query_params.get("before"))

    @routes.post(PATH)
    async def create(form: Form) -> Response:
        person = _operator(form)
        chosen, tenant_id = form.all("permission_set_id"), form.one("tenant_id")
        requester = Requester(
            account_id=person.account_id, account_name=person.account_name, subject=person.subject, app_id=None
        )
        try:
            _, url = await invitations.create(
                requester, permission_set_ids=chosen, tenant_id=tenant_id, name=person.name
            )
        except Refused as refused:
            if refused.kind not in _PUT_RIGHT:
                raise
            return await show(
                form.session, status=refused.status, error=refused.kind.value, chosen=chosen, tenant_id=tenant_id or ""
            )
        # Shown by this answer alone: nothing keeps the link.
        return await show(form.session, status=201, made=url)

    @routes.post(f"{PATH}/{{invitation_id}}/revoke")
    async def revoke(invitation_id: str, form: Form) -> Response:
        await invitations.revoke(_operator(form).account_id, invitation_id)
        return RedirectResponse(PATH, 303)

    @routes.post(f"{PATH}/{{invitation_id}}/confirm")
    async def confirm(invitation_id: str, form: Form) -> Response:
        person = _operator(form)
        await confirmations.confirm(person.account_id, invitation_id, subject=person.subject)
        return RedirectResponse(SCREEN, 303)

    return routes


def _operator(form: Posted) -> Person:
    person = person_of(form.session)
    if not person.may_consent:
        raise Refused(Kind.FORBIDDEN)
    return person
