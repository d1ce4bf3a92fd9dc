"""Our own credentials, looked at once an hour by every replica; what is to be said is said once over all of them."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import structlog
from prometheus_client import Gauge
from pymongo.errors import DuplicateKeyError, PyMongoError

from consent_gateway.catalog.model import MICROSOFT_GRAPH, Catalog
from consent_gateway.entra.answers import EntraFailed
from consent_gateway.entra.credential_expiry import Alert, Ending, alert_of, ending_of, shown, with_home
from consent_gateway.entra.credentials import CredentialError, Credentials, Held
from consent_gateway.entra.graph_reads import Later
from consent_gateway.entra.graph_registrations import GraphRegistrations
from shared.backoff import Backoff
from shared.events import GATEWAY, CredentialExpiring, new_event
from shared.mongo import transaction
from shared.outbox import Outbox
from shared.topics import CONSENT_EVENTS

if TYPE_CHECKING:
    from shared.mongo import Collection, Database, Session

log = structlog.get_logger(__name__)

EXPIRES = Gauge(
    "entra_credential_expires_timestamp_seconds",
    "When the credential of a client registration ends, its successor counted; absent where nobody knows.",
    ["client"],
)
INTERVAL_SECONDS = 3_600.0


class Tokens(Protocol):
    """Where app-only tokens come from."""

    async def app_token(self, *, tenant_id: str, client_id: str, scope: str) -> str:
        """A fresh token of the tenant; raises ``EntraFailed``."""
        raise NotImplementedError


class CredentialWatch:
    """Metric, banner and events. The replicas need no leader: the id of an alert lets the first one say it."""

    def __init__(
        self,
        database: "Database",
        catalog: Catalog,
        credentials: Credentials,
        *,
        home_tenant_id: str,
        tokens: Tokens,
        graph: GraphRegistrations,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._alerts: Collection = database["credential_alerts"]
        self._outbox = Outbox(database)
        self._catalog = catalog
        self._credentials = credentials
        self._home_tenant_id = home_tenant_id
        self._tokens = tokens
        self._graph = graph
        self._committed = committed
        self._clock = clock
        self._endings: dict[str, Ending] = {}

    def ending_soon(self) -> list[Ending]:
        """What the banner says: credentials that end within a month, or have ended, the first one first."""
        now = self._clock()
        return sorted((one for one in self._endings.values() if shown(one, now)), key=lambda one: one.expires_at)

    async def run(self) -> None:
        """Look every hour until cancelled; a database that is away is waited for."""
        backoff = Backoff()
        while True:
            try:
                await self.step()
                backoff.reset()
                await asyncio.sleep(INTERVAL_SECONDS)
            except PyMongoError as error:
                delay = backoff.next()
                log.warning("credentials.failed", error=type(error).__name__, retry_in_seconds=round(delay, 2))
                await asyncio.sleep(delay)

    async def step(self) -> int:
        """Look at every registration's credential; how many alerts this replica was the first to give."""
        given = 0
        for registration, client_id in self._registrations():
            ending = await self._ending(registration, client_id)
            if ending is None:
                if self._endings.pop(client_id, None) is not None:
                    EXPIRES.remove(client_id)
                continue
            self._endings[client_id] = ending
            EXPIRES.labels(client_id).set(ending.expires_at.timestamp())
            alert = alert_of(ending, self._clock())
            if alert is not None and await self._give(alert):
                given += 1
        if given:
            self._committed()
        return given

    def _registrations(self) -> Iterator[tuple[str, str]]:
        seen: set[str] = set()
        for one in self._catalog.sets.values():
            if one.client_id not in seen:
                seen.add(one.client_id)
                yield one.registration, one.client_id

    async def _ending(self, registration: str, client_id: str) -> Ending | None:
        try:
            held = self._credentials.held(client_id)
        except CredentialError as error:
            log.error("credentials.unreadable", client_id=client_id, error=str(error))  # noqa: TRY400 - names the file
            return self._endings.get(client_id)
        if any(one.expires_at is None for one in held):
            told = await self._as_home_knows(client_id, held)
            if told is None:
                # What was known stands while the home tenant can't be asked.
                return ending_of(registration, held) or self._endings.get(client_id)
            held = told
        return ending_of(registration, held)

    async def _as_home_knows(self, client_id: str, held: tuple[Held, ...]) -> tuple[Held, ...] | None:
        scopes = {r.app_id: r.scope for one in self._catalog.sets.values() for r in one.resources}
        scope = scopes.get(MICROSOFT_GRAPH)
        if scope is None:
            return held
        try:
            token = await self._tokens.app_token(tenant_id=self._home_tenant_id, client_id=client_id, scope=scope)
            return with_home(held, await self._graph.application(token, client_id))
        except (EntraFailed, Later) as error:
            log.warning("credentials.home_unknown", client_id=client_id, error=type(error).__name__)
            return None

    async def _give(self, alert: Alert) -> bool:
        """The event and the mark that it was given, in one transaction; False when another one gave it."""
        ending, now = alert.ending, self._clock()
        event = CredentialExpiring(
            registration=ending.registration,
            client_id=ending.client_id,
            credential=ending.credential,
            expires_at=ending.expires_at,
            days_left=ending.days_left(now),
            occurred_at=now,
        )

        async def work(session: "Session") -> None:
            await self._alerts.insert_one({"_id": alert.id, "given_at": now}, session=session)
            revision = int(now.timestamp() * 1000)
            await self._outbox.add(session, CONSENT_EVENTS, new_event(GATEWAY, event), revision=revision)

        if await self._alerts.find_one({"_id": alert.id}) is not None:
            return False
        try:
            await transaction(self._database, work)
        except DuplicateKeyError:
            return False
        log.error(
            "credentials.expiring",
            client_id=ending.client_id,
            credential=ending.credential,
            expires_at=ending.expires_at.isoformat(),
            days_left=ending.days_left(now),
        )
        return True
