"""What owners do with their subscriptions. Every method acts for one owner; what belongs to others looks absent."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import structlog

from notifier.clock import ServerClock
from notifier.delivery_store import DeliveryStore
from notifier.notifications import ping
from notifier.secrets import SecretBox
from notifier.signing import new_secret
from notifier.subscribers import Intake
from notifier.subscription_store import SubscriptionStore
from notifier.subscriptions import Owner, StoredSecret, Subscription

log = structlog.get_logger(__name__)

MAX_PER_OWNER = 100
MAX_LIVE_SECRETS = 5


class NotFound(LookupError):
    """There is no such subscription of this owner."""


class TooMany(Exception):
    """The owner has as many subscriptions as one may have."""


class Disabled(Exception):
    """Nothing is sent to a disabled subscription."""


class Conflict(Exception):
    """The subscription is being changed by somebody else at this moment."""


class Subscribing:
    """The use cases.

    ``check_url`` raises ``RefusedUrl`` for what can't be an endpoint of the ``owner``; ``changed`` is told of every new
    state, None for a subscription that is gone.
    """

    def __init__(
        self,
        *,
        subscriptions: SubscriptionStore,
        deliveries: DeliveryStore,
        intake: Intake,
        box: SecretBox,
        clock: ServerClock,
        check_url: Callable[..., Awaitable[None]],
        changed: Callable[[str, Subscription | None], None],
        secret_overlap: timedelta,
    ) -> None:
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._intake = intake
        self._box = box
        self._clock = clock
        self._check_url = check_url
        self._changed = changed
        self._secret_overlap = secret_overlap

    async def create(self, owner: Owner, *, url: str, **fields: Any) -> tuple[Subscription, str]:  # noqa: ANN401
        """A new subscription, with further fields of ``Subscription``, and its secret, which nobody can read again.

        It hears what happens from now on; ``recover`` brings it what was before.

        Raises:
            TooMany: the owner has enough of them.
            RefusedUrl: webhooks can't go there.
        """
        if len(await self._subscriptions.list_of(owner, after=None, limit=MAX_PER_OWNER)) >= MAX_PER_OWNER:
            raise TooMany
        await self._check_url(url, owner=owner.key)
        subscription_id, secret, now = str(uuid4()), new_secret(), self._clock.now()
        subscription = Subscription(
            id=subscription_id,
            owner=owner,
            url=url,
            secrets=(self._sealed(secret, subscription_id, now),),
            created_at=now,
            updated_at=now,
            hears_from=now,
            **fields,
        )
        await self._subscriptions.add(subscription)
        log.info("subscription.created", subscription_id=subscription_id, app_id=owner.app_id, account=owner.account_id)
        return subscription, secret

    async def get(self, owner: Owner, subscription_id: str) -> Subscription:
        """The owner's subscription.

        Raises:
            NotFound: there is none.
        """
        subscription = await self._subscriptions.get(subscription_id, owner)
        if subscription is None:
            raise NotFound
        return subscription

    async def change(self, owner: Owner, subscription_id: str, changes: Mapping[str, Any]) -> Subscription:
        """Set the fields given. Disabling ends what is pending; enabling hears what happens from then on.

        Raises:
            NotFound: there is no such subscription.
            RefusedUrl: webhooks can't go to the new URL.
        """
        fields: dict[str, Any] = {
            name: sorted(value) if isinstance(value, frozenset) else value for name, value in changes.items()
        }
        now = self._clock.now()
        if "url" in fields:
            await self.get(owner, subscription_id)
            await self._check_url(fields["url"], owner=owner.key)
        if fields.get("enabled") is True:
            fields |= {"disabled_reason": None, "disabled_at": None, "hears_from": now}
        if fields.get("enabled") is False:
            fields |= {"disabled_reason": "by_owner", "disabled_at": now}
        # A new address has a history of its own.
        anew = "url" in fields or fields.get("enabled") is True
        changed = await self._subscriptions.change(subscription_id, owner, fields, now=now, anew=anew)
        if changed is None:
            raise NotFound
        self._changed(subscription_id, changed)
        if not changed.enabled:
            await self._deliveries.end_all(subscription_id, reason="subscription_disabled", before=now, now=now)
        return changed

    async def enable_since(self, owner: Owner, subscription_id: str, since: datetime) -> Subscription:
        """Enable it, for what happens from now on and for what has happened since that time.

        Raises:
            NotFound: there is no such subscription.
        """
        fields = {"enabled": True, "paused": False, "disabled_reason": None, "disabled_at": None}
        changed = await self._subscriptions.change(
            subscription_id, owner, fields, now=self._clock.now(), anew=True, hears_from=since
        )
        if changed is None:
            raise NotFound
        self._changed(subscription_id, changed)
        return changed

    async def delete(self, owner: Owner, subscription_id: str) -> None:
        """Remove it; what is pending ends.

        Raises:
            NotFound: there is no such subscription.
        """
        if not await self._subscriptions.delete(subscription_id, owner):
            raise NotFound
        self._changed(subscription_id, None)
        now = self._clock.now()
        ended = await self._deliveries.end_all(subscription_id, reason="subscription_deleted", before=now, now=now)
        log.info("subscription.deleted", subscription_id=subscription_id, deliveries_ended=ended)

    async def rotate_secret(self, owner: Owner, subscription_id: str) -> tuple[Subscription, str]:
        """A new secret. For a while those before it sign as well, so that receivers can change over in their own time.

        Raises:
            NotFound: there is no such subscription.
            Conflict: somebody else changes it at this moment.
        """
        subscription = await self.get(owner, subscription_id)
        secret, now = new_secret(), self._clock.now()
        ends = now + self._secret_overlap
        old = [
            StoredSecret(sealed=s.sealed, created_at=s.created_at, expires_at=min(s.expires_at or ends, ends))
            for s in subscription.live_secrets(now)
        ]
        fresh = self._sealed(secret, subscription_id, now)
        if not await self._subscriptions.replace_secrets(subscription, [fresh, *old][:MAX_LIVE_SECRETS], now):
            raise Conflict
        log.info("subscription.secret_rotated", subscription_id=subscription_id)
        changed = await self.get(owner, subscription_id)
        self._changed(subscription_id, changed)
        return changed, secret

    async def test(self, owner: Owner, subscription_id: str) -> str:
        """Deliver a ``test.ping``, on the way that everything takes; the delivery's id.

        Raises:
            NotFound: there is no such subscription.
            Disabled: it is disabled.
        """
        subscription = await self.get(owner, subscription_id)
        if not subscription.enabled:
            raise Disabled
        notice = ping(
            notice_id=str(uuid4()),
            at=self._clock.now(),
            subscription_id=subscription.id,
            app_id=owner.app_id,
            account_id=owner.account_id,
        )
        return await self._intake.deliver_to(notice, subscription)

    def _sealed(self, secret: str, subscription_id: str, now: datetime) -> StoredSecret:
        return StoredSecret(sealed=self._box.seal(secret, subscription_id=subscription_id), created_at=now)
