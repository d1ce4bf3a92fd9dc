"""A notifier that is killed at a named moment: ``notifier_that_crashes.py WINDOW TOPIC PARTITIONS GROUP``.

The process sends itself SIGKILL, as a power cut would, the first time it comes to that moment. Nothing of this is in
the service: its adapters are wrapped from outside.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from notifier.app import create_app
from notifier.delivery_store import DeliveryStore
from notifier.expunging import Expunging
from notifier.recovery import Recoveries
from notifier.sender import Sender
from notifier.settings import Settings
from notifier.store import EventStore
from notifier.subscription_store import SubscriptionStore
from shared import logs, web
from shared.settings import load
from shared.topics import PERMISSION_STATUS

Method = Callable[..., Awaitable[Any]]


def die() -> None:
    """End here and now."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(kind: type, name: str) -> None:
    """Die when the method is called."""

    async def dying(*_: Any, **__: Any) -> None:
        die()

    setattr(kind, name, dying)


def after(kind: type, name: str, *, calls: int = 1) -> None:
    """Die when the method has done its work so many times."""
    original: Method = getattr(kind, name)
    left = calls

    async def dying(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        result = await original(self, *arguments, **options)
        left -= 1
        if left == 0:
            die()
        return result

    setattr(kind, name, dying)


def deliveries_without_events() -> None:
    """Die when the deliveries are stored and their events are not."""
    stored = asyncio.Event()
    insert: Method = DeliveryStore.insert

    async def inserting(self: Any, *arguments: Any, **options: Any) -> Any:
        result = await insert(self, *arguments, **options)
        stored.set()
        return result

    async def adding(*_: Any) -> None:
        await stored.wait()
        die()

    DeliveryStore.insert = inserting  # type: ignore[method-assign]
    EventStore.add = adding  # type: ignore[method-assign,assignment]


WINDOWS: dict[str, Callable[[], None]] = {
    "before anything is stored": lambda: before(EventStore, "add"),
    "after the events, before the deliveries": lambda: before(DeliveryStore, "insert"),
    "after the deliveries, before the events": deliveries_without_events,
    "before the POST": lambda: before(Sender, "post"),
    "after the 2xx, before it is recorded": lambda: after(Sender, "post"),
    "in the middle of the POSTs": lambda: after(Sender, "post", calls=7),
    "after it is recorded": lambda: after(DeliveryStore, "record"),
    "after the rows, before the position": lambda: before(EventStore, "save_positions"),
    "after the position is written": lambda: after(EventStore, "save_positions"),
}
# Moments that come only when an endpoint fails first, or is gone.
LATER_WINDOWS: dict[str, Callable[[], None]] = {
    "while rows are claimed": lambda: after(DeliveryStore, "claim"),
    "after it is disabled, before its owner is told": lambda: after(SubscriptionStore, "disable"),
    "after its owner is told, before what is pending ends": lambda: before(DeliveryStore, "end_all"),
    "after what is pending has ended, before that is noted": lambda: before(SubscriptionStore, "told"),
}
# Moments that come only when an owner asks for something, or the process is told to stop.
RECOVERY_WINDOWS: dict[str, Callable[[], None]] = {
    "after it is enabled, before the recovery is noted": lambda: before(Recoveries, "begin"),
    "after the recovery is noted": lambda: after(Recoveries, "begin"),
    "in a recovery, before the dead are revived": lambda: before(DeliveryStore, "revive"),
    "in a recovery, after the dead are revived": lambda: after(DeliveryStore, "revive"),
    "in a recovery, before its second look": lambda: before(Recoveries, "_come_back"),
}
ERASING_WINDOWS: dict[str, Callable[[], None]] = {
    "after the erasing is noted": lambda: after(Expunging, "_begin"),
    "after the deliveries are emptied, before the events": lambda: before(EventStore, "erase"),
    "before the erasing's second look": lambda: before(Expunging, "_come_back"),
}
ASKED_WINDOWS: dict[str, Callable[[], None]] = {
    "before claims are given up": lambda: before(DeliveryStore, "release"),
    "after claims are given up": lambda: after(DeliveryStore, "release"),
    "before secrets are replaced": lambda: before(SubscriptionStore, "replace_secrets"),
    "after secrets are replaced": lambda: after(SubscriptionStore, "replace_secrets"),
    "after its owner has disabled it, before what is pending ends": lambda: after(SubscriptionStore, "change"),
    "after it is deleted, before what is pending ends": lambda: after(SubscriptionStore, "delete"),
}


def main() -> None:
    """Serve until the moment comes."""
    window, topic, partitions, group = sys.argv[1:]
    (WINDOWS | LATER_WINDOWS | RECOVERY_WINDOWS | ERASING_WINDOWS | ASKED_WINDOWS)[window]()
    settings = load(Settings)
    logs.configure(settings.log, service="notifier")
    topics = replace(PERMISSION_STATUS, name=topic, partitions=int(partitions))
    web.serve(create_app(settings, topic=topics, group=group), settings.http)


if __name__ == "__main__":
    main()
