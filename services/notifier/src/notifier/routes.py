"""The subscriptions API: parse, act for the caller's owner, render."""

from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from notifier.access import owner_of
from notifier.addresses import RefusedUrl
from notifier.clock import ServerClock
from notifier.delivery_resources import Accepted
from notifier.notifications import PLATFORM_TYPES
from notifier.pages import Page, page_of
from notifier.recovery import Recoveries
from notifier.resources import (
    NewSubscription,
    ProblemDetails,
    Recovery,
    RecoveryAccepted,
    SubscriptionChange,
    SubscriptionPage,
    SubscriptionView,
    SubscriptionWithSecret,
)
from notifier.subscribing import MAX_PER_OWNER, Conflict, Disabled, NotFound, Subscribing, TooMany
from notifier.subscriptions import Owner, Subscription
from shared.auth import Principal
from shared.cursors import position_of
from shared.problems import Problem, not_found

if TYPE_CHECKING:
    from collections.abc import Iterator

Caller = Callable[[Request], Awaitable[Principal]]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDetails, "content": {"application/problem+json": {}}, "description": text}
    for status, text in {
        401: "No valid access token",
        403: "The token's role doesn't allow it",
        404: "Not there, or somebody else's",
        409: "Not in the state it is in",
        422: "The request doesn't have the documented form, or names a URL that webhooks can't go to",
        503: "The database or the issuer's keys can't be reached",
    }.items()
}
SubscriptionId = Annotated[str, Path(max_length=100, description="Id of a subscription.")]


def owner_dependency(caller: Caller) -> Callable[..., Awaitable[Owner]]:
    """A FastAPI dependency: for whom the caller of a request acts."""

    async def owner(principal: Annotated[Principal, Depends(caller)]) -> Owner:
        return owner_of(principal)

    return owner


def router(
    subscribing: Subscribing,
    listed: Callable[..., Awaitable[list[Subscription]]],
    recoveries: Recoveries,
    caller: Caller,
    *,
    clock: ServerClock,
    events_kept: timedelta,
) -> APIRouter:
    """The routes under ``/v1/subscriptions``; ``caller`` names who asks, ``listed`` reads an owner's subscriptions."""
    routes = APIRouter(prefix="/v1/subscriptions", tags=["subscriptions"], responses=PROBLEMS)
    mine = Annotated[Owner, Depends(owner_dependency(caller))]

    @routes.post("", status_code=201)
    async def create_subscription(owner: mine, new: NewSubscription, response: Response) -> SubscriptionWithSecret:
        """Subscribe an endpoint. The answer holds the signing secret, which is not shown again."""
        _check_filters(owner, new.event_types, new.account_ids)
        with _as_problems():
            subscription, secret = await subscribing.create(owner, **dict(new))
        response.headers["Location"] = f"/v1/subscriptions/{subscription.id}"
        response.headers["Cache-Control"] = "no-store"
        return SubscriptionWithSecret.of(subscription, secret=secret)

    @routes.get("")
    async def list_subscriptions(owner: mine, page: Page) -> SubscriptionPage:
        """The owner's subscriptions."""
        rows = await listed(owner, after=position_of(page.cursor, str), limit=page.limit + 1)
        items, cursor = page_of(rows, page.limit, lambda subscription: subscription.id)
        return SubscriptionPage(items=[SubscriptionView.of(item) for item in items], next_cursor=cursor)

    @routes.get("/{subscription_id}")
    async def get_subscription(owner: mine, subscription_id: SubscriptionId) -> SubscriptionView:
        """One subscription."""
        with _as_problems():
            return SubscriptionView.of(await subscribing.get(owner, subscription_id))

    @routes.patch("/{subscription_id}")
    async def change_subscription(
        owner: mine, subscription_id: SubscriptionId, change: SubscriptionChange
    ) -> SubscriptionView:
        """Change the fields that are sent.

        `paused: true` holds deliveries back until it is false again. `enabled: false` ends them; `recover` sends them
        again, while `enabled: true` alone begins anew from now on.
        """
        _check_filters(owner, change.event_types, change.account_ids)
        changes = {name: getattr(change, name) for name in change.model_fields_set}
        with _as_problems():
            return SubscriptionView.of(await subscribing.change(owner, subscription_id, changes))

    @routes.delete("/{subscription_id}", status_code=204)
    async def delete_subscription(owner: mine, subscription_id: SubscriptionId) -> None:
        """Remove it; what is pending ends."""
        with _as_problems():
            await subscribing.delete(owner, subscription_id)

    @routes.post("/{subscription_id}/rotate-secret")
    async def rotate_secret(owner: mine, subscription_id: SubscriptionId, response: Response) -> SubscriptionWithSecret:
        """A new secret, shown this once. For a day (as configured) those before it sign as well."""
        with _as_problems():
            subscription, secret = await subscribing.rotate_secret(owner, subscription_id)
        response.headers["Cache-Control"] = "no-store"
        return SubscriptionWithSecret.of(subscription, secret=secret)

    @routes.post("/{subscription_id}/test", status_code=202)
    async def test_subscription(owner: mine, subscription_id: SubscriptionId) -> Accepted:
        """Send a `test.ping`, signed and retried like everything else; see the delivery for what came of it."""
        with _as_problems():
            return Accepted(delivery_id=await subscribing.test(owner, subscription_id))

    @routes.post("/{subscription_id}/recover", status_code=202)
    async def recover_subscription(
        owner: mine, subscription_id: SubscriptionId, recovery: Recovery
    ) -> RecoveryAccepted:
        """Enable it, and send what died, what came while it was disabled and what was before it existed, since then."""
        earliest = clock.now() - events_kept
        if recovery.since < earliest:
            raise Problem(
                422, "too_long_ago", f"Events are kept since {earliest.isoformat()}: give that time, or a later one."
            )
        with _as_problems():
            subscription = await subscribing.enable_since(owner, subscription_id, recovery.since)
        until = await recoveries.begin(subscription, since=recovery.since)
        return RecoveryAccepted(subscription_id=subscription.id, since=recovery.since, until=until)

    return routes


def _check_filters(owner: Owner, event_types: frozenset[str] | None, account_ids: frozenset[str] | None) -> None:
    if owner.account_id is None:
        return
    if account_ids is not None and account_ids != {owner.account_id}:
        raise Problem(
            422, "invalid_request", "An account's subscription hears of that account only: leave account_ids out."
        )
    for name in sorted(PLATFORM_TYPES & (event_types or frozenset())):
        raise Problem(422, "invalid_request", f"{name} concerns the platform; only apps can subscribe to it.")


@contextmanager
def _as_problems() -> "Iterator[None]":
    try:
        yield
    except NotFound:
        raise not_found("subscription") from None
    except RefusedUrl as error:
        raise Problem(422, "url_not_allowed", str(error)) from None
    except TooMany:
        detail = f"There are {MAX_PER_OWNER} subscriptions already. Delete one that is no longer used."
        raise Problem(409, "too_many_subscriptions", detail) from None
    except Disabled:
        detail = "The subscription is disabled. Enable it first, with PATCH or recover."
        raise Problem(409, "subscription_disabled", detail) from None
    except Conflict:
        raise Problem(409, "conflict", "The subscription was changed meanwhile. Try again.") from None
