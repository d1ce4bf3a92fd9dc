"""Invitations in front of the sandbox: an operator makes them, somebody in another browser follows them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from consent_gateway.consent.attempts import Asked, Ended, Redirect, Requester
from consent_gateway.consent.invited import InvitationStatus
from consent_gateway.core import Core
from support.entra_sandbox import Visitor

REQUESTER = Requester(account_id="northwind", account_name="Northwind Traders", subject="operator-1", app_id=None)


@dataclass
class Invited:
    """Somebody who follows a link in a browser of their own."""

    core: Core
    visitor: Visitor
    token: str
    guest: str = "guest-1"

    async def sign_in(self, **how: Any) -> Redirect | Ended | Asked:
        """Prove who is here."""
        url = await self.core.flow.invitations.begin(self.token, guest=self.guest)
        return await self.core.consent.prove(
            await self.visitor.go(url, **how), person=None, session_hash=None, guest=self.guest
        )

    async def say_yes(self, *, accepts: Iterator[bool] | None = None) -> Ended:
        """Say yes, then accept at Entra as often as it takes, or as often as ``accepts`` says."""
        at_entra = accepts or repeat(True)
        step: Redirect | Ended | Asked = Redirect(
            await self.core.flow.invitations.connect(self.token, guest=self.guest)
        )
        while isinstance(step, Redirect):
            asks = "adminconsent" in step.url
            use = self.core.consent.callback if asks else self.core.consent.prove
            params = await self.visitor.go(step.url, accept=next(at_entra) if asks else True)
            step = await use(params, person=None, session_hash=None, guest=self.guest)
        assert isinstance(step, Ended)
        return step


async def invited(
    core: Core, visitor: Visitor, *, tenant_id: str | None = None, sets: tuple[str, ...] = ("read-directory-data",)
) -> tuple[str, Invited]:
    """An invitation's id, and whoever follows its link."""
    view, url = await core.flow.invitations.create(
        REQUESTER, permission_set_ids=sets, tenant_id=tenant_id, name="Operator One"
    )
    return view.invitation.id, Invited(core, visitor, url.rpartition("/")[2])


async def standing(core: Core, invitation_id: str) -> InvitationStatus:
    """Where the invitation stands."""
    return (await core.flow.invitations.get("northwind", invitation_id)).status
