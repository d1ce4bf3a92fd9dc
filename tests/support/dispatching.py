"""A dispatcher whose store and endpoints take no part: what it does with jobs is all that there is to see."""

from datetime import UTC, datetime
from typing import Any, Protocol, cast

from pydantic import SecretStr

from notifier.attempts import Attempts, Poster
from notifier.clock import ServerClock
from notifier.deliveries import Result
from notifier.dispatcher import Dispatcher
from notifier.endpoints import Endpoints
from notifier.lanes import Lanes
from notifier.recorder import Recorder
from notifier.secrets import SecretBox
from notifier.settings import DeliverySettings, key_bytes
from support.notifying import SECRETS_KEY


class Clock:
    """The time of this process."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class Unconcerned:
    """Endpoints of which no attempt tells anything."""

    def concerned(self, *_: object) -> bool:
        return False


class Records(Protocol):
    """Takes results, as the recorder does."""

    failing: None

    def put(self, result: Result) -> None: ...


def dispatching(poster: Poster, records: Records, **changes: Any) -> tuple[Dispatcher, Lanes]:
    """The dispatcher and its lanes; ``changes`` are settings of deliveries."""
    settings = DeliverySettings.model_validate({"secrets_key": SECRETS_KEY, **changes})
    lanes = Lanes(limit=settings.endpoint_concurrency, capacity=settings.endpoint_queue)
    clock = cast("ServerClock", Clock())
    box = SecretBox([key_bytes(SecretStr(SECRETS_KEY))])
    dispatcher = Dispatcher(
        attempts=Attempts(poster=poster, box=box, clock=clock, settings=settings),
        recorder=cast("Recorder", records),
        endpoints=cast("Endpoints", Unconcerned()),
        lanes=lanes,
        clock=clock,
        settings=settings,
    )
    return dispatcher, lanes
