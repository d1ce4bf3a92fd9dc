"""Every setting of the notifier."""

import base64
import binascii
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, IPvAnyNetwork, SecretStr, ValidationInfo, field_validator

from shared.settings import ServiceSettings

# Standard Webhooks, "Deliverability and reliability": at once, then after 5 s, 5 min, 30 min, 2, 5, 10, 14, 20, 24 h.
STANDARD_WEBHOOKS_SCHEDULE = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
DAY = 24 * 3600.0
# What a lease must leave, after the longest attempt, to write the result down.
RECORDING_SECONDS = 5.0


def key_bytes(key: SecretStr) -> bytes:
    """The 32 bytes of a key in URL-safe base64, padded or not.

    Raises:
        ValueError: it isn't one.
    """
    text = key.get_secret_value().rstrip("=")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError("must be 32 bytes in URL-safe base64")
    return raw


def _checked(key: SecretStr) -> SecretStr:
    key_bytes(key)
    return key


Key = Annotated[SecretStr, AfterValidator(_checked)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DeliverySettings(BaseModel):
    """How webhooks are sent."""

    secrets_key: Key = Field(
        description="Encrypts the subscriptions' signing secrets at rest: 32 random bytes in URL-safe base64."
    )
    previous_secrets_keys: tuple[Key, ...] = Field(
        (), description="JSON list of earlier values of the key above, which can still decrypt."
    )
    retry_schedule: tuple[Seconds, ...] = Field(
        STANDARD_WEBHOOKS_SCHEDULE,
        description="JSON list of the waits between attempts, in seconds; each is varied by 20 % either way.",
    )
    max_age_seconds: float = Field(
        5 * DAY, gt=0, description="A delivery that has not succeeded after this long is dead, whatever the schedule."
    )
    retry_after_max_seconds: float = Field(
        3600, gt=0, description="The longest wait that an endpoint can ask for with Retry-After."
    )
    disable_after_seconds: float = Field(
        5 * DAY, gt=0, description="An endpoint that has only failed for this long is disabled, and its owner told."
    )
    breaker_failures: int = Field(
        10, ge=1, description="So many failed attempts in a row, and nothing is sent to an endpoint for a while."
    )
    breaker_seconds: float = Field(
        5, gt=0, description="For how long at first; doubled each time that the one attempt made then fails as well."
    )
    breaker_max_seconds: float = Field(300, gt=0, description="For how long at most.")
    allow_private_networks: bool = Field(
        False,
        description="Also send to plain http, to any port, and to private and loopback addresses. For development and "
        "for closed networks; it switches the protection against server-side request forgery off.",
    )
    ports: tuple[int, ...] = Field(
        (443, 8443), description="JSON list of the ports that a URL may name; any, where private networks are allowed."
    )
    refused_networks: tuple[IPvAnyNetwork, ...] = Field(
        (),
        description="JSON list of networks that no webhook may go to besides all those that aren't public: the "
        "operator's own public ranges, or a NAT64 prefix of its own.",
    )
    proxy_url: SecretStr | None = Field(
        None,
        description="HTTP proxy that every webhook goes through, as http://USER:PASSWORD@HOST:3128. The proxy then "
        "dials, so it is the proxy that has to refuse what isn't public; proxies of the environment are never used.",
    )
    ca_bundle: str | None = Field(None, description="PEM file of CAs to trust for endpoints, beside the system's.")
    concurrency: int = Field(64, ge=1, description="Attempts that run at once; one that takes long stops counting.")
    endpoint_concurrency: int = Field(16, ge=1, description="Attempts that run at once to one endpoint.")
    endpoint_queue: int = Field(500, ge=1, description="Deliveries of one endpoint held in memory; more wait in Mongo.")
    connect_timeout_seconds: float = Field(5, gt=0, description="To connect, name resolution and TLS included.")
    response_timeout_seconds: float = Field(10, gt=0, description="The longest silence of an endpoint once connected.")
    total_timeout_seconds: float = Field(15, gt=0, description="From the start of an attempt to the end of the answer.")
    lease_seconds: float = Field(
        45, gt=0, description="How long a process may hold a delivery; after a crash others wait this long."
    )
    response_body_bytes: int = Field(
        16_384, ge=0, le=65_536, description="How much of an endpoint's answer is read and kept with the attempt."
    )
    secret_overlap_seconds: float = Field(
        DAY, ge=0, description="How long a rotated secret still signs beside the new one."
    )

    @field_validator("proxy_url")
    @classmethod
    def _is_a_proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                parts = urlsplit(value.get_secret_value())
                good = parts.scheme == "http" and parts.hostname and parts.path in {"", "/"} and parts.port != 0
            except ValueError:
                good = False
            if not good:
                # It may hold a password, so it isn't repeated.
                raise ValueError("must be like http://HOST:3128 or http://USER:PASSWORD@HOST:3128")
        return value

    @field_validator("lease_seconds")
    @classmethod
    def _outlasts_an_attempt(cls, lease: float, info: ValidationInfo) -> float:
        """A lease shorter than the work it covers sends everything slow twice."""
        needed = info.data.get("total_timeout_seconds", 0.0) + RECORDING_SECONDS
        if lease < needed:
            raise ValueError(f"must be at least DELIVERY__TOTAL_TIMEOUT_SECONDS + {RECORDING_SECONDS:g}")
        return lease


class RetentionSettings(BaseModel):
    """How long things are kept."""

    events_seconds: float = Field(
        30 * DAY, gt=0, description="Events: how far back a stream resumes and a subscription recovers."
    )
    deliveries_seconds: float = Field(
        30 * DAY, gt=0, description="Deliveries with their attempts, from the moment they succeeded or died."
    )
    attempts: int = Field(20, ge=1, le=100, description="Attempts kept of each delivery, the latest ones.")


class StreamSettings(BaseModel):
    """Server-sent events."""

    heartbeat_seconds: float = Field(15, gt=0, description="Silence after which a comment is sent.")
    connections_per_owner: int = Field(200, ge=1, description="Open streams of one app or account on this process.")
    queue: int = Field(
        256, ge=1, description="Changes held in memory for a slow reader; beyond that it is served from Mongo."
    )


class Settings(ServiceSettings):
    """The environment of the notifier."""

    delivery: DeliverySettings
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    stream: StreamSettings = Field(default_factory=StreamSettings)

    @field_validator("retention")
    @classmethod
    def _events_outlive_deliveries(cls, retention: RetentionSettings, info: ValidationInfo) -> RetentionSettings:
        """A body is rendered from its event for as long as the delivery may be tried."""
        delivery = info.data.get("delivery")
        if isinstance(delivery, DeliverySettings) and retention.events_seconds <= delivery.max_age_seconds:
            raise ValueError("RETENTION__EVENTS_SECONDS must be more than DELIVERY__MAX_AGE_SECONDS")
        if retention.deliveries_seconds < retention.events_seconds:
            # Of an event without its delivery nobody knows that it arrived: recover would send it again.
            raise ValueError("RETENTION__DELIVERIES_SECONDS must not be less than RETENTION__EVENTS_SECONDS")
        return retention
