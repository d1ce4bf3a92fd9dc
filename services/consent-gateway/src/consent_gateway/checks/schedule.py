"""When a grant is checked again. Pure: ``spread``, from 0 to 1, is the caller's dice, so that due times drift apart."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from consent_gateway.grants.grants import Entra, Grant

# While a grant is `verifying`, seconds until it is asked for again; the last one repeats, see SLOWER.
VERIFY_DELAYS = (2, 5, 10, 20, 40, 60)
# After so many seconds of verifying, so many seconds between two tries.
SLOWER = ((600, 300), (3_600, 900))
FAILURE_DELAYS = (10, 30, 60, 120, 300, 600, 1_800, 3_600)
# A grant that stayed as it is gets one interval more for each day, up to so many.
MOST_INTERVALS = 6
JITTER = 0.2
NAME_PAUSE = 60.0
# After somebody said that it was removed, it is looked at for so long: at first so often, then at a tenth of the time
# that passed. Between two answers that it is gone there is the shorter pause, so that they are several here as well.
REMOVAL_WATCH = timedelta(minutes=10)
REMOVAL_PAUSE = 5.0
# What changes rarely and costs reads of its own (name, delegated permissions) is read once in so long.
FULL_EVERY = timedelta(hours=24)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How often is checked, and how much it takes to take something away."""

    interval_seconds: float
    negatives: int
    negatives_span_seconds: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The due times that follow from an answer that came ``now``."""

    now: datetime
    rules: Rules
    spread: float = 0.5

    def settled(self, grant: Grant) -> datetime:
        """After a definite answer: the longer nothing changes, the longer nobody asks."""
        unchanged = (self.now - grant.verified_at).days if grant.verified_at is not None else 0
        intervals = min(1 + max(unchanged, 0), MOST_INTERVALS)
        settled = self._in(self.rules.interval_seconds * intervals)
        if not removal_is_watched(grant, self.now):
            return settled
        return min(settled, self.now + timedelta(seconds=_removal_pause(grant, self.now)))

    def verifying(self, grant: Grant) -> datetime:
        """While what was accepted doesn't show yet: soon, then slower."""
        return self._in(_verify_delay(grant, self.now))

    def span(self, grant: Grant) -> float:
        """Seconds that must lie between the first negative and the one that is believed.

        That is how long Entra may show something that isn't so. Where a person says the same, a few answers will do.
        """
        return 0.0 if removal_is_watched(grant, self.now) else self.rules.negatives_span_seconds

    def confirming(self, grant: Grant) -> datetime:
        """After a negative that isn't believed yet: so that the needed number of them fills the span."""
        if removal_is_watched(grant, self.now):
            return self.now + timedelta(seconds=REMOVAL_PAUSE)
        pause = max(self.rules.negatives_span_seconds / max(self.rules.negatives - 1, 1), 1.0)
        return self.now + timedelta(seconds=pause * (1 + JITTER * self.spread))

    def failed(self, grant: Grant) -> datetime:
        """After a check that gave no answer; ``grant.health.failures`` counts it already."""
        pause = failure_pause(grant.health.failures)
        if removal_is_watched(grant, self.now):
            pause = min(pause, _removal_pause(grant, self.now) * 2)
        return self._in(min(pause, _verify_delay(grant, self.now)) if grant.entra is Entra.VERIFYING else pause)

    def _in(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds * (1 - JITTER + 2 * JITTER * self.spread))


def failure_pause(failures: int) -> float:
    """Seconds until it is tried again after so many failures in a row."""
    return float(FAILURE_DELAYS[min(max(failures, 1), len(FAILURE_DELAYS)) - 1])


def removal_watched_until(grant: Grant) -> datetime | None:
    """Until when the grant is looked at because somebody said that it was taken away in Entra, unless it is certain."""
    said_at = grant.health.removal_said_at
    return said_at + REMOVAL_WATCH if grant.live and said_at is not None and grant.accepted_at <= said_at else None


def removal_is_watched(grant: Grant, now: datetime) -> bool:
    """Whether that is so now."""
    until = removal_watched_until(grant)
    return until is not None and now < until


def _removal_pause(grant: Grant, now: datetime) -> float:
    said_at = grant.health.removal_said_at or now
    return max((now - said_at).total_seconds() / 10, REMOVAL_PAUSE)


def name_again(grant: Grant, now: datetime) -> datetime:
    """When a tenant without a name is asked for it again: the pause is as long as it went without one so far."""
    return now + timedelta(seconds=max((now - grant.accepted_at).total_seconds(), NAME_PAUSE))


def is_full_due(grant: Grant, now: datetime) -> bool:
    """Whether the check reads everything, or only what tells of a removal: the roles in the tokens."""
    health = grant.health
    calm = grant.entra is Entra.COMPLETE and health.negatives == 0 and health.failures == 0
    return not calm or health.full_at is None or now - health.full_at >= FULL_EVERY


def _verify_delay(grant: Grant, now: datetime) -> float:
    elapsed = (now - grant.accepted_at).total_seconds()
    for after, delay in reversed(SLOWER):
        if elapsed >= after:
            return float(delay)
    return float(VERIFY_DELAYS[min(max(grant.health.tries, 1), len(VERIFY_DELAYS)) - 1])
