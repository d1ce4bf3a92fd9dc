"""Where Entra sends the browser back to, where a run ends, and where an app's link begins one."""

from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from consent_gateway.catalog.model import Catalog
from consent_gateway.catalog.needs import held_on, tenant_name
from consent_gateway.consent.attempts import Asked, AttemptView, Ended, NextStep, Person, Redirect
from consent_gateway.consent.consent import Consent
from consent_gateway.consent.transfers import TransferStatus
from consent_gateway.errors import Kind, Refused
from consent_gateway.web.browsers import browser_of
from consent_gateway.web.guard import Gate, Posted, ReadTenants, person_of
from consent_gateway.web.pages import Pages
from consent_gateway.web.sessions import Session, utc_now

# After these a person may start again at once; the first group on the tenant that was named.
_AGAIN_THERE = frozenset({NextStep.TRY_AGAIN, NextStep.TRY_AGAIN_LATER, NextStep.USE_ADMINISTRATOR})
_AGAIN = _AGAIN_THERE | {NextStep.TRY_WITHOUT_TENANT, NextStep.USE_WORK_ACCOUNT, NextStep.ASK_ADMINISTRATOR}


class AskedFor(Protocol):
    """Tells whether the holder of a tenant was asked for it."""

    async def asked_by(self, attempt_id: str) -> TransferStatus | None:
        """Where the transfer stands that an attempt led to."""
        raise NotImplementedError


def router(
    *,
    gate: Gate,
    pages: Pages,
    catalog: Catalog,
    consent: Consent,
    tenants_of: ReadTenants,
    transfers: AskedFor,
) -> APIRouter:
    """The two redirect URIs that are registered with Entra, the pages of attempts, and ``/connect/{token}``."""
    routes = gate.router()
    SignedIn = Annotated[Session, Depends(gate.person)]  # noqa: N806 - a type
    Anybody = Annotated[Session | None, Depends(gate.session)]  # noqa: N806 - a type
    Form = Annotated[Posted, Depends(gate.posted)]  # noqa: N806 - a type

    @routes.get("/consent/callback")
    async def callback(request: Request, session: Anybody) -> Response:
        person, binding = (person_of(session), session.binding) if session else (None, None)
        params = request.query_params.multi_items()
        guest = gate.guest(request)
        return _onward(
            await consent.callback(
                params, person=person, session_hash=binding, guest=guest, browser=browser_of(request)
            )
        )

    @routes.get("/consent/proof")
    async def proof(request: Request, session: Anybody) -> Response:
        person, binding = (person_of(session), session.binding) if session else (None, None)
        params = request.query_params.multi_items()

        async def again() -> Person | None:
            return await gate.still(request)

        step = await consent.prove(
            params,
            person=person,
            session_hash=binding,
            guest=gate.guest(request),
            again=again,
            browser=browser_of(request),
        )
        if isinstance(step, Asked):
            return RedirectResponse(gate.invitation(request), 303)
        return _onward(step)

    @routes.get("/consent/attempts/{attempt_id}")
    async def attempt(request: Request, attempt_id: str, session: Anybody) -> Response:
        view = await view_of(request, attempt_id, session)
        held = [one for result in view.results for one in result.held_apps]
        tenants = await tenants_of(view.account_id) if held else ()
        values = {
            "attempt": view,
            "outcome": _outcome(view),
            "again": view.next_step in _AGAIN and session is not None and person_of(session).may_consent,
            "transfer": await transfers.asked_by(view.id) if view.failure is Kind.TENANT_TAKEN else None,
            "may_administer": session is not None and person_of(session).may_administer,
            "moves": held_on(catalog, held, tenants) if session is not None else (),
            "again_on": view.tenant_id if view.next_step in _AGAIN_THERE else None,
            "catalog": catalog,
            "tenant_names": {tenant.tenant_id: tenant_name(tenant) for tenant in tenants},
        }
        return await pages.render(
            "attempt.html", values, status=view.http_status, session=session, referrer="no-referrer"
        )

    async def view_of(request: Request, attempt_id: str, session: Session | None) -> AttemptView:
        """The run of this browser: by an invitation, or of a person who is signed in or does so now."""
        guest = gate.guest(request)
        if guest is not None:
            try:
                return await consent.attempt(attempt_id, session_hash=None, guest=guest)
            except Refused as refused:
                if refused.kind is not Kind.NOT_FOUND:
                    raise
        if session is None or session.renew_at <= utc_now():
            session = await gate.person(request)
        return await consent.attempt(attempt_id, session_hash=session.binding)

    @routes.get("/connect/{token}")
    async def ask(token: str, session: SignedIn) -> Response:
        link = await consent.open_link(token, person_of(session))
        values = {
            "link": link,
            "token": token,
            "app": catalog.apps.get(link.app_id or ""),
            "sets": [catalog.sets[each] for each in link.permission_set_ids if each in catalog.sets],
        }
        return await pages.render("connect.html", values, session=session, referrer="no-referrer")

    @routes.post("/connect/{token}")
    async def follow(token: str, form: Form) -> Response:
        return RedirectResponse(await consent.follow_link(token, person_of(form.session)), 303)

    return routes


def _onward(step: Redirect | Ended) -> Response:
    return RedirectResponse(step.url if isinstance(step, Redirect) else f"/consent/attempts/{step.attempt_id}", 303)


def _outcome(view: AttemptView) -> str:
    """Which of the page's texts fits: the failure's kind, or how far a run without one has come."""
    if view.failure is not None:
        return view.failure.value
    if view.status == "succeeded" and any(result.status == "verifying" for result in view.results):
        return "verifying"
    return view.status.value
