"""What is said of a run that ended without a grant. Pure."""

from datetime import datetime

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.attempts import Attempt, Channel
from consent_gateway.errors import Kind
from shared.events import Actor, ConsentFailed


def failure_of(
    attempt: Attempt,
    *,
    catalog: Catalog,
    kind: Kind,
    stage: str,
    error_code: str | None,
    detail: str | None,
    tenant_id: str | None,
    now: datetime,
) -> ConsentFailed:
    """The event of the end; ``tenant_id`` is one that was proven, or None."""
    # What waited for an operator has been accepted already, and still is what failed.
    sets = attempt.remaining or attempt.permission_set_ids
    return ConsentFailed(
        account_id=attempt.account_id,
        tenant_id=tenant_id,
        permission_set_ids=sets,
        apps=catalog.apps_of(sets),
        attempt_id=attempt.id,
        stage=stage,
        reason=str(kind),
        error_code=error_code,
        detail=detail,
        resource_app_id=detail if kind is Kind.SERVICE_MISSING else None,
        versions={one: catalog.sets[one].version for one in sets if one in catalog.sets},
        channel=str(attempt.channel),
        requested_by=attempt.app_id,
        actor=actor_of(attempt),
        occurred_at=now,
    )


def actor_of(attempt: Attempt) -> Actor:
    """Who is behind a run: whoever followed it last, as far as it is known."""
    if attempt.invitation_id is not None and attempt.proven is not None:
        return Actor(kind="administrator", id=attempt.proven.object_id)
    if attempt.follower is not None:
        return Actor(kind="user", id=attempt.follower)
    if attempt.channel is Channel.APP:
        return Actor(kind="app", id=attempt.app_id or attempt.subject)
    return Actor(kind="user", id=attempt.subject)
