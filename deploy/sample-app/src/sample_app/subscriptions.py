"""Keeps one app subscribed: finds its subscription or makes it, and comes back when it was lost."""

import asyncio
import logging
import random
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from sample_app.platform_client import Notifier, PlatformError, Subscription
from sample_app.store import StoreThread

_logger = logging.getLogger(__name__)
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0
# Before the last push that arrived there may be others that were still being retried; what comes twice is dropped.
_LOOK_BACK = timedelta(days=5)


class Subscriber:
    """One app's subscription to ``webhook_url``, looked after for as long as the process lives.

    Args:
        app_id: whose subscription it is.
        webhook_url: the URL that identifies it among the app's subscriptions.
        check_seconds: how often it is looked at when all is well.
        announce: called when ``status`` changed.
    """

    def __init__(
        self,
        notifier: Notifier,
        store: StoreThread,
        *,
        app_id: str,
        webhook_url: str,
        check_seconds: float,
        announce: Callable[[], None],
    ) -> None:
        self.app_id = app_id
        self.subscription_id: str | None = None
        self.status = "not subscribed yet"
        self.ready = False
        self._notifier = notifier
        self._store = store
        self._webhook_url = webhook_url
        self._check_seconds = check_seconds
        self._announce = announce
        self._poked = asyncio.Event()
        self._started = False

    async def run(self) -> None:
        """Subscribe, and look again from time to time; trouble is retried for ever, ever more slowly."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._ensure()
                pause, wait = _FIRST_PAUSE, self._check_seconds
            except (PlatformError, sqlite3.Error) as error:
                # What was subscribed stays so while the notifier is away: the endpoint must go on answering.
                self._report(str(error), ready=self.ready)
                wait = pause * random.uniform(0.8, 1.2)  # noqa: S311 (spreads load, guards nothing)
                pause = min(pause * 2, _LONGEST_PAUSE)
            await self._sleep(wait)

    async def resume(self) -> None:
        """Enable the endpoint again and have what failed meanwhile sent once more."""
        await self._with_own(self._recover)

    async def rotate(self) -> None:
        """Replace the secret; pushes that are on their way keep verifying with the old one."""
        await self._with_own(self._rotate)

    async def ping(self) -> None:
        """Have the notifier send a ``test.ping``."""
        await self._with_own(self._notifier.test)

    async def _ensure(self) -> None:
        own = [item for item in await self._notifier.subscriptions() if item.url == self._webhook_url]
        kept = await self._the_one_to_keep(own)
        # Two subscriptions of one URL would send everything twice, half of it signed by a secret that nobody knows.
        for extra in own:
            if extra.id != kept.id:
                await self._notifier.delete(extra.id)
        if not await self._knows_secret_of(kept):
            await self._rotate(kept.id)
        self.subscription_id = kept.id
        if not kept.enabled and not self._started:
            await self._recover(kept.id)
            kept = kept.model_copy(update={"enabled": True})
        self._started = True
        self._report("subscribed" if kept.enabled else "disabled by the notifier", ready=kept.enabled)

    async def _the_one_to_keep(self, own: list[Subscription]) -> Subscription:
        for subscription in own:
            if await self._knows_secret_of(subscription):
                return subscription
        if own:
            return own[0]
        made = await self._notifier.create(url=self._webhook_url, description=f"sample app for {self.app_id}")
        await self._keep_secret(made.id, made.secret)
        return made

    async def _knows_secret_of(self, subscription: Subscription) -> bool:
        return await self._store.run(
            lambda store: store.has_secret(app_id=self.app_id, subscription_id=subscription.id)
        )

    async def _rotate(self, subscription_id: str) -> None:
        """Get a new secret. If the process dies before it is stored, the next start rotates again."""
        await self._keep_secret(subscription_id, await self._notifier.rotate_secret(subscription_id))
        _logger.info("secret rotated", extra={"fields": {"app_id": self.app_id, "subscription_id": subscription_id}})

    async def _keep_secret(self, subscription_id: str, secret: str | None) -> None:
        if not secret:
            raise PlatformError("the notifier made a subscription without a secret")
        await self._store.run(
            lambda store: store.keep_secret(app_id=self.app_id, subscription_id=subscription_id, secret=secret)
        )

    async def _recover(self, subscription_id: str) -> None:
        last = await self._store.run(lambda store: store.last_accepted_at(self.app_id))
        now = datetime.now(UTC)
        try:
            await self._notifier.recover(subscription_id, since=(last or now) - _LOOK_BACK)
        except PlatformError as error:
            if error.status != 422:
                raise
            # Away for longer than events are kept: from here on it is told again, the rest stands in the registry.
            await self._notifier.recover(subscription_id, since=now)

    async def _with_own(self, action: Callable[[str], Awaitable[None]]) -> None:
        if self.subscription_id is None:
            raise PlatformError("there is no subscription yet")
        await action(self.subscription_id)
        self._poked.set()

    def _report(self, status: str, *, ready: bool) -> None:
        if (status, ready) != (self.status, self.ready):
            self.status, self.ready = status, ready
            fields = {"app_id": self.app_id, "subscription_id": self.subscription_id, "status": status}
            _logger.log(logging.INFO if ready else logging.WARNING, "subscription", extra={"fields": fields})
            self._announce()

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._poked.wait(), seconds)
        except TimeoutError:
            return
        self._poked.clear()
