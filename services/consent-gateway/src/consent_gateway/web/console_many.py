"""The console's forms for many tenants at once: check them now, invite their administrators."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Person, Requester
from consent_gateway.consent.invitations import MOST_TOGETHER, Invitations
from consent_gateway.errors import Kind, Refused
from consent_gateway.web import console_invitations
from consent_gateway.web.console_fleet import BYTE_ORDER_MARK, PATH, is_staff
from consent_gateway.web.fleet import Filters
from consent_gateway.web.fleet_reader import LONGEST_PAGE, FleetReader
from consent_gateway.web.guard import Gate, Posted, person_of
from consent_gateway.web.many import MOST_CHECKED, SHOWN_WRONG, links_csv, pasted
from consent_gateway.web.pages import Pages
from consent_gateway.web.registry import RegistryAway
from consent_gateway.web.sessions import Session
from shared import spreadsheets

INVITE = f"{console_invitations.PATH}/many"


class Grants(Protocol):
    """Makes grants due for a check."""

    async def check_many(
        self, account_id: str, tenant_ids: Collection[str], set_ids: Collection[str] | None = None, *, now: datetime
    ) -> int:
        """How many could be checked."""
        raise NotImplementedError


def router(
    *,
    gate: Gate,
    pages: Pages,
    catalog: Catalog,
    reader: FleetReader,
    grants: Grants,
    invitations: Invitations,
    clock: Callable[[], datetime],
) -> APIRouter:
    """The forms."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type
    Form = Annotated[Posted, Depends(gate.posted)]  # noqa: N806 - a type

    @routes.post(f"{PATH}/checks")
    async def check(form: Form) -> Response:
        person = _operator(form)
        filters = Filters.of(
            {name: form.one(name) or "" for name in form.fields}, catalog, staff=is_staff(form.session)
        )
        if form.one("which") == "all":
            try:
                tenant_ids, more = await _matching(reader, form.session, filters)
            except RegistryAway:
                return await pages.problem("registry_unavailable", status=503, session=form.session)
        else:
            tenant_ids, more = pasted(" ".join(form.all("tenant_id"))).tenant_ids, False
        count = await grants.check_many(person.account_id, tenant_ids[:MOST_CHECKED], now=clock())
        outcome = {"checked": str(count), **({"more": "yes"} if more else {})}
        return RedirectResponse(f"{filters.address(PATH, **outcome)}#tenants", 303)

    @routes.get(INVITE)
    async def invite(session: SignedIn) -> Response:
        return await show(session)

    @routes.post(INVITE)
    async def make(form: Form) -> Response:
        person, found = _operator(form), pasted("\n".join(form.all("tenant_ids")))
        chosen = form.all("permission_set_id")
        typed = {"chosen": chosen, "tenant_ids": "\n".join(form.all("tenant_ids"))}
        if found.wrong:
            return await show(form.session, status=400, error="malformed", wrong=found.wrong[:SHOWN_WRONG], **typed)
        requester = Requester(
            account_id=person.account_id, account_name=person.account_name, subject=person.subject, app_id=None
        )
        try:
            made = await invitations.create_many(
                requester, permission_set_ids=chosen, tenant_ids=found.tenant_ids, name=person.name
            )
        except Refused as refused:
            if refused.kind not in {Kind.INVALID, Kind.TOO_MANY}:
                raise
            return await show(form.session, status=refused.status, error=refused.kind.value, **typed)
        # The links are in this answer alone: nothing keeps them.
        headers = {"Content-Disposition": 'attachment; filename="invitations.csv"'}
        content = BYTE_ORDER_MARK + links_csv(made).encode()
        return Response(content, 201, headers=headers, media_type=spreadsheets.MEDIA_TYPE)

    @routes.post(f"{INVITE}/choose")
    async def choose(form: Form) -> Response:
        """The form with the tenants that were ticked in the list."""
        _operator(form)
        found = pasted(" ".join(form.all("tenant_id"))).tenant_ids
        set_id = form.one("set")
        return await show(form.session, chosen=[set_id] if set_id else [], tenant_ids="\n".join(found))

    async def show(session: Session, *, status: int = 200, **more: object) -> Response:
        blank = {"error": None, "wrong": (), "chosen": (), "tenant_ids": ""}
        values = {"catalog": catalog, "may_consent": person_of(session).may_consent, "most": MOST_TOGETHER}
        return await pages.render("invite_many.html", values | blank | more, status=status, session=session)

    return routes


async def _matching(reader: FleetReader, session: Session, filters: Filters) -> tuple[tuple[str, ...], bool]:
    """The first tenants that the filters choose, and whether there are more."""
    # A person of staff who is an operator too asks for nothing outside the account.
    asked = filters.asked | ({"account_id": person_of(session).account_id} if is_staff(session) else {})
    found: list[str] = []
    cursor: str | None = None
    while len(found) < MOST_CHECKED:
        page = await reader.tenants(
            asked, access_token=session.identity.access_token, cursor=cursor, limit=LONGEST_PAGE
        )
        found += [tenant.tenant_id for tenant in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    return tuple(found), cursor is not None


def _operator(form: Posted) -> Person:
    person = person_of(form.session)
    if not person.may_consent:
        raise Refused(Kind.FORBIDDEN)
    return person
