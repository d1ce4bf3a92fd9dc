"""The database's clock. Leases compare times that different processes wrote, so none of them uses its own."""

from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.mongo import Database


class ServerClock:
    """This process's time, corrected by what the database's primary said last; it is only ever off by a round trip."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        # A step of this machine's clock, by NTP or by hand, must not move leases until the primary is asked again.
        self._asked = monotonic()
        self._told = datetime.now(UTC)

    def now(self) -> datetime:
        """The time at the database, aware UTC, to the millisecond that MongoDB keeps: what is read back is equal."""
        now = self._told + timedelta(seconds=monotonic() - self._asked)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    async def synchronize(self) -> None:
        """Ask the primary for its time."""
        asked = monotonic()
        answer: dict[str, Any] = await self._database.command("hello")
        told: datetime = answer["localTime"]
        self._asked = (asked + monotonic()) / 2
        self._told = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
