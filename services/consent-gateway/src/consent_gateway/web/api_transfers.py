"""The JSON API of transfers."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from consent_gateway.consent.attempts import Person
from consent_gateway.consent.transfers import Transfers, TransferView
from consent_gateway.web.api_models import TENANT, Shown, problem_responses
from shared.auth import Principal, Role, require
from shared.events import Actor
from shared.problems import Problem

Caller = Callable[[Request], Awaitable[Principal]]


class TransferShown(Shown):
    """A tenant that is asked for. Neither account learns who the other one is, unless its people agreed to tell."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "019ab1c2d3e4f5061728394a5b6c7d8e",
                "direction": "incoming",
                "tenant_id": TENANT,
                "claimant": None,
                "status": "pending",
                "created_at": "2026-11-23T12:00:00Z",
                "expires_at": "2026-11-30T12:00:00Z",
            }
        }
    )

    id: str
    direction: Literal["incoming", "outgoing"] = Field(
        description="incoming: another account asks for a tenant of yours; outgoing: yours asks for one of another's."
    )
    tenant_id: str
    claimant: str | None = Field(description="Name of the account that asks, where its people agreed to tell it.")
    status: str = Field(description="pending, accepted or expired. Silence never transfers.")
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, view: TransferView) -> "TransferShown":
        """From the transfer."""
        return cls(
            id=view.id,
            direction="incoming" if view.incoming else "outgoing",
            tenant_id=view.tenant_id,
            claimant=view.claimant,
            status=str(view.status),
            created_at=view.created_at,
            expires_at=view.expires_at,
        )


class TransferWanted(BaseModel):
    """A tenant to ask for: that of a consent of one's own which ended with `tenant_taken`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"consent_id": "0b9c6f0f3f5c4f0f8a6c1d2e3f405162", "tell_name": True}},
    )

    consent_id: str = Field(max_length=64)
    tell_name: bool = Field(False, description="Tell the other account the name of this one.")


class TransferPage(Shown):
    """Transfers, newest first: the last 200."""

    items: list[TransferShown]
    next_cursor: None = None


def router(caller: Caller, transfers: Transfers) -> APIRouter:
    """The routes; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1/transfers", tags=["transfers"], responses=problem_responses())
    who = Annotated[Principal, Depends(caller)]

    @routes.get("")
    async def list_transfers(principal: who) -> TransferPage:
        """Tenants that another account asks this one for, and the other way round."""
        views = await transfers.of_account(_account(principal, "viewer"))
        return TransferPage(items=[TransferShown.of(view) for view in views])

    @routes.post("", status_code=201, responses=problem_responses(404, 409, 422))
    async def request_transfer(principal: who, wanted: TransferWanted) -> TransferShown:
        """Ask for a tenant that another account has. Within ten minutes of the consent that proved who asks."""
        person = Person(
            account_id=_account(principal, "operator"),
            account_name=principal.account_name,
            subject=principal.subject,
            name=None,
            roles=frozenset(principal.roles),
            session_hash="",
        )
        return TransferShown.of(await transfers.request(wanted.consent_id, person, tell_name=wanted.tell_name))

    @routes.post("/{transfer_id}/accept", responses=problem_responses(404, 409))
    async def accept_transfer(principal: who, transfer_id: str) -> TransferShown:
        """Give the tenant away: all grants of this account on it end, those that were proven begin at the other one."""
        account_id = _account(principal, "admin")
        actor = Actor(kind="user", id=principal.subject)
        return TransferShown.of(await transfers.accept(transfer_id, account_id, actor=actor))

    return routes


def _account(principal: Principal, role: Role) -> str:
    require(principal, role)
    if principal.account_id is None:
        raise Problem(403, "forbidden", "The access token names no account.")
    return principal.account_id
