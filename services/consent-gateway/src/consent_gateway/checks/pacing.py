"""How fast this process asks Entra: a token bucket whose rate gives way when Entra is too busy, and comes back."""

from collections.abc import Callable

# The rate is looked at again after so many seconds.
WINDOW_SECONDS = 10.0
# From this share of answers on it is Entra that is busy, not one tenant.
TOO_MANY = 0.2
LEAST_ANSWERS = 20
SLOWER, FASTER = 0.5, 1.25
LEAST_PER_SECOND = 1.0


class Pace:
    """``take`` before asking, ``note`` what came of it. A burst is at most what a second allows."""

    def __init__(self, per_second: float, *, monotonic: Callable[[], float]) -> None:
        self._most = per_second
        self._monotonic = monotonic
        self.per_second = per_second
        self._tokens = per_second
        self._filled_at = self._window_at = monotonic()
        self._answers = self._busy = 0

    def take(self, wanted: int) -> int:
        """How many of the wanted checks may be made now; they are taken."""
        self._fill()
        allowed = min(wanted, int(self._tokens))
        self._tokens -= allowed
        return max(allowed, 0)

    def give_back(self, count: int) -> None:
        """What was taken and not needed."""
        self._tokens += count

    def seconds(self) -> float:
        """Until the next check may be made."""
        self._fill()
        return max((1 - self._tokens) / self.per_second, 0.0)

    def note(self, *, busy: bool) -> None:
        """An answer; ``busy`` says that Entra throttled, failed or was out of reach."""
        self._answers += 1
        self._busy += busy
        now = self._monotonic()
        if now - self._window_at < WINDOW_SECONDS:
            return
        if self._answers >= LEAST_ANSWERS and self._busy / self._answers >= TOO_MANY:
            self.per_second = max(self.per_second * SLOWER, min(LEAST_PER_SECOND, self._most))
        elif self._busy / self._answers < TOO_MANY:
            self.per_second = min(self.per_second * FASTER, self._most)
        self._answers = self._busy = 0
        self._window_at = now

    def _fill(self) -> None:
        now = self._monotonic()
        self._tokens = min(self._tokens + (now - self._filled_at) * self.per_second, max(self.per_second, 1.0))
        self._filled_at = now
