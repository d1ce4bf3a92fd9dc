"""A browser on its way through a flow: sign-in, choice of an account, consent, errors that are shown to the person."""

import uuid
from typing import Literal

from fastapi import Request
from fastapi.responses import Response

from entra_sandbox.adminconsent import AdminConsentFlow
from entra_sandbox.authorize import AuthorizeFlow
from entra_sandbox.callbacks import answer
from entra_sandbox.directory import Authority
from entra_sandbox.errors import EntraError
from entra_sandbox.flow import Flow, Turn, identify, seal_for
from entra_sandbox.model import Tenant, User
from entra_sandbox.parameters import once
from entra_sandbox.sandbox import Sandbox
from entra_sandbox.sessions import COOKIE, BrowserSession, Pending
from entra_sandbox.sign_in import PERSONAL_DOMAINS, AskToSignIn, AskWhich, choose, enter, people_of, stranger
from entra_sandbox.trouble import note, trip

Kind = Literal["authorize", "adminconsent", "adminconsent_v1"]
_SHOWN_PEOPLE = 12
# Shown to the person instead of being sent back: the client could do nothing about it.
_ON_PAGE = frozenset({7000112})


class Interaction:
    """Takes a browser from the first request of a flow to its end."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._flows: dict[str, Flow] = {
            "authorize": AuthorizeFlow(sandbox),
            "adminconsent": AdminConsentFlow(sandbox, version=2),
            "adminconsent_v1": AdminConsentFlow(sandbox, version=1),
        }

    async def begin(self, request: Request, kind: Kind, tenant: str) -> Response:
        """The first request of a flow."""
        given = await request.form() if request.method == "POST" else request.query_params
        session = self._session(request)
        try:
            params = once(given.multi_items())
        except EntraError as error:
            return self._show(request, error, str(uuid.uuid4()))
        pending = Pending(kind=kind, tenant=tenant, params=params, session=session.id)
        await trip(
            self._sandbox,
            request,
            "authorize" if kind == "authorize" else "adminconsent",
            tenant_id=self._tenant_id(tenant),
            client_id=params.get("client_id", "").lower() or None,
        )
        return self._go(request, pending, session)

    async def signed_in(self, request: Request, tenant: str) -> Response:
        """A name and a password, a person of the list, or an account that is signed in already."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        session = self._session(request)
        pending = self._sandbox.sealer.pending(form.get("context", ""), session)
        if pending is None:
            return self._lost(request, tenant)
        if form.get("account"):
            known = next(
                (user for user in people_of(self._sandbox.directory, session) if user.object_id == form["account"]),
                None,
            )
            return self._go(request, pending, session, chosen=known)
        name = form.get("pick") or form.get("username", "")
        user = self._sandbox.directory.user_by_name(name)
        if user is None and name.rpartition("@")[2].lower() in PERSONAL_DOMAINS:
            return self._personal(request, pending, session, name)
        # A person of the list needs no password: it is printed on the page.
        if user is None or not (form.get("pick") or form.get("password") == user.password):
            return self._go(request, pending, session, failed_name=name, unknown=user is None)
        return self._go(request, pending, session.with_person(user.object_id), chosen=user)

    async def other_account(self, request: Request, tenant: str) -> Response:
        """Back to the sign-in form from a page that was for somebody else."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        session = self._session(request)
        pending = self._sandbox.sealer.pending(form.get("context", ""), session)
        if pending is None:
            return self._lost(request, tenant)
        return self._go(request, pending, session, ask=True)

    async def decided(self, request: Request, tenant: str) -> Response:
        """The answer to a consent page."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        session = self._session(request)
        pending = self._sandbox.sealer.pending(form.get("context", ""), session)
        user = self._sandbox.directory.users.get(pending.person or "") if pending else None
        if pending is None or user is None or user not in people_of(self._sandbox.directory, session):
            return self._lost(request, tenant)
        return self._go(
            request, pending, session, chosen=user, decision=form.get("decision", "cancel"), for_all="for_all" in form
        )

    def _go(
        self,
        request: Request,
        pending: Pending,
        session: BrowserSession,
        *,
        chosen: User | None = None,
        decision: str = "",
        for_all: bool = False,
        ask: bool = False,
        failed_name: str | None = None,
        unknown: bool = False,
    ) -> Response:
        correlation_id = request.headers.get("client-request-id") or str(uuid.uuid4())
        try:
            authority = self._sandbox.directory.authority(pending.tenant)
            registration = identify(self._sandbox, authority, pending.params)
        except EntraError as error:
            return self._with_session(self._show(request, error, correlation_id), session)
        turn = Turn(pending, authority, registration, session, correlation_id)
        tenant_id = authority.id if isinstance(authority, Tenant) else None
        note(request, tenant_id=tenant_id, client_id=registration.client_id)
        flow = self._flows[pending.kind]
        try:
            flow.check(turn)
            if ask or failed_name is not None:
                response = self._ask_to_sign_in(
                    turn, failed_name or "", failed=failed_name is not None, unknown=unknown
                )
            else:
                response = self._advance(flow, turn, chosen, decision, for_all=for_all)
        except EntraError as error:
            note(request, aadsts=error.code)
            response = self._refuse(flow, turn, error, request)
        return self._with_session(response, session)

    def _advance(self, flow: Flow, turn: Turn, chosen: User | None, decision: str, *, for_all: bool) -> Response:
        directory = self._sandbox.directory
        if chosen:
            choice = enter(directory, turn.authority, chosen, turn.registration)
            if decision:
                return flow.decide(turn, choice.member, choice.tenant, decision, for_all=for_all)
            return flow.proceed(turn, choice.member, choice.tenant)
        found = choose(directory, turn.session, turn.authority, turn.wish)
        if isinstance(found, AskToSignIn):
            return self._ask_to_sign_in(turn, found.name)
        if isinstance(found, AskWhich):
            return self._sandbox.pages.render(
                "pick_account.html",
                people=found.people,
                registration=turn.registration,
                tenant=turn.authority if isinstance(turn.authority, Tenant) else None,
                context=seal_for(self._sandbox, turn),
                action=f"/{turn.pending.tenant}/login",
                switch=f"/{turn.pending.tenant}/switch",
            )
        return flow.proceed(turn, found.member, found.tenant)

    def _refuse(self, flow: Flow, turn: Turn, error: EntraError, request: Request) -> Response:
        if error.code in _ON_PAGE and not turn.wish.silent:
            return self._show(request, error, turn.correlation_id)
        if error.code == 50020 and self._sandbox.directory.behaviour.wrong_account == "page":
            return self._sandbox.pages.render(
                "wrong_account.html",
                refusal=error.refusal(turn.correlation_id),
                registration=turn.registration,
                context=seal_for(self._sandbox, turn),
                switch=f"/{turn.pending.tenant}/switch",
                back=flow.refuse(turn, error).headers.get("location", ""),
            )
        return flow.refuse(turn, error)

    def _ask_to_sign_in(self, turn: Turn, name: str = "", *, failed: bool = False, unknown: bool = False) -> Response:
        directory = self._sandbox.directory
        own = directory.people_of(turn.authority.id) if isinstance(turn.authority, Tenant) else []
        others = [user for user in directory.users.values() if user not in own]
        return self._sandbox.pages.render(
            "sign_in.html",
            registration=turn.registration,
            tenant=turn.authority if isinstance(turn.authority, Tenant) else None,
            name=name,
            failed=failed,
            unknown=unknown,
            people=[*own, *others][:_SHOWN_PEOPLE],
            tenants=directory.tenants,
            context=seal_for(self._sandbox, turn),
            action=f"/{turn.pending.tenant}/login",
        )

    def _personal(self, request: Request, pending: Pending, session: BrowserSession, name: str) -> Response:
        """A personal Microsoft account: shared endpoints send it astray, tenants do not know it."""
        try:
            authority = self._sandbox.directory.authority(pending.tenant)
            registration = identify(self._sandbox, authority, pending.params)
        except EntraError as error:
            return self._show(request, error, str(uuid.uuid4()))
        turn = Turn(pending, authority, registration, session, str(uuid.uuid4()))
        if pending.kind != "authorize" and not isinstance(authority, Tenant):
            text = "The provided request must include a 'response_type' input parameter."
            params = {"error": "invalid_request", "error_description": text, "state": pending.params.get("state", "")}
            return answer(self._sandbox.pages, turn.redirect_uri, params)
        flow = self._flows[pending.kind]
        return self._refuse(flow, turn, stranger(authority, name, "live.com", registration), request)

    def _show(self, request: Request, error: EntraError, correlation_id: str) -> Response:
        note(request, aadsts=error.code)
        refusal = error.refusal(correlation_id)
        return self._sandbox.pages.render("error.html", status=400, refusal=refusal)

    def _lost(self, request: Request, tenant: str) -> Response:
        del tenant
        message = (
            "We couldn't sign you in: this page was open for too long, or belongs to another browser. Start again."
        )
        return self._show(request, EntraError(90014, message=message), str(uuid.uuid4()))

    def _tenant_id(self, segment: str) -> str | None:
        try:
            found: Authority = self._sandbox.directory.authority(segment)
        except EntraError:
            return None
        return found.id if isinstance(found, Tenant) else None

    def _session(self, request: Request) -> BrowserSession:
        return self._sandbox.sealer.session(request.cookies.get(COOKIE))

    def _with_session(self, response: Response, session: BrowserSession) -> Response:
        cookie = self._sandbox.sealer.session_cookie(session)
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="lax", path="/")
        return response
