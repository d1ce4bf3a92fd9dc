"""The JSON of the API: deliveries, their attempts, and erasing them."""

import json
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from notifier.deliveries import Attempt, DeadReason, Delivery, Status
from notifier.expunging import Expunge
from notifier.resources import Strict, example_of
from shared.events import AccountId

_ATTEMPT: dict[str, Any] = {
    "at": "2026-11-23T13:00:00.200Z",
    "duration_ms": 31,
    "status_code": 503,
    "error": None,
    "response_body": "busy",
    "truncated": False,
}
_DELIVERY: dict[str, Any] = {
    "id": "b4c1e4b1b3c24d0c8a3a5f6d7e8f9012",
    "event_id": "0d8f9a0e-6f5b-5a3e-9c1d-2b7e4f6a8c10",
    "type": "permission.status_changed",
    "subscription_id": "5c0d1f0e-7a51-4c86-8f5e-3f4c7c9b2a10",
    "status": "pending",
    "reason": None,
    "created_at": "2026-11-23T13:00:00.180Z",
    "next_attempt_at": "2026-11-23T13:00:05.612Z",
    "ended_at": None,
    "expunged_at": None,
    "attempts": [_ATTEMPT],
}


class AttemptView(BaseModel):
    """One POST."""

    model_config = example_of(_ATTEMPT)

    at: AwareDatetime
    duration_ms: int
    status_code: int | None = Field(description="What the endpoint answered; null when no answer came.")
    error: str | None = Field(description="Why no complete answer came: timeout, connection_failed, dns_error, ...")
    response_body: str = Field(description="The beginning of the answer.")
    truncated: bool = Field(description="Whether there was more of it.")

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """The view of an attempt."""
        return cls(
            at=attempt.at,
            duration_ms=attempt.duration_ms,
            status_code=attempt.status_code,
            error=attempt.error,
            response_body=attempt.response_body,
            truncated=attempt.truncated,
        )


class DeliveryView(BaseModel):
    """A delivery and its latest attempts."""

    model_config = example_of(_DELIVERY)

    id: str
    event_id: str = Field(description="The `webhook-id`.")
    type: str
    subscription_id: str
    status: Status
    reason: DeadReason | None = Field(description="Why it is dead.")
    created_at: AwareDatetime
    next_attempt_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    expunged_at: AwareDatetime | None = Field(description="When its payload and the endpoint's answers were erased.")
    attempts: list[AttemptView]

    @classmethod
    def of(cls, delivery: Delivery, **more: object) -> Self:
        """The view of a delivery."""
        fields = {
            "id": delivery.id,
            "event_id": delivery.event_id,
            "type": delivery.type,
            "subscription_id": delivery.subscription_id,
            "status": delivery.status,
            "reason": delivery.reason,
            "created_at": delivery.created_at,
            "next_attempt_at": delivery.next_at,
            "ended_at": delivery.ended_at,
            "expunged_at": delivery.expunged_at,
            "attempts": [AttemptView.of(attempt) for attempt in delivery.attempts],
        }
        return cls.model_validate({**fields, **more})


class DeliveryWithPayload(DeliveryView):
    """A delivery with what is sent; null once its event is no longer kept, or was erased."""

    payload: dict[str, Any] | None

    @classmethod
    def with_body(cls, delivery: Delivery, body: bytes | None) -> Self:
        """The view of a delivery whose body is known."""
        return cls.of(delivery, payload=json.loads(body) if body is not None else None)


class DeliveryPage(BaseModel):
    """A page of deliveries, newest first."""

    items: list[DeliveryView]
    next_cursor: str | None


class Accepted(BaseModel):
    """Work that was accepted and is under way."""

    model_config = example_of({"delivery_id": _DELIVERY["id"]})

    delivery_id: str


class ExpungeRequest(Strict):
    """What to erase."""

    model_config = ConfigDict(json_schema_extra={"example": {"account_id": "northwind"}})

    account_id: AccountId | None = Field(
        None, description="For an app: only what is about this account; all of the app's if absent or null."
    )


class ExpungedView(BaseModel):
    """What was erased just now; what had been erased before doesn't count."""

    model_config = example_of({"events": 1, "deliveries": 2})

    events: int = Field(description="Events that the owner can no longer read.")
    deliveries: int = Field(description="Deliveries that keep their ids, times and outcomes only.")


class ExpungeView(BaseModel):
    """An erasing that goes on until it is done, whatever becomes of the process that was asked for it."""

    model_config = example_of(
        {
            "id": "7d0f5b7e8a2c4e1f9b3d6a5c4e2f1a0b",
            "subscription_id": None,
            "account_id": "northwind",
            "status": "running",
            "requested_at": "2026-11-23T13:00:00.123Z",
            "ended_at": None,
            "events": 12,
            "deliveries": 24,
        }
    )

    id: str
    subscription_id: str | None = Field(description="The subscription whose events it erases; null for an account's.")
    account_id: str | None = Field(description="The account that an app erases; null for all that is the owner's.")
    status: Literal["running", "done"] = Field(
        description="`done`: nothing is left of what had come before `requested_at`."
    )
    requested_at: AwareDatetime
    ended_at: AwareDatetime | None
    events: int = Field(description="Events erased so far, by this request and those before it for the same.")
    deliveries: int = Field(description="Deliveries that keep their ids, times and outcomes only.")

    @classmethod
    def of(cls, expunge: Expunge) -> Self:
        """The view of a job."""
        return cls(
            id=expunge.id,
            subscription_id=expunge.subscription_id,
            account_id=expunge.account_id,
            status="running" if expunge.ended_at is None else "done",
            requested_at=expunge.requested_at,
            ended_at=expunge.ended_at,
            events=expunge.events,
            deliveries=expunge.deliveries,
        )
