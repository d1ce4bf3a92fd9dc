"""The JSON API of invitations."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from consent_gateway.consent.attempts import Requester
from consent_gateway.consent.confirmations import Confirmations
from consent_gateway.consent.invitations import MOST_TOGETHER, Invitations
from consent_gateway.consent.invited import InvitationView
from consent_gateway.web.api_models import TENANT, Shown, problem_responses
from shared.auth import Principal, Role, require
from shared.events import Slug
from shared.problems import Problem

Caller = Callable[[Request], Awaitable[Principal]]


_EXAMPLE: dict[str, Any] = {
    "id": "019ab1c2d3e4f5061728394a5b6c7d8e",
    "status": "pending",
    "url": "https://consent.example/invite/3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "permission_set_ids": ["read-directory-data"],
    "tenant_id": TENANT,
    "result": None,
    "reason": None,
    "attempt_id": None,
    "created_by": "operator-1",
    "created_at": "2026-11-23T12:00:00Z",
    "expires_at": "2026-11-30T12:00:00Z",
}


class InvitationWanted(BaseModel):
    """An invitation to be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"permission_set_ids": ["read-directory-data"], "tenant_id": TENANT}},
    )

    permission_set_ids: list[Slug] = Field(min_length=1, max_length=50)
    tenant_id: str | None = Field(
        None, description="GUID of the tenant; another one is then refused. Without it an operator confirms the result."
    )


class InvitationsWanted(BaseModel):
    """Invitations to be made, one for each tenant."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"permission_set_ids": ["read-directory-data"], "tenant_ids": [TENANT]}},
    )

    permission_set_ids: list[Slug] = Field(min_length=1, max_length=50)
    tenant_ids: list[str] = Field(min_length=1, max_length=MOST_TOGETHER, description="GUIDs, each counted once.")


class InvitationResult(Shown):
    """What the invited person proved."""

    tenant_id: str
    administrator: str = Field(description="Object id of the administrator, in that tenant.")
    proven_at: datetime


class InvitationShown(Shown):
    """An invitation."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: str
    status: str = Field(description="pending, opened, awaiting_confirmation, succeeded, failed, revoked or expired.")
    url: str | None = Field(description="The link: only in the answer that made it; it is kept as a hash.")
    permission_set_ids: list[str]
    tenant_id: str | None = Field(description="The tenant that was named, if one was.")
    result: InvitationResult | None
    reason: str | None = Field(description="Why it failed.")
    attempt_id: str | None = Field(description="The run that used it: `GET /v1/consents/{id}` says how it went.")
    created_by: str
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, view: InvitationView, *, url: str | None = None) -> "InvitationShown":
        """From the invitation."""
        one, proven = view.invitation, view.invitation.proven
        return cls(
            id=one.id,
            status=str(view.status),
            url=url,
            permission_set_ids=list(one.permission_set_ids),
            tenant_id=one.tenant_id,
            result=InvitationResult(tenant_id=proven.tenant_id, administrator=proven.object_id, proven_at=proven.at)
            if proven is not None
            else None,
            reason=one.reason,
            attempt_id=one.attempt_id,
            created_by=one.created_by,
            created_at=one.created_at,
            expires_at=one.expires_at,
        )


class InvitationsMade(Shown):
    """Invitations in the order of the tenants."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_EXAMPLE]}})

    items: list[InvitationShown]


class InvitationPage(Shown):
    """Invitations, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"items": [{**_EXAMPLE, "url": None}], "next_cursor": None}}
    )

    items: list[InvitationShown]
    next_cursor: str | None


def router(caller: Caller, invitations: Invitations, confirmations: Confirmations) -> APIRouter:
    """The routes; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1/invitations", tags=["invitations"], responses=problem_responses())
    who = Annotated[Principal, Depends(caller)]

    @routes.post("", status_code=201, responses=problem_responses(422))
    async def create_invitation(principal: who, wanted: InvitationWanted, answer: Response) -> InvitationShown:
        """Make a link for somebody who is a Global Administrator: valid once, for seven days, and shown this once."""
        requester = Requester(
            account_id=_account(principal), account_name=principal.account_name, subject=principal.subject, app_id=None
        )
        view, url = await invitations.create(
            requester, permission_set_ids=wanted.permission_set_ids, tenant_id=wanted.tenant_id
        )
        answer.headers["Location"] = f"/v1/invitations/{view.invitation.id}"
        answer.headers["Cache-Control"] = "no-store"
        return InvitationShown.of(view, url=url)

    @routes.post("/batch", status_code=201, responses=problem_responses(422))
    async def create_invitations(principal: who, wanted: InvitationsWanted, answer: Response) -> InvitationsMade:
        """Make a link for each of many tenants: all of them, or none. Only the named tenant can use a link."""
        requester = Requester(
            account_id=_account(principal), account_name=principal.account_name, subject=principal.subject, app_id=None
        )
        made = await invitations.create_many(
            requester, permission_set_ids=wanted.permission_set_ids, tenant_ids=wanted.tenant_ids
        )
        answer.headers["Cache-Control"] = "no-store"
        return InvitationsMade(items=[InvitationShown.of(view, url=url) for view, url in made])

    @routes.get("")
    async def list_invitations(
        principal: who,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
    ) -> InvitationPage:
        """The account's invitations, newest first."""
        views = await invitations.of_account(_account(principal, "viewer"), limit=limit + 1, before=cursor)
        return InvitationPage(
            items=[InvitationShown.of(view) for view in views[:limit]],
            next_cursor=views[limit - 1].invitation.id if len(views) > limit else None,
        )

    @routes.get("/{invitation_id}", responses=problem_responses(404))
    async def get_invitation(principal: who, invitation_id: str) -> InvitationShown:
        """One invitation."""
        return InvitationShown.of(await invitations.get(_account(principal, "viewer"), invitation_id))

    @routes.delete("/{invitation_id}", status_code=204, responses=problem_responses(404, 409))
    async def revoke_invitation(principal: who, invitation_id: str) -> Response:
        """Take the link back; a run that uses it ends without a grant."""
        await invitations.revoke(_account(principal), invitation_id)
        return Response(status_code=204)

    @routes.post("/{invitation_id}/confirm", responses=problem_responses(404, 409))
    async def confirm_invitation(principal: who, invitation_id: str) -> InvitationShown:
        """Connect the tenant that the invited administrator proved: until then nothing is granted."""
        account_id = _account(principal)
        await confirmations.confirm(account_id, invitation_id, subject=principal.subject)
        return InvitationShown.of(await invitations.get(account_id, invitation_id))

    return routes


def _account(principal: Principal, role: Role = "operator") -> str:
    require(principal, role)
    if principal.account_id is None:
        raise Problem(403, "forbidden", "The access token names no account.")
    return principal.account_id
