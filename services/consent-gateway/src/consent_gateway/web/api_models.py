"""What the JSON API takes and gives, with examples for its OpenAPI document."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from consent_gateway.checks.schedule import removal_is_watched, removal_watched_until
from consent_gateway.consent.attempts import AttemptView, Browser
from consent_gateway.grants.grants import Grant
from shared.events import HeldApp, Slug

TENANT = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"


class Shown(BaseModel):
    """A value that is sent."""

    model_config = ConfigDict(frozen=True)


class ProblemDetails(Shown):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str = Field(description="Stable name of what happened.")
    detail: str = Field(description="What to do next.")


class ConsentWanted(BaseModel):
    """A consent to be asked for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"permission_set_ids": ["read-directory-data"], "tenant_id": TENANT}},
    )

    permission_set_ids: list[Slug] = Field(min_length=1, max_length=50)
    tenant_id: str | None = Field(None, description="GUID of the tenant; another one is then refused.")
    return_url: str | None = Field(None, description="One of the app's return URLs; `consent_id` is added to it.")


class SetResultShown(Shown):
    """How one permission set of a consent ended."""

    permission_set_id: str
    outcome: str
    status: str | None = Field(description="The grant's status now; null where there is no grant.")
    held_apps: list[HeldApp]


class BrowserShown(Shown):
    """Where a step came from."""

    address: str | None = Field(description="IP address, as far as it is known.")
    family: str = Field(description="Edge, Opera, Firefox, Chrome, Safari or other.")

    @classmethod
    def of(cls, browser: Browser | None) -> "BrowserShown | None":
        """From the browser."""
        return cls(address=browser.address, family=browser.family) if browser is not None else None


class ConsentShown(Shown):
    """A run through Entra's consent."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "0b9c6f0f3f5c4f0f8a6c1d2e3f405162",
                "status": "pending",
                "permission_set_ids": ["read-directory-data"],
                "results": [
                    {"permission_set_id": "read-directory-data", "outcome": "pending", "status": None, "held_apps": []}
                ],
                "tenant_id": TENANT,
                "tenant_name": None,
                "reason": None,
                "error_code": None,
                "reference": "0b9c6f0f3f5c",
                "consent_url": "https://consent.example/connect/3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "created_at": "2026-11-23T12:00:00Z",
                "expires_at": "2026-11-23T12:10:00Z",
                "started_from": {"address": "203.0.113.7", "family": "Firefox"},
                "last_from": None,
            }
        }
    )

    id: str
    status: str = Field(description="pending, proving, awaiting_confirmation, succeeded, declined, failed or expired.")
    permission_set_ids: list[str]
    results: list[SetResultShown]
    tenant_id: str | None
    tenant_name: str | None
    reason: str | None = Field(description="Why it ended without all grants.")
    error_code: str | None = Field(description="Entra's code, for example AADSTS65004.")
    resource_app_id: str | None = Field(
        None, description="App id of the API that the tenant lacks: for service_missing, where Entra named it."
    )
    reference: str
    consent_url: str | None = Field(description="Only in the answer that made it: where to send a browser.")
    created_at: datetime
    expires_at: datetime
    started_from: BrowserShown | None = Field(
        None, description="The browser that began it. Never told to apps, and gone once the person is forgotten."
    )
    last_from: BrowserShown | None = Field(
        None, description="The browser that brought Entra's last answer; where it succeeded, the one that accepted."
    )

    @classmethod
    def of(cls, view: AttemptView, *, audit: bool = False) -> "ConsentShown":
        """From the run; ``audit`` adds where it came from."""
        return cls(
            id=view.id,
            status=str(view.status),
            permission_set_ids=list(view.permission_set_ids),
            results=[
                SetResultShown(
                    permission_set_id=result.permission_set_id,
                    outcome=str(result.outcome),
                    status=result.status,
                    held_apps=list(result.held_apps),
                )
                for result in view.results
            ],
            tenant_id=view.tenant_id,
            tenant_name=view.tenant_name,
            reason=str(view.failure) if view.failure is not None else None,
            error_code=view.error_code,
            resource_app_id=view.resource_app_id,
            reference=view.reference,
            consent_url=view.consent_url,
            created_at=view.created_at,
            expires_at=view.expires_at,
            started_from=BrowserShown.of(view.started_from) if audit else None,
            last_from=BrowserShown.of(view.last_from) if audit else None,
        )


class Accepted(Shown):
    """The change is made; apps are told as soon as it has gone through Kafka."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "accepted", "entra_url": None}})

    status: Literal["accepted"] = "accepted"
    entra_url: str | None = Field(
        None, description="Where an administrator takes the permissions away in Entra: a block leaves them there."
    )


class CheckShown(Shown):
    """How a grant is checked."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "granted",
                "checked_at": "2026-11-23T12:00:00Z",
                "confirmed_at": "2026-11-23T11:59:55Z",
                "next_check_at": "2026-11-23T12:00:05Z",
                "answers_against": 1,
                "problem": None,
                "removal_watched_until": "2026-11-23T12:09:50Z",
            }
        }
    )

    status: str
    checked_at: datetime | None = Field(description="When Entra last answered, or failed to.")
    confirmed_at: datetime | None = Field(description="When Entra last showed everything that was accepted.")
    next_check_at: datetime | None = Field(description="Null for what is revoked: it isn't checked any more.")
    answers_against: int = Field(description="Answers in a row that something is missing; several make a change.")
    problem: str | None = Field(description="Why the last check gave no answer; it changed nothing then.")
    removal_watched_until: datetime | None = Field(
        description="Until when it is checked every few seconds, because somebody said that it was removed."
    )

    @classmethod
    def of(cls, grant: Grant, *, now: datetime) -> "CheckShown":
        """From the grant."""
        return cls(
            status=str(grant.status),
            checked_at=grant.health.last_at,
            confirmed_at=grant.health.last_good_at,
            next_check_at=grant.health.next_at,
            answers_against=grant.health.negatives,
            problem=grant.health.error,
            removal_watched_until=removal_watched_until(grant) if removal_is_watched(grant, now) else None,
        )


class AppTenant(BaseModel):
    """The tenant that a limited app is to use."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"tenant_id": TENANT}})

    tenant_id: str


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for the OpenAPI document."""
    texts = {
        401: "No valid access token",
        403: "The token's role doesn't allow it",
        404: "Not there, or of another account",
        409: "In conflict with what is there",
        422: "The request doesn't have the documented form",
        503: "The database, the issuer or Entra can't be reached",
    }
    return {
        status: {
            "model": ProblemDetails,
            "content": {"application/problem+json": {}},
            "description": texts[status],
        }
        for status in (401, 403, 503, *statuses)
    }
