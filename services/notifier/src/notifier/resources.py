"""The JSON of the API: subscriptions, and what all parts of it share."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

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
RetrySchedule = Annotated[
    tuple[Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)], ...],
    Field(
        max_length=20,
        description="Waits between attempts, in seconds, each varied by 20 %; with an empty list there is one attempt. "
        "The platform's if absent or null. Its bound on the age of a delivery holds beside it.",
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
    "retry_schedule": None,
    "paused": False,
    "enabled": True,
    "disabled_reason": None,
    "disabled_at": None,
    "failing_since": None,
    "resting_until": None,
    "created_at": "2026-11-23T13:00:00.123Z",
    "updated_at": "2026-11-23T13:00:00.123Z",
}


def example_of(example: Mapping[str, Any]) -> ConfigDict:
    """A frozen model with this example."""
    return ConfigDict(frozen=True, json_schema_extra={"example": dict(example)})


class Strict(BaseModel):
    """What a caller sends: an unknown field is a misunderstanding, and said so."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NewSubscription(Strict):
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
    retry_schedule: RetrySchedule | None = None


class SubscriptionChange(Strict):
    """The fields to change; null takes a filter or the description away."""

    model_config = ConfigDict(json_schema_extra={"example": {"event_types": None, "paused": False}})

    url: Url = ""
    event_types: EventTypes | None = None
    account_ids: AccountIds | None = None
    permission_set_ids: PermissionSetIds | None = None
    description: Description | None = None
    concurrency: Concurrency | None = None
    rate_limit: RateLimit | None = None
    retry_schedule: RetrySchedule | None = None
    paused: bool = Field(
        False,
        description="True holds everything back, however long; false sends it. Nothing is lost or counted as tried.",
    )
    enabled: bool = Field(True, description="False ends what is pending, and nothing is kept for it; see `recover`.")


class Recovery(Strict):
    """From when on to send again."""

    model_config = ConfigDict(json_schema_extra={"example": {"since": "2026-11-23T00:00:00Z"}})

    since: AwareDatetime = Field(description="Not longer ago than events are kept.")


class SubscriptionView(BaseModel):
    """A subscription, without its secret."""

    model_config = example_of(_SUBSCRIPTION)

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
    retry_schedule: list[float] | None = Field(description="Its own waits between attempts; null for the platform's.")
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
            retry_schedule=None if subscription.retry_schedule is None else list(subscription.retry_schedule),
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

    model_config = example_of({**_SUBSCRIPTION, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})

    secret: str = Field(description="Key of `webhook-signature` (Standard Webhooks). It can't be read again.")


class SubscriptionPage(BaseModel):
    """A page of subscriptions."""

    items: list[SubscriptionView]
    next_cursor: str | None


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
