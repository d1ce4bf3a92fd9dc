"""Breakers of client registrations, and counts, in memory: what several replicas share in a test without a database."""

from collections.abc import Callable
from datetime import datetime

from consent_gateway.checks.mass import MassGuard, MassRules
from consent_gateway.checks.registrations import Breaker


class SharedBreakers:
    """As the store, for any number of ``Registrations``; ``opens`` and ``closes`` tell who did what."""

    def __init__(self) -> None:
        self.breakers: dict[str, Breaker] = {}
        self.confirmed: set[str] = set()
        self.opens: list[tuple[str, str]] = []
        self.closes: list[str] = []

    async def open(
        self, client_id: str, *, why: str, next_try_at: datetime | None, error_code: str | None = None
    ) -> bool:
        """Open it; True for the one caller that did."""
        if client_id in self.breakers:
            return False
        self.breakers[client_id] = Breaker(client_id=client_id, why=why, next_try_at=next_try_at)
        self.opens.append((client_id, why))
        return True

    async def close(self, client_id: str, *, why: str | None = None) -> bool:
        """Close it, with ``why`` only if that is why it is open; True for the one caller that did."""
        breaker = self.breakers.get(client_id)
        if breaker is None or why not in {None, breaker.why}:
            return False
        del self.breakers[client_id]
        self.closes.append(client_id)
        return True

    async def take_try(self, client_id: str, *, now: datetime, next_try_at: datetime) -> bool:
        """Whether it is the caller's turn to try."""
        breaker = self.breakers.get(client_id)
        if breaker is None or breaker.next_try_at is None or breaker.next_try_at > now:
            return False
        self.breakers[client_id] = Breaker(client_id=client_id, why=breaker.why, next_try_at=next_try_at)
        return True

    async def opened(self) -> tuple[list[Breaker], frozenset[str]]:
        """Those that are open, and the confirmed ones."""
        return list(self.breakers.values()), frozenset(self.confirmed)


class SharedTallies:
    """As the store, for any number of ``MassGuard``."""

    def __init__(self) -> None:
        self.leaving: dict[tuple[str, str], datetime] = {}
        self.checked: dict[tuple[str, str], tuple[int, datetime]] = {}

    async def leaves(self, client_id: str, tenant_id: str, *, at: datetime) -> None:
        """Note that a tenant seems to leave."""
        self.leaving[client_id, tenant_id] = at

    async def tell(self, client_id: str, *, replica: str, tenants: int, at: datetime) -> None:
        """Say how many tenants a replica has checked."""
        self.checked[client_id, replica] = (tenants, at)

    async def counted(self, client_id: str, *, replica: str, since: datetime) -> tuple[int, int]:
        """Tenants that seem to have left, and those that the other replicas have checked."""
        gone = sum(1 for (one, _), at in self.leaving.items() if one == client_id and at >= since)
        others = (
            tenants
            for (one, other), (tenants, at) in self.checked.items()
            if one == client_id and other != replica and at >= since
        )
        return gone, sum(others)


def guard(
    *,
    tenants: int,
    share: float,
    tallies: SharedTallies | None = None,
    replica: str = "one",
    clock: Callable[[], datetime],
) -> MassGuard:
    """A replica's guard against too many removals."""
    rules = MassRules(tenants=tenants, share=share)
    return MassGuard(tallies or SharedTallies(), rules, replica=replica, clock=clock)
