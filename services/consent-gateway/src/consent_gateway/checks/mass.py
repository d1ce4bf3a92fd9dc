"""Too many to be true: so many tenants that seem to leave one client registration at once that it can't be their doing.

What the checks of all replicas see counts together: a fault of ours that each of them meets with a few tenants only is
a fault of ours all the same. Counted are tenants: those with a first definite negative, and those with any answer.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from consent_gateway.checks.checks import Judgement, Outcome

WINDOW = timedelta(minutes=10)
# How old a replica's count of checked tenants is at most, as the others see it.
TELL_EVERY = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class MassRules:
    """When removals are too many to be believed: so many tenants, and such a share of those that answered."""

    tenants: int
    share: float


class Tallies(Protocol):
    """What the replicas counted, as all of them see it."""

    async def leaves(self, client_id: str, tenant_id: str, *, at: datetime) -> None:
        """Note that a tenant seems to leave."""
        raise NotImplementedError

    async def tell(self, client_id: str, *, replica: str, tenants: int, at: datetime) -> None:
        """Say how many tenants this replica has checked of late."""
        raise NotImplementedError

    async def counted(self, client_id: str, *, replica: str, since: datetime) -> tuple[int, int]:
        """How many tenants seem to have left since then, and how many the other replicas have checked."""
        raise NotImplementedError


class MassGuard:
    """Counts what this replica's checks see, and holds all replicas' counts against the rules."""

    def __init__(self, tallies: Tallies, rules: MassRules, *, replica: str, clock: Callable[[], datetime]) -> None:
        self._tallies = tallies
        self._rules = rules
        self._replica = replica
        self._clock = clock
        self._checked: dict[str, _Checked] = {}
        self._told: dict[str, tuple[datetime, int]] = {}

    async def too_many(self, client_id: str, judged: Sequence[Judgement]) -> bool:
        """Count these judgements, and tell whether what they take away is too much; False where that is nothing.

        Raises:
            PyMongoError: the counts of all replicas can't be had.
        """
        now = self._clock()
        # A tenant's second and third negative are no further tenants.
        first = [one for one in judged if _is_an_answer(one) and not one.before.health.negatives]
        checked = self._checked.setdefault(client_id, _Checked())
        for one in first:
            checked.add(one.before.tenant_id, now)
        checked.forget(now - WINDOW)
        leaving = {one.before.tenant_id for one in first if one.takes_away}
        for tenant_id in leaving:
            await self._tallies.leaves(client_id, tenant_id, at=now)
        if leaving:
            # With a share of something: others must not see who leaves before they see of how many.
            await self._tell(client_id, len(checked), now)
        if not any(one.takes_away for one in judged):
            return False
        gone, elsewhere = await self._tallies.counted(client_id, replica=self._replica, since=now - WINDOW)
        share = gone / max(len(checked) + elsewhere, 1)
        return gone >= self._rules.tenants and share >= self._rules.share

    async def tell(self) -> None:
        """Say how many tenants were checked here, where that has changed, and not each time.

        Raises:
            PyMongoError: it can't be said just now.
        """
        now = self._clock()
        for client_id, checked in self._checked.items():
            checked.forget(now - WINDOW)
            at, tenants = self._told.get(client_id, (now - TELL_EVERY, 0))
            if tenants != len(checked) and now - at >= TELL_EVERY:
                await self._tell(client_id, len(checked), now)

    async def _tell(self, client_id: str, tenants: int, now: datetime) -> None:
        await self._tallies.tell(client_id, replica=self._replica, tenants=tenants, at=now)
        self._told[client_id] = (now, tenants)


class _Checked:
    """The tenants that were checked within the window; each counts once."""

    def __init__(self) -> None:
        self._checks: deque[tuple[datetime, str]] = deque()
        self._times: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._times)

    def add(self, tenant_id: str, at: datetime) -> None:
        self._checks.append((at, tenant_id))
        self._times[tenant_id] += 1

    def forget(self, before: datetime) -> None:
        while self._checks and self._checks[0][0] < before:
            _, tenant_id = self._checks.popleft()
            self._times[tenant_id] -= 1
            if not self._times[tenant_id]:
                del self._times[tenant_id]


def _is_an_answer(judged: Judgement) -> bool:
    return judged.outcome not in {Outcome.INCONCLUSIVE, Outcome.NOT_YET}
