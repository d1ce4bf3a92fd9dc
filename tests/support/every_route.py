"""Every route of the gateway, filled with ids of an account, so that no test can forget a new one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from consent_gateway.consent.attempts import Proven, Requester
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind
from support.gateway import CONTOSO, OPERATOR, OTHER_OPERATOR
from support.gateway_site import Site, Visit
from support.ledger import accepted_on, take, waiting

SET = "read-directory-data"
ADMINISTRATOR = "6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22"
# What a path that ends in {action} may be asked to do.
ACTIONS = ("block", "unblock", "verify", "removed")
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


@dataclass(frozen=True)
class Route:
    """A method on a path template."""

    method: str
    path: str

    @property
    def names(self) -> tuple[str, ...]:
        """The path's parameters."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def is_api(self) -> bool:
        """Whether it takes a bearer token and answers JSON."""
        return self.path.startswith("/v1/")

    def filled(self, ids: Mapping[str, str]) -> Iterator[str]:
        """The paths that it stands for.

        Raises:
            KeyError: nobody said what fills a parameter: say it in ``furnished``.
        """
        for action in ACTIONS if "action" in self.names else ("",):
            path = self.path
            for name in self.names:
                path = re.sub(rf"{{{name}(:\w+)?}}", {**ids, "action": action}[name], path)
            yield path


def routes(app: FastAPI) -> list[Route]:
    """All routes of the application but its files, its health and its description."""
    found = [
        Route(method, context.path or "")
        for context in iter_route_contexts(app.routes)
        for method in sorted(context.methods or ())
    ]
    apart = ("/static/", "/livez", "/readyz", "/metrics", "/openapi.json")
    kept = [one for one in found if one.method not in {"HEAD", "OPTIONS"} and not one.path.startswith(apart)]
    assert len(kept) > 40, "the routes are not found any more"
    return kept


@dataclass(frozen=True)
class Owned:
    """What two accounts have, and browsers of theirs: northwind holds the tenant, adatum asks for it."""

    ids: dict[str, str]
    holder: Visit
    claimant: Visit
    claim: str

    def of(self, route: Route) -> tuple[Visit, dict[str, str]]:
        """Whose ids fill the route, and the ids."""
        if route.path.endswith(("/attempts/{attempt_id}/transfer", "/attempts/{attempt_id}/reset")):
            return self.claimant, {**self.ids, "attempt_id": self.claim}
        if route.path.startswith("/invite/"):
            return self.holder, {**self.ids, "token": self.ids["invitation_token"]}
        return self.holder, self.ids


async def furnished(site: Site, core: Core) -> Owned:
    """One of everything that has an id, for two accounts."""
    holder = await site.signed_in("northwind", "admin", subject="admin-1")
    claimant = await site.signed_in("adatum", "admin", subject=OTHER_OPERATOR.subject)
    await accepted_on(core, CONTOSO, OPERATOR, SET)
    app = Requester(account_id="northwind", account_name=None, subject="app", app_id="mobile-security")
    consent, token = await core.consent.create_link(app, permission_set_ids=[SET])
    failed = await _failed(core)
    attempt, _ = await waiting(core, OPERATOR, SET)
    await _bind(core, attempt.id, "northwind")
    screen = "/integrations/microsoft-entra-id"
    made = await holder.post(f"{screen}/invitations", {"permission_set_id": SET})
    invitation = await core.database["invitations"].find_one({})
    claim = await _refused(core)
    await _bind(core, claim, "adatum")
    asked = await core.flow.transfers.request(await _refused(core), OTHER_OPERATOR, tell_name=False)
    ids = {
        "tenant_id": CONTOSO,
        "permission_set_id": SET,
        "version": "1",
        "app_id": "mobile-security",
        "attempt_id": attempt.id,
        "consent_id": consent.id,
        "token": token,
        "invitation_id": (invitation or {})["_id"],
        "invitation_token": re.findall(r"/invite/([\w.~-]+)", made.text)[0],
        "transfer_id": asked.id,
        "failure_id": failed,
    }
    return Owned(ids, holder, claimant, claim)


async def _failed(core: Core) -> str:
    """An attempt of northwind by somebody who is no administrator."""
    _, state = await waiting(core, OPERATOR, SET)
    attempt = await take(core, state, OPERATOR)
    assert attempt is not None
    await core.store.fail_attempt(
        attempt, kind=Kind.NOT_ADMINISTRATOR, stage="sign_in", error_code="AADSTS90094", tenant_id=None
    )
    return attempt.id


async def _refused(core: Core) -> str:
    """An attempt of adatum that ended because northwind has the tenant."""
    _, state = await waiting(core, OTHER_OPERATOR, SET)
    attempt = await take(core, state, OTHER_OPERATOR)
    assert attempt is not None
    proven = Proven(tenant_id=CONTOSO, object_id=ADMINISTRATOR, at=utc_now())
    await core.store.fail_attempt(
        attempt, kind=Kind.TENANT_TAKEN, stage="redeem", error_code=None, tenant_id=CONTOSO, proven=proven
    )
    return attempt.id


async def _bind(core: Core, attempt_id: str, account_id: str) -> None:
    """Make an attempt one of the browser that is signed in for the account."""
    session: dict[str, Any] = await core.database["sessions"].find_one({"account_id": account_id}) or {}
    await core.database["attempts"].update_one({"_id": attempt_id}, {"$set": {"session_hash": session["binding"]}})
