"""What the two flows that a browser goes through have in common: authorize and admin consent."""

from dataclasses import dataclass
from typing import Any, Protocol

from fastapi.responses import Response

from entra_sandbox.directory import Authority
from entra_sandbox.errors import EntraError, Refusal
from entra_sandbox.model import Member, Registration, RequiredPermission, Resource, Tenant
from entra_sandbox.sandbox import Sandbox
from entra_sandbox.sessions import BrowserSession, Pending
from entra_sandbox.sign_in import Wish


@dataclass(frozen=True)
class Turn:
    """One request of a browser within a flow."""

    pending: Pending
    authority: Authority
    registration: Registration
    session: BrowserSession
    correlation_id: str

    @property
    def params(self) -> dict[str, str]:
        """The parameters that the flow began with."""
        return self.pending.params

    @property
    def redirect_uri(self) -> str:
        """Where the flow ends; it is registered."""
        return self.params["redirect_uri"]

    @property
    def wish(self) -> Wish:
        """What the client asked of the sign-in."""
        return Wish(
            registration=self.registration,
            prompt=self.params.get("prompt", ""),
            login_hint=self.params.get("login_hint", ""),
        )


class Flow(Protocol):
    """A flow: checks its own parameters, goes on once the person is known, takes the person's decision."""

    def check(self, turn: Turn) -> None:
        """Checks the parameters; the client is told of an EntraError at its redirect URI."""

    def proceed(self, turn: Turn, member: Member, tenant: Tenant) -> Response:
        """Goes on with a signed-in person: a page that asks, or the way back."""

    def decide(self, turn: Turn, member: Member, tenant: Tenant, decision: str, *, for_all: bool) -> Response:
        """Takes the answer to the page that asked: `accept`, `cancel`, or `return` from a dead end."""

    def refuse(self, turn: Turn, error: EntraError) -> Response:
        """Tells the client of an error."""


def identify(sandbox: Sandbox, authority: Authority, params: dict[str, str]) -> Registration:
    """The client of a request, with a redirect URI that is its own; what is wrong here is shown, never sent back.

    Raises:
        EntraError: 900144 for a missing parameter, 700016 for an unknown client, 50194 for one of a single tenant,
            500113 and 50011 for a redirect URI that is not registered, character by character.
    """
    client_id = params.get("client_id", "")
    if not client_id:
        raise EntraError(900144, name="client_id")
    registration = sandbox.directory.registration(client_id)
    name = authority.display_name if isinstance(authority, Tenant) else authority
    if registration is None:
        raise EntraError(700016, client_id=client_id, tenant=name)
    if registration.sign_in_audience == "AzureADMyOrg":
        if not isinstance(authority, Tenant):
            raise EntraError(50194, client_id=client_id, app=registration.display_name)
        if authority.id != registration.home_tenant_id:
            raise EntraError(700016, client_id=client_id, tenant=name)
    if authority == "consumers":
        raise EntraError(90130, client_id=client_id, app=registration.display_name)
    registered = sandbox.directory.redirect_uris_of(registration)
    if not registered:
        raise EntraError(500113)
    if not params.get("redirect_uri"):
        raise EntraError(900144, name="redirect_uri")
    if params["redirect_uri"] not in registered:
        raise EntraError(50011, redirect_uri=params["redirect_uri"], client_id=client_id)
    return registration


def seal_for(sandbox: Sandbox, turn: Turn, member: Member | None = None) -> str:
    """The hidden field that carries a flow through a form, bound to the browser and to the person it was made for."""
    person = member and member.user.object_id
    return sandbox.sealer.seal_pending(turn.pending.model_copy(update={"session": turn.session.id, "person": person}))


def asking(sandbox: Sandbox, turn: Turn, member: Member, tenant: Tenant) -> dict[str, Any]:
    """What every page shows that asks a signed-in person: who asks whom in which tenant, and where the forms go."""
    return {
        "registration": turn.registration,
        "member": member,
        "tenant": tenant,
        "context": seal_for(sandbox, turn, member),
        "action": f"/{turn.pending.tenant}/consent",
        "switch": f"/{turn.pending.tenant}/switch",
    }


def explain(
    sandbox: Sandbox, permissions: tuple[RequiredPermission, ...]
) -> list[tuple[Resource, list[dict[str, str]]]]:
    """Permissions as a page lists them: by resource, with title and description."""
    listed: dict[str, list[dict[str, str]]] = {}
    for item in permissions:
        found = sandbox.directory.resources[item.resource_app_id].permission(item.value, item.type)
        if found:
            listed.setdefault(item.resource_app_id, []).append(
                {
                    "value": found.value,
                    "type": found.type,
                    "title": found.display_name,
                    "description": found.description,
                }
            )
    return [(sandbox.directory.resources[app_id], entries) for app_id, entries in listed.items()]


def error_params(refusal: Refusal, login_url: str) -> dict[str, str]:
    """An error as Entra appends it to a redirect URI."""
    return {
        "error": refusal.error,
        "error_description": refusal.description,
        "error_uri": refusal.error_uri(login_url),
    }
