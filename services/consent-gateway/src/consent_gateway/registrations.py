"""Is it us? Before a refusal of Entra is held against a customer, our own registration is asked for at home."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Protocol

import structlog
from prometheus_client import Gauge

from consent_gateway.catalog import Resource
from consent_gateway.checks import Finding

log = structlog.get_logger(__name__)

FAILING = Gauge(
    "entra_registration_failing", "1 while Entra refuses our own client registration; an operator must act.", ["client"]
)
# An answer about ourselves is good for so long: a storm of refusals costs one request a minute.
FRESH_SECONDS = 60.0


class Home(StrEnum):
    """What our own tenant says of a registration."""

    WORKS = "works"
    OURS = "ours"
    UNKNOWN = "unknown"


class HomeProber(Protocol):
    """Asks our own tenant."""

    async def home(self, client_id: str, resource: Resource) -> Home:
        """What our own tenant says of the registration."""
        raise NotImplementedError


class Registrations:
    """Tells the customer's removal from a fault of ours: one alert, and no grant is touched."""

    def __init__(self, prober: HomeProber, *, monotonic: Callable[[], float]) -> None:
        self._prober = prober
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, Home]] = {}

    async def excuse(self, finding: Finding, *, client_id: str, resources: Sequence[Resource]) -> Finding:
        """The finding, made inconclusive where the fault is ours or may be."""
        if finding.gone is None and not finding.ours:
            if finding.unanswered is None:
                FAILING.labels(client_id).set(0)
            return finding
        home = await self._home(client_id, resources[0])
        if finding.gone is not None and home is Home.WORKS:
            return finding
        if home is Home.OURS or finding.ours:
            FAILING.labels(client_id).set(1)
            log.error("entra.registration_refused", client_id=client_id, home=str(home), answer=finding.unanswered)
        why = finding.unanswered or f"refused, and our own tenant says {home}"
        return replace(finding, gone=None, unanswered=why)

    async def _home(self, client_id: str, resource: Resource) -> Home:
        at, home = self._known.get(client_id, (float("-inf"), Home.UNKNOWN))
        if self._monotonic() - at > FRESH_SECONDS:
            home = await self._prober.home(client_id, resource)
            self._known[client_id] = (self._monotonic(), home)
        return home
