"""The admin-consent endpoint, v2.0 and v1: review, accept or cancel, and the callbacks of each end.

Source: Microsoft identity platform, "Admin consent on the Microsoft identity platform" and "Grant tenant-wide admin
consent to an application"; callback shapes that differ from the pages are those seen in the wild.
"""

from fastapi.responses import Response

from entra_sandbox import scopes
from entra_sandbox.callbacks import answer
from entra_sandbox.errors import EntraError
from entra_sandbox.flow import Turn, asking, error_params, explain
from entra_sandbox.model import Member, RequiredPermission, Tenant
from entra_sandbox.roles import may_consent
from entra_sandbox.sandbox import Sandbox

_ALL = frozenset({"error"})


class AdminConsentFlow:
    """One version of the endpoint."""

    def __init__(self, sandbox: Sandbox, *, version: int) -> None:
        self._sandbox, self._version = sandbox, version

    def check(self, turn: Turn) -> None:
        """The scope must be there in v2.0 and must be one that can be consented to."""
        if self._version == 2 and not turn.params.get("scope"):
            raise EntraError(900144, name="scope")
        self._permissions(turn)

    def proceed(self, turn: Turn, member: Member, tenant: Tenant) -> Response:
        """The page "Permissions requested", or the one that says an administrator is needed."""
        permissions = self._permissions(turn)
        sandbox = self._sandbox
        fault = sandbox.faults.take(
            "adminconsent", tenant_id=tenant.id, client_id=turn.registration.client_id, kinds=_ALL
        )
        if fault and fault.code:
            raise EntraError(fault.code, error=fault.error)
        self._check_resources(tenant, permissions)
        context = asking(sandbox, turn, member, tenant)
        if not may_consent(member.roles, permissions):
            return sandbox.pages.render("need_approval.html", **context)
        listed = explain(sandbox, permissions)
        return sandbox.pages.render("consent.html", admin=True, may_choose=False, permissions=listed, **context)

    def decide(self, turn: Turn, member: Member, tenant: Tenant, decision: str, *, for_all: bool) -> Response:
        """Writes the grants on `accept`; everything that was checked for the page is checked again."""
        del for_all  # an admin consent is for all
        if decision == "return":
            return self._back(turn, {"error": "access_denied", "error_subcode": "cancel"})
        if decision != "accept":
            return self._declined(turn)
        permissions = self._permissions(turn)
        self._check_resources(tenant, permissions)
        if not may_consent(member.roles, permissions):
            return self.proceed(turn, member, tenant)
        self._sandbox.directory.grant(tenant, turn.registration, permissions)
        if self._version == 1:
            return self._back(
                turn, {"tenant": tenant.id, "state": turn.params.get("state", ""), "admin_consent": "True"}
            )
        return self._back(
            turn, {"admin_consent": "True", "tenant": tenant.id, "scope": self._granted_scope(turn, permissions)}
        )

    def refuse(self, turn: Turn, error: EntraError) -> Response:
        """The error at the redirect URI: no tenant, and `admin_consent=True` as if it had gone well."""
        refusal = error.refusal(turn.correlation_id)
        return self._back(turn, error_params(refusal, self._sandbox.urls.browser) | {"admin_consent": "True"})

    def _permissions(self, turn: Turn) -> tuple[RequiredPermission, ...]:
        if self._version == 1:
            return turn.registration.permissions
        tenant = turn.authority.display_name if isinstance(turn.authority, Tenant) else turn.authority
        wanted = scopes.read(self._sandbox.directory, turn.registration, turn.params["scope"], tenant=tenant)
        return wanted.permissions(turn.registration)

    def _check_resources(self, tenant: Tenant, permissions: tuple[RequiredPermission, ...]) -> None:
        missing = self._sandbox.directory.missing_resource(tenant, permissions)
        if missing and tenant.missing_resource_policy == "fail":
            raise EntraError(650052, resource_app_id=missing.app_id, resource=missing.name, tenant=tenant.id)

    def _granted_scope(self, turn: Turn, permissions: tuple[RequiredPermission, ...]) -> str:
        """The scopes that a success names: delegated ones, and `.default` as it was asked for. They prove nothing."""
        directory = self._sandbox.directory
        named = [
            f"{directory.resources[item.resource_app_id].identifiers[0]}/{item.value}"
            for item in permissions
            if item.type == "delegated" and item.value not in scopes.OPENID_SCOPES
        ]
        return " ".join([*named, *(item for item in turn.params["scope"].split() if item.endswith("/.default"))])

    def _declined(self, turn: Turn) -> Response:
        shape = "v1" if self._version == 1 else self._sandbox.directory.behaviour.decline
        if shape == "v1":
            return self._back(
                turn, {"error": "permission_denied", "error_description": "The admin canceled the request"}
            )
        if shape == "cancel":
            return self._back(turn, {"error": "access_denied", "error_subcode": "cancel"})
        if shape == "documented":
            error = EntraError(
                65004,
                error="consent_required",
                message="The resource owner or authorization server denied the request.",
            )
            refusal = error.refusal(turn.correlation_id)
            return self._back(
                turn, {"admin_consent": "True", "error": refusal.error, "error_description": refusal.description}
            )
        return self.refuse(turn, EntraError(65004))

    def _back(self, turn: Turn, params: dict[str, str]) -> Response:
        return answer(self._sandbox.pages, turn.redirect_uri, {**params, "state": turn.params.get("state", "")})
