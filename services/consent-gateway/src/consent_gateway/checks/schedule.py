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
        return self._in(self.rules.interval_seconds * intervals)

    def verifying(self, grant: Grant) -> datetime:
        """While what was accepted doesn't show yet: soon, then slower."""
        return self._in(_verify_delay(grant, self.now))

    def confirming(self) -> datetime:
        """After a negative that isn't believed yet: so that the needed number of them fills the span."""
        pause = max(self.rules.negatives_span_seconds / max(self.rules.negatives - 1, 1), 1.0)
        return self.now + timedelta(seconds=pause * (1 + JITTER * self.spread))

    def failed(self, grant: Grant) -> datetime:
        """After a check that gave no answer; ``grant.health.failures`` counts it already."""
        pause = failure_pause(grant.health.failures)
        return self._in(min(pause, _verify_delay(grant, self.now)) if grant.entra is Entra.VERIFYING else pause)

    def _in(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds * (1 - JITTER + 2 * JITTER * self.spread))


def failure_pause(failures: int) -> float:
    """Seconds until it is tried again after so many failures in a row."""
    return float(FAILURE_DELAYS[min(max(failures, 1), len(FAILURE_DELAYS)) - 1])


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
