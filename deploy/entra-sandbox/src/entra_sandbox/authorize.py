"""The authorize endpoint, v2.0: authorization code with PKCE (RFC 6749, RFC 7636, OpenID Connect Core)."""

import re

from fastapi.responses import Response

from entra_sandbox import scopes
from entra_sandbox.callbacks import answer
from entra_sandbox.client_info import client_info
from entra_sandbox.errors import EntraError
from entra_sandbox.flow import Turn, asking, error_params, explain
from entra_sandbox.model import GRAPH_APP_ID, Member, PermissionType, RequiredPermission, ServicePrincipal, Tenant
from entra_sandbox.roles import may_consent
from entra_sandbox.sandbox import Sandbox
from entra_sandbox.tokens import session_id_of

_PROMPTS = frozenset({"", "none", "login", "consent", "select_account"})
_MODES = frozenset({"", "query", "fragment", "form_post"})
_CHALLENGE = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
_ALL = frozenset({"error"})


class AuthorizeFlow:
    """Sign-in for an app."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def check(self, turn: Turn) -> None:
        """Response type, mode, prompt, PKCE and scope."""
        params = turn.params
        if not params.get("response_type"):
            raise EntraError(900144, name="response_type")
        if params["response_type"] != "code":
            raise EntraError(700054, response_type=params["response_type"])
        if params.get("response_mode", "") not in _MODES:
            raise EntraError(90023, name="response_mode")
        if params.get("prompt") == "admin_consent":
            raise EntraError(901001)
        if params.get("prompt", "") not in _PROMPTS:
            raise EntraError(90023, name="prompt")
        if not params.get("scope"):
            raise EntraError(900144, name="scope")
        challenge = params.get("code_challenge")
        if challenge is not None and not _CHALLENGE.fullmatch(challenge):
            raise EntraError(501491)
        if challenge is not None and params.get("code_challenge_method", "plain") not in {"S256", "plain"}:
            raise EntraError(90023, name="code_challenge_method")
        self._wanted(turn)

    def proceed(self, turn: Turn, member: Member, tenant: Tenant) -> Response:
        """A code, or the consent page if something was not consented to."""
        sandbox, client_id = self._sandbox, turn.registration.client_id
        fault = sandbox.faults.take("authorize", tenant_id=tenant.id, client_id=client_id, kinds=_ALL)
        if fault and fault.code:
            raise EntraError(fault.code, error=fault.error)
        principal = sandbox.directory.principal(tenant.id, client_id)
        if principal and not principal.account_enabled:
            raise EntraError(7000112, client_id=client_id, app=turn.registration.display_name)
        missing = self._missing(turn, principal, member)
        if turn.params.get("prompt") != "consent" and not missing:
            return self._code(turn, member, tenant)
        if turn.wish.silent:
            raise EntraError(65001, client_id=client_id, app=turn.registration.display_name)
        return self._ask(turn, member, tenant, missing or self._wanted(turn))

    def decide(self, turn: Turn, member: Member, tenant: Tenant, decision: str, *, for_all: bool) -> Response:
        """Writes the grant on `accept`, for the person or, by an administrator who says so, for everybody."""
        if decision == "return":
            return self._back(turn, {"error": "access_denied", "error_subcode": "cancel"})
        if decision != "accept":
            return self.refuse(turn, EntraError(65004))
        wanted = self._wanted(turn)
        directory = self._sandbox.directory
        if not self._may_accept(tenant, member, wanted):
            return self._ask(turn, member, tenant, wanted)
        if for_all and may_consent(member.roles, wanted):
            directory.grant(tenant, turn.registration, wanted, replace=False)
        else:
            directory.grant_to_person(tenant, turn.registration, wanted, member.object_id)
        return self._code(turn, member, tenant)

    def refuse(self, turn: Turn, error: EntraError) -> Response:
        """The error at the redirect URI."""
        return self._back(turn, error_params(error.refusal(turn.correlation_id), self._sandbox.urls.browser))

    def _wanted(self, turn: Turn) -> tuple[RequiredPermission, ...]:
        """Delegated permissions that the scope asks for; application permissions are never part of a sign-in."""
        tenant = turn.authority.display_name if isinstance(turn.authority, Tenant) else turn.authority
        wanted = scopes.read(self._sandbox.directory, turn.registration, turn.params["scope"], tenant=tenant)
        return tuple(item for item in wanted.permissions(turn.registration) if item.type is PermissionType.DELEGATED)

    def _missing(
        self, turn: Turn, principal: ServicePrincipal | None, member: Member
    ) -> tuple[RequiredPermission, ...]:
        granted = self._sandbox.directory.scopes_granted(principal, member.object_id) if principal else set()
        # The scopes of OpenID Connect come with any delegated permission of Graph: nobody is asked for them again.
        basics = any(resource == GRAPH_APP_ID for resource, _ in granted)
        return tuple(
            item
            for item in self._wanted(turn)
            if (item.resource_app_id, item.value) not in granted and not (basics and item.value in scopes.OPENID_SCOPES)
        )

    def _ask(self, turn: Turn, member: Member, tenant: Tenant, permissions: tuple[RequiredPermission, ...]) -> Response:
        context = asking(self._sandbox, turn, member, tenant)
        if not self._may_accept(tenant, member, permissions):
            return self._sandbox.pages.render("need_approval.html", **context)
        return self._sandbox.pages.render(
            "consent.html",
            admin=False,
            may_choose=may_consent(member.roles, permissions),
            permissions=explain(self._sandbox, permissions),
            **context,
        )

    def _may_accept(self, tenant: Tenant, member: Member, permissions: tuple[RequiredPermission, ...]) -> bool:
        if may_consent(member.roles, permissions):
            return True
        directory = self._sandbox.directory
        restricted = any(
            (found := directory.resources[item.resource_app_id].permission(item.value, item.type))
            and found.admin_consent_required
            for item in permissions
        )
        return tenant.user_consent and not restricted

    def _code(self, turn: Turn, member: Member, tenant: Tenant) -> Response:
        params = turn.params
        started = {item.object_id: item.at for item in turn.session.people}
        session_id = session_id_of(member.object_id, started.get(member.user.object_id, turn.session.id))
        code = self._sandbox.codes.issue(
            client_id=turn.registration.client_id,
            redirect_uri=turn.redirect_uri,
            tenant_id=tenant.id,
            user_id=member.user.object_id,
            scopes=tuple(params["scope"].split()),
            nonce=params.get("nonce"),
            code_challenge=params.get("code_challenge"),
            code_challenge_method=params.get("code_challenge_method", "plain"),
            session_id=session_id,
        )
        info = client_info(member) if params.get("client_info") == "1" else ""
        return self._back(turn, {"code": code, "client_info": info}, session_state=session_id)

    def _back(self, turn: Turn, params: dict[str, str], *, session_state: str = "") -> Response:
        """Entra adds `session_state`; a client that refuses parameters it does not know fails there as well."""
        return answer(
            self._sandbox.pages,
            turn.redirect_uri,
            {**params, "state": turn.params.get("state", ""), "session_state": session_state},
            mode=turn.params.get("response_mode") or "query",
        )
