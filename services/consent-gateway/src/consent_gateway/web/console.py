"""The screens: Third-Party Integration, Microsoft Entra ID with its live part, and the form that starts a consent."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.consent import Consent
from consent_gateway.consent.failures import Failures
from consent_gateway.entra.credential_expiry import Ending
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.changes import Changes
from consent_gateway.web.guard import SCREEN, Gate, Posted, ReadTenants, person_of
from consent_gateway.web.location import Location
from consent_gateway.web.overview import TENANTS_SHOWN, screen
from consent_gateway.web.pages import Pages
from consent_gateway.web.sessions import Session
from shared.events import canonical_tenant_id

OPEN_DETAILS = 50
_ROW = re.compile(r"(new|[0-9a-f-]{36})\.[a-z0-9][a-z0-9-]{0,62}")
TENANTS_READ = 200

FAILURES_SHOWN = 5

Watched = AbstractAsyncContextManager[AsyncIterator[str]]


def router(
    *,
    gate: Gate,
    pages: Pages,
    catalog: Catalog,
    consent: Consent,
    tenants_of: ReadTenants,
    changes: Changes,
    failures: Failures,
    endings: Callable[[], Sequence[Ending]] = tuple,
    heartbeat_seconds: float = 15.0,
) -> APIRouter:
    """The console's routes. At each heartbeat a live stream looks whether its person is still signed in."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type
    Form = Annotated[Posted, Depends(gate.posted)]  # noqa: N806 - a type

    async def show(session: Session, location: Location, *, status: int = 200, **more: object) -> Response:
        person = person_of(session)
        # One more than is shown says that there are more; what an app has is looked for on more tenants than are shown.
        limit = TENANTS_READ if location.app_id else TENANTS_SHOWN + 1
        tenants = await tenants_of(person.account_id, limit=limit, after=location.after)
        failed = await failures.of_account(person.account_id, now=datetime.now(UTC))
        values = {
            "view": screen(catalog, tenants, location=location),
            "failures": failed[:FAILURES_SHOWN],
            "catalog": catalog,
            "may_consent": person.may_consent,
            # Whoever only grants permissions can't renew our credentials, and needn't worry about them.
            "endings": [_shown(one) for one in endings()] if person.roles & {"admin", "staff"} else [],
        }
        blank = {"notice": None, "error": None, "chosen": (), "tenant_id": ""}
        return await pages.render("screen.html", values | blank | more, status=status, session=session)

    @routes.get("/")
    async def home() -> Response:
        return RedirectResponse("/integrations", 303)

    @routes.get("/integrations")
    async def integrations(session: SignedIn) -> Response:
        tenants = await tenants_of(person_of(session).account_id, limit=TENANTS_SHOWN + 1)
        view = screen(catalog, tenants, location=Location(path=SCREEN))
        return await pages.render("integrations.html", {"view": view, "catalog": catalog}, session=session)

    @routes.get(SCREEN)
    async def entra(request: Request, session: SignedIn) -> Response:
        return await show(session, _location(request), notice=request.query_params.get("notice"))

    @routes.get(f"{SCREEN}/events")
    async def events(request: Request, session: SignedIn) -> Response:
        watched = changes.watch(person_of(session).account_id)
        stream = _live(gate, request, watched, heartbeat_seconds=heartbeat_seconds)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @routes.post(f"{SCREEN}/consents")
    async def start(form: Form) -> Response:
        chosen, tenant_id = form.all("permission_set_id"), form.one("tenant_id")
        app = catalog.apps.get(form.one("app") or "")
        # Somebody who came from an app may grant something else first: then there is nowhere to go back to.
        back = next((url for url in (app.return_urls if app else ()) if catalog.allows_return_to(url, chosen)), None)
        try:
            url = await consent.start(
                person_of(form.session),
                permission_set_ids=chosen,
                tenant_id=tenant_id,
                return_url=back,
            )
        except Refused as refused:
            # What somebody typed, or forgot to tick, is put right where it was typed.
            if form.one("from") != "add" or refused.kind not in {Kind.MALFORMED, Kind.INVALID}:
                raise
            location = Location(path=SCREEN, app_id=app.id if app else None, adding=True)
            again = {"error": refused.kind.value, "chosen": chosen, "tenant_id": tenant_id or ""}
            return await show(form.session, location, status=refused.status, **again)
        return RedirectResponse(url, 303)

    return routes


def _shown(one: Ending) -> dict[str, object]:
    return {"registration": one.registration, "at": one.expires_at, "ended": one.expires_at <= datetime.now(UTC)}


def _location(request: Request) -> Location:
    query = request.query_params
    # What is echoed into every link of the page is one of ours.
    details = dict.fromkeys(key for key in query.getlist("details") if _ROW.fullmatch(key))
    return Location(
        path=SCREEN,
        app_id=query.get("app"),
        after=canonical_tenant_id(query.get("after", "")),
        open_details=tuple(details)[:OPEN_DETAILS],
        adding=query.get("add") == "tenant",
    )


async def _live(gate: Gate, request: Request, watched: Watched, *, heartbeat_seconds: float) -> AsyncIterator[str]:
    """Server-sent events: ``changed`` when the page is to be read anew, ``ended`` when the sign-in is over.

    The first ``changed`` comes at once: it closes the gap between the page and the stream, and that of a lost
    connection. What changed is not said here, so nothing can be missed by missing an event.
    """
    async with watched as stream:
        pending = asyncio.ensure_future(anext(stream))
        try:
            yield "retry: 1000\nevent: changed\ndata:\n\n"
            while True:
                await asyncio.wait({pending}, timeout=heartbeat_seconds)
                if pending.done():
                    pending.result()
                    pending = asyncio.ensure_future(anext(stream))
                    yield "event: changed\ndata:\n\n"
                elif await gate.still_signed_in(request):
                    yield ":\n\n"
                else:
                    yield "event: ended\ndata:\n\n"
                    return
        except StopAsyncIteration:
            return  # the service stops; the browser connects to another replica
        finally:
            pending.cancel()
