"""The JSON API of the suite's own credentials that end soon: what the notice on the screen says."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import ConfigDict, Field

from consent_gateway.entra.credential_expiry import Ending
from consent_gateway.web.api_models import Shown, problem_responses
from shared.auth import Principal, require

Caller = Callable[[Request], Awaitable[Principal]]


class CredentialShown(Shown):
    """The credential of a client registration that lasts longest; never the credential itself."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "registration": "read-directory-data",
                "client_id": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01",
                "credential": "current",
                "expires_at": "2026-12-10T00:00:00Z",
                "days_left": 16,
            }
        }
    )

    registration: str
    client_id: str
    credential: str = Field(description="Its name in the settings.")
    expires_at: datetime
    days_left: int = Field(description="Whole days until it ends; negative after that.")


class CredentialPage(Shown):
    """Those that end within a month or have ended, the first one first."""

    items: list[CredentialShown]
    next_cursor: None = None


def router(caller: Caller, *, endings: Callable[[], Sequence[Ending]], clock: Callable[[], datetime]) -> APIRouter:
    """The route; ``caller`` names who asks."""
    routes = APIRouter(prefix="/v1/credentials", tags=["catalogue"], responses=problem_responses())
    who = Annotated[Principal, Depends(caller)]

    @routes.get("")
    async def list_ending_credentials(principal: who) -> CredentialPage:
        """The suite's own credentials that have to be renewed soon; for administrators and staff."""
        require(principal, "admin", "staff")
        now = clock()
        return CredentialPage(
            items=[
                CredentialShown(
                    registration=one.registration,
                    client_id=one.client_id,
                    credential=one.credential,
                    expires_at=one.expires_at,
                    days_left=one.days_left(now),
                )
                for one in endings()
            ]
        )

    return routes
