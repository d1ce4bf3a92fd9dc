"""The core with its adapters, put together once; ``app`` adds the HTTP side, tests drive it directly."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consent_gateway.catalog.file import load_content
from consent_gateway.catalog.model import ActiveCatalog
from consent_gateway.catalog.reevaluation import Reevaluation
from consent_gateway.catalog.versions import CatalogVersions
from consent_gateway.checks.breaker_store import BreakerStore
from consent_gateway.checks.mass import MassGuard, MassRules
from consent_gateway.checks.mass_store import MassStore
from consent_gateway.checks.monitor import Monitor
from consent_gateway.checks.pacing import Pace
from consent_gateway.checks.registrations import Registrations
from consent_gateway.checks.schedule import Rules as CheckRules
from consent_gateway.checks.settings_watch import SettingsWatch
from consent_gateway.checks.verification import Verification
from consent_gateway.consent.attempt_sweeper import AttemptSweeper
from consent_gateway.consent.consent import Consent
from consent_gateway.consent.flow import Flow
from consent_gateway.entra.adapters import Entra
from consent_gateway.entra.credential_watch import CredentialWatch
from consent_gateway.grants.changes import Changes
from consent_gateway.grants.ledger import Ledger
from consent_gateway.grants.operations import Operations
from consent_gateway.settings import Settings
from consent_gateway.store import Store
from shared import mongo
from shared.kafka import Publisher
from shared.outbox import Relay

if TYPE_CHECKING:
    from shared.mongo import Database

NAME = "consent-gateway"


def utc_now() -> datetime:
    """The clock of the service, in whole milliseconds: what is said at once and what is read later are the same."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(frozen=True, kw_only=True)
class Core:
    """Everything but HTTP. Nothing is connected before it is used."""

    catalog: ActiveCatalog
    versions: CatalogVersions
    reevaluation: Reevaluation
    settings_watch: SettingsWatch
    credential_watch: CredentialWatch
    database: "Database"
    store: Store
    operations: Operations
    entra: Entra
    flow: Flow
    sweeper: AttemptSweeper
    breakers: BreakerStore
    tallies: MassStore
    registrations: Registrations
    verification: Verification
    monitor: Monitor
    changes: Changes
    publisher: Publisher
    relay: Relay

    @classmethod
    def of(cls, settings: Settings) -> "Core":
        """The core for these settings.

        Raises:
            CatalogError, CredentialError: a file that a setting names can't be used; the message is one line.
        """
        # What this replica's file says, until the database says what is active.
        own, says = load_content(settings.catalog.path, settings.catalog.client_ids)
        catalog = ActiveCatalog(says, return_urls=settings.catalog.return_urls)
        entra = Entra.of(settings.entra, catalog)
        database = mongo.connect(settings.mongo)
        owner = f"{NAME}-{secrets.token_hex(4)}"
        publisher = Publisher(settings.kafka, client_id=NAME)
        relay = Relay(database, publisher, owner=owner)
        ledger = Ledger(database, catalog, cloud=settings.entra.cloud, exclusive=settings.tenant_sharing == "exclusive")
        store = Store(database, catalog, ledger)
        breakers = BreakerStore(
            database,
            catalog,
            per_second=settings.drift.per_second,
            most_seconds=settings.drift.interval_seconds,
            committed=relay.poke,
            clock=utc_now,
        )
        tallies = MassStore(database)
        registrations = Registrations(
            entra.probe,
            breakers,
            mass=MassGuard(
                tallies,
                MassRules(tenants=settings.drift.mass_tenants, share=settings.drift.mass_share),
                replica=owner,
                clock=utc_now,
            ),
            monotonic=time.monotonic,
            clock=utc_now,
        )
        verification = Verification(
            catalog,
            CheckRules(
                interval_seconds=settings.drift.interval_seconds,
                negatives=settings.drift.negatives,
                negatives_span_seconds=settings.drift.negatives_span_seconds,
            ),
            prober=entra.probe,
            registrations=registrations,
            grants=store.grants,
            changes=store,
            committed=relay.poke,
            clock=utc_now,
        )
        versions = CatalogVersions(database, own, catalog, settings.catalog.client_ids)
        return cls(
            catalog=catalog,
            versions=versions,
            reevaluation=Reevaluation(
                database,
                ledger,
                catalog,
                versions,
                owner=owner,
                per_second=settings.catalog.per_second,
                committed=relay.poke,
                clock=utc_now,
            ),
            settings_watch=SettingsWatch(
                database,
                ledger,
                catalog,
                grants=store.grants,
                tokens=entra.app_tokens,
                graph=entra.settings,
                committed=relay.poke,
                clock=utc_now,
            ),
            credential_watch=CredentialWatch(
                database,
                catalog,
                entra.credentials,
                home_tenant_id=settings.entra.home_tenant_id,
                tokens=entra.app_tokens,
                graph=entra.registrations,
                committed=relay.poke,
                clock=utc_now,
            ),
            database=database,
            store=store,
            operations=Operations(ledger, catalog),
            entra=entra,
            flow=Flow.of(
                settings,
                catalog,
                store,
                entra=entra.tokens,
                verification=verification,
                committed=relay.poke,
                clock=utc_now,
            ),
            sweeper=AttemptSweeper(database, store, owner=owner, committed=relay.poke, clock=utc_now),
            breakers=breakers,
            tallies=tallies,
            registrations=registrations,
            verification=verification,
            monitor=Monitor(
                store.grants,
                verification,
                registrations,
                pace=Pace(settings.drift.per_second, monotonic=time.monotonic),
                owner=owner,
                concurrency=settings.entra.concurrency,
                clock=utc_now,
            ),
            changes=Changes(database),
            publisher=publisher,
            relay=relay,
        )

    @property
    def consent(self) -> Consent:
        """The consent flow itself."""
        return self.flow.consent

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close every connection on leaving."""
        try:
            async with self.entra.open():
                yield
        finally:
            await self.publisher.close()
            await mongo.close(self.database)
