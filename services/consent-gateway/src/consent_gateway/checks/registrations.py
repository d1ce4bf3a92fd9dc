"""Is it us? Before a refusal of Entra is held against a customer, our own registration is asked for at home.

While it is refused there, a breaker that all replicas share stops the checks of that registration: one alert, no grant
touched, no storm. The same breaker holds when so many tenants seem to leave at once that it can't be their doing.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

import structlog
from prometheus_client import Gauge

from consent_gateway.checks.checks import Finding, Judgement
from consent_gateway.checks.mass import MassGuard
from consent_gateway.entra.flights import Flights

log = structlog.get_logger(__name__)

FAILING = Gauge(
    "entra_registration_failing", "1 while Entra refuses our own client registration; an operator must act.", ["client"]
)
HELD = Gauge(
    "entra_registration_held", "1 while so many tenants seem gone that an operator must confirm it.", ["client"]
)
# An answer about ourselves is good for so long: a storm of refusals costs one request a minute.
FRESH_SECONDS = 60.0
UNKNOWN_SECONDS = 5.0
# How often an open breaker is tried, by one replica.
TRY_SECONDS = 60.0
_CODE = re.compile(r"AADSTS\d+")


class Home(StrEnum):
    """What our own tenant says of a registration."""

    WORKS = "works"
    OURS = "ours"
    UNKNOWN = "unknown"


class Why(StrEnum):
    """Why a breaker is open."""

    REFUSED = "refused"  # our own tenant refuses the registration: closed as soon as it works
    MASS_REMOVAL = "mass_removal"  # too many tenants seem gone: closed by an operator


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """An open breaker of a client registration. Nobody but an operator closes one without a next try."""

    client_id: str
    why: str
    next_try_at: datetime | None


class HomeProber(Protocol):
    """Asks our own tenant."""

    async def home(self, client_id: str) -> Home:
        """What our own tenant says of the registration."""
        raise NotImplementedError


class Breakers(Protocol):
    """The breakers, as all replicas see them."""

    async def open(
        self, client_id: str, *, why: str, next_try_at: datetime | None, error_code: str | None = None
    ) -> bool:
        """Open it; True for the one caller that did."""
        raise NotImplementedError

    async def close(self, client_id: str, *, why: str | None = None) -> bool:
        """Close it, and let what became due meanwhile be due little by little; True for the one caller that did.

        With ``why``, only if that is why it is open.
        """
        raise NotImplementedError

    async def take_try(self, client_id: str, *, now: datetime, next_try_at: datetime) -> bool:
        """Whether it is the caller's turn to try."""
        raise NotImplementedError

    async def opened(self) -> tuple[list[Breaker], frozenset[str]]:
        """Those that are open, and the clients whose removals an operator has confirmed."""
        raise NotImplementedError


class Registrations:
    """Tells the customer's removal from a fault of ours."""

    def __init__(
        self,
        prober: HomeProber,
        breakers: Breakers,
        *,
        mass: MassGuard,
        monotonic: Callable[[], float],
        clock: Callable[[], datetime],
    ) -> None:
        self._prober = prober
        self._breakers = breakers
        self._mass = mass
        self._monotonic = monotonic
        self._clock = clock
        self._known: dict[str, tuple[float, Home]] = {}
        self._flights: Flights[Home] = Flights()
        self._open: dict[str, str] = {}
        self._confirmed: frozenset[str] = frozenset()

    @property
    def resting(self) -> frozenset[str]:
        """The client registrations that are not to be used for checks now."""
        return frozenset(self._open)

    async def excuse(self, finding: Finding, *, client_id: str) -> Finding:
        """The finding, made inconclusive where the fault is ours or may be.

        Raises:
            PyMongoError: a breaker could not be opened or closed.
        """
        if finding.gone is None and not finding.ours:
            if finding.roles and self._open.get(client_id) == Why.REFUSED:
                # Whatever tenant gave it: there is a token.
                await self._close(client_id)
            return finding
        home = await self._home(client_id)
        if finding.gone is not None and home is Home.WORKS:
            return finding
        if home is Home.OURS:
            await self._trip(client_id, answer=finding.unanswered)
        why = finding.unanswered or f"refused, and our own tenant says {home}"
        return replace(finding, gone=None, unanswered=why)

    async def doubt(self, client_id: str, judged: Sequence[Judgement]) -> str | None:
        """Why these judgements are not to be believed; they are counted here.

        Raises:
            PyMongoError: what other replicas counted can't be had.
        """
        too_many = await self._mass.too_many(client_id, judged)
        if not any(one.takes_away for one in judged) or client_id in self._confirmed:
            return None
        return str(Why.MASS_REMOVAL) if too_many or self._open.get(client_id) == Why.MASS_REMOVAL else None

    async def hold(self, client_id: str, why: str) -> None:
        """Stop the registration's checks until an operator has looked.

        Raises:
            PyMongoError: the breaker could not be opened.
        """
        if self._open.get(client_id) == why:
            return
        self._open[client_id] = why
        HELD.labels(client_id).set(1)
        if await self._breakers.open(client_id, why=why, next_try_at=None):
            log.error("entra.registration_held", client_id=client_id, why=why)

    async def refresh(self) -> None:
        """Learn what other replicas opened and closed, try what is due to be tried, and say what was counted here.

        Raises:
            PyMongoError: it can't be read or written just now.
        """
        await self._mass.tell()
        found, self._confirmed = await self._breakers.opened()
        known = set(self._open)
        self._open = {breaker.client_id: breaker.why for breaker in found}
        for client_id in known | self._open.keys():
            FAILING.labels(client_id).set(int(self._open.get(client_id) == Why.REFUSED))
            HELD.labels(client_id).set(int(self._open.get(client_id) == Why.MASS_REMOVAL))
        now = self._clock()
        for breaker in found:
            if breaker.next_try_at is not None and breaker.next_try_at <= now:
                await self._try(breaker.client_id, now)

    async def _try(self, client_id: str, now: datetime) -> None:
        next_try_at = now + timedelta(seconds=TRY_SECONDS)
        if not await self._breakers.take_try(client_id, now=now, next_try_at=next_try_at):
            return
        home = await self._prober.home(client_id)
        self._known[client_id] = (self._monotonic(), home)
        if home is Home.WORKS:
            await self._close(client_id)

    async def _trip(self, client_id: str, *, answer: str | None) -> None:
        if client_id in self._open:
            return
        self._open[client_id] = Why.REFUSED
        FAILING.labels(client_id).set(1)
        next_try_at = self._clock() + timedelta(seconds=TRY_SECONDS)
        code = _CODE.search(answer or "")
        error_code = code.group() if code is not None else None
        if await self._breakers.open(client_id, why=Why.REFUSED, next_try_at=next_try_at, error_code=error_code):
            log.error("entra.registration_refused", client_id=client_id, answer=answer)

    async def _close(self, client_id: str) -> None:
        self._known.pop(client_id, None)
        FAILING.labels(client_id).set(0)
        # Another replica may have had another reason to open it, which a token does not end: that is learnt soon.
        if await self._breakers.close(client_id, why=Why.REFUSED):
            self._open.pop(client_id, None)
            log.info("entra.registration_works", client_id=client_id)

    async def _home(self, client_id: str) -> Home:
        at, home = self._known.get(client_id, (float("-inf"), Home.UNKNOWN))
        fresh = FRESH_SECONDS if home is not Home.UNKNOWN else UNKNOWN_SECONDS
        if self._monotonic() - at > fresh:
            home = await self._flights.join(client_id, lambda: self._prober.home(client_id))
            self._known[client_id] = (self._monotonic(), home)
        return home
