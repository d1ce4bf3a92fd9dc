"""The JSON of the API."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from notifier.deliveries import Attempt, DeadReason, Delivery, Status
from notifier.subscriptions import DisabledReason, Subscription
from shared.events import AccountId

EventType = Literal[
    "permission.status_changed",
    "tenant.updated",
    "tenant.removed",
    "consent.failed",
    "credential.expiring",
    "registration.status_changed",
    "endpoint.disabled",
    "test.ping",
]
PermissionSetIds = Annotated[
    frozenset[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]],
    Field(
        min_length=1,
        max_length=100,
        description="Only what is about these permission sets; about all if absent or null. Events about a tenant or "
        "an endpoint as a whole are sent either way.",
    ),
]
Concurrency = Annotated[
    int, Field(ge=1, le=100, description="Attempts at once at most; the platform's own bound holds beside it.")
]
RateLimit = Annotated[
    float,
    Field(
        ge=0.1,
        le=1000,
        allow_inf_nan=False,
        description="Attempts per second at most; more wait, and lose nothing by it.",
    ),
]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Description = Annotated[str, StringConstraints(max_length=500)]
EventTypes = Annotated[
    frozenset[EventType],
    Field(min_length=1, description="Which events to send; all that concern the owner where absent or null."),
]
AccountIds = Annotated[
    frozenset[AccountId],
    Field(min_length=1, max_length=1000, description="For an app: only of these accounts; of all if absent or null."),
]

_SUBSCRIPTION: dict[str, Any] = {
    "id": "5c0d1f0e-7a51-4c86-8f5e-3f4c7c9b2a10",
    "app_id": "identity-security",
    "account_id": None,
    "url": "https://hooks.identity-security.example/consent",
    "event_types": ["permission.status_changed", "tenant.removed"],
    "account_ids": None,
    "permission_set_ids": None,
    "description": "production",
    "concurrency": None,
    "rate_limit": 20.0,
    "paused": False,
    "enabled": True,
    "disabled_reason": None,
    "disabled_at": None,
    "failing_since": None,
    "resting_until": None,
    "created_at": "2026-11-23T13:00:00.123Z",
    "updated_at": "2026-11-23T13:00:00.123Z",
}
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
    "attempts": [_ATTEMPT],
}


def _example(example: Mapping[str, Any]) -> ConfigDict:
    return ConfigDict(frozen=True, json_schema_extra={"example": dict(example)})


class _Strict(BaseModel):
    """What a caller sends: an unknown field is a misunderstanding, and said so."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NewSubscription(_Strict):
    """A subscription to be made."""

    model_config = ConfigDict(
        json_schema_extra={"example": {name: _SUBSCRIPTION[name] for name in ("url", "event_types", "description")}}
    )

    url: Url = Field(description="Where to POST; https, on the public Internet.")
    event_types: EventTypes | None = None
    account_ids: AccountIds | None = None
    permission_set_ids: PermissionSetIds | None = None
    description: Description | None = None
    concurrency: Concurrency | None = None
    rate_limit: RateLimit | None = None


class SubscriptionChange(_Strict):
    """The fields to change; null takes a filter or the description away."""

    model_config = ConfigDict(json_schema_extra={"example": {"event_types": None, "paused": False}})

    url: Url = ""
    event_types: EventTypes | None = None
    account_ids: AccountIds | None = None
    permission_set_ids: PermissionSetIds | None = None
    description: Description | None = None
    concurrency: Concurrency | None = None
    rate_limit: RateLimit | None = None
    paused: bool = Field(
        False,
        description="True holds everything back, however long; false sends it. Nothing is lost or counted as tried.",
    )
    enabled: bool = Field(True, description="False ends what is pending, and nothing is kept for it; see `recover`.")


class Recovery(_Strict):
    """From when on to send again."""

    model_config = ConfigDict(json_schema_extra={"example": {"since": "2026-11-23T00:00:00Z"}})

    since: AwareDatetime = Field(description="Not longer ago than events are kept.")


class SubscriptionView(BaseModel):
    """A subscription, without its secret."""

    model_config = _example(_SUBSCRIPTION)

    id: str
    app_id: str | None = Field(description="The app it belongs to; null for an account's own.")
    account_id: str | None = Field(description="The account it belongs to; null for an app's.")
    url: str
    event_types: list[str] | None
    account_ids: list[str] | None
    permission_set_ids: list[str] | None
    description: str | None
    concurrency: int | None
    rate_limit: float | None
    paused: bool = Field(description="Whether deliveries are held back by the owner.")
    enabled: bool
    disabled_reason: DisabledReason | None
    disabled_at: AwareDatetime | None
    failing_since: AwareDatetime | None = Field(description="Since when attempts have only failed.")
    resting_until: AwareDatetime | None = Field(
        description="Nothing is sent before: it asked for that, or failed so often that it rests."
    )
    created_at: AwareDatetime
    updated_at: AwareDatetime

    @classmethod
    def of(cls, subscription: Subscription, **more: str) -> Self:
        """The view of a subscription."""
        return cls(
            id=subscription.id,
            app_id=subscription.owner.app_id,
            account_id=subscription.owner.account_id,
            url=subscription.url,
            event_types=_listed(subscription.event_types),
            account_ids=_listed(subscription.account_ids),
            permission_set_ids=_listed(subscription.permission_set_ids),
            concurrency=subscription.concurrency,
            rate_limit=subscription.rate_limit,
            paused=subscription.paused,
            description=subscription.description,
            enabled=subscription.enabled,
            disabled_reason=subscription.disabled_reason,
            disabled_at=subscription.disabled_at,
            failing_since=subscription.failing_since,
            resting_until=_to_come(subscription.rests_until()),
            created_at=subscription.created_at,
            updated_at=subscription.updated_at,
            **more,
        )


class SubscriptionWithSecret(SubscriptionView):
    """A subscription with its new secret, which is shown this once."""

    model_config = _example({**_SUBSCRIPTION, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})

    secret: str = Field(description="Key of `webhook-signature` (Standard Webhooks). It can't be read again.")


class SubscriptionPage(BaseModel):
    """A page of subscriptions."""

    items: list[SubscriptionView]
    next_cursor: str | None


class AttemptView(BaseModel):
    """One POST."""

    model_config = _example(_ATTEMPT)

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

    model_config = _example(_DELIVERY)

    id: str
    event_id: str = Field(description="The `webhook-id`.")
    type: str
    subscription_id: str
    status: Status
    reason: DeadReason | None = Field(description="Why it is dead.")
    created_at: AwareDatetime
    next_attempt_at: AwareDatetime | None
    ended_at: AwareDatetime | None
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
            "attempts": [AttemptView.of(attempt) for attempt in delivery.attempts],
        }
        return cls.model_validate({**fields, **more})


class DeliveryWithPayload(DeliveryView):
    """A delivery with what is sent; null once its event is no longer kept."""

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

    model_config = _example({"delivery_id": _DELIVERY["id"]})

    delivery_id: str


class RecoveryAccepted(BaseModel):
    """What is being sent again."""

    subscription_id: str
    since: AwareDatetime
    until: AwareDatetime


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    code: str
    detail: str


def _listed(values: frozenset[str] | None) -> list[str] | None:
    return None if values is None else sorted(values)


def _to_come(time: datetime | None) -> datetime | None:
    return time if time is not None and time > datetime.now(UTC) else None
