"""The consent flow with its neighbours, put together once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from consent_gateway.catalog.model import Catalog
from consent_gateway.consent.confirmations import Confirmations
from consent_gateway.consent.consent import Consent
from consent_gateway.consent.endings import Endings
from consent_gateway.consent.failures import Failures
from consent_gateway.consent.invitations import Invitations
from consent_gateway.consent.legs import Legs, Rules
from consent_gateway.consent.neighbours import Entra, Neighbours, Verifier
from consent_gateway.consent.starts import Starts
from consent_gateway.consent.transfers import Transfers
from consent_gateway.settings import Settings
from consent_gateway.store import Store


@dataclass(frozen=True, kw_only=True)
class Flow:
    """How tenants come to accounts: by a consent, by an invitation, by a transfer; and what failed of it."""

    consent: Consent
    invitations: Invitations
    confirmations: Confirmations
    transfers: Transfers
    failures: Failures

    @classmethod
    def of(
        cls,
        settings: Settings,
        catalog: Catalog,
        store: Store,
        *,
        entra: Entra,
        verification: Verifier,
        committed: Callable[[], None],
        clock: Callable[[], datetime],
    ) -> "Flow":
        """The flow for these settings; ``committed`` wakes the relay."""
        rules = Rules(
            public_url=settings.public_url,
            attempt_seconds=settings.consent.attempt_seconds,
            wait_seconds=settings.consent.wait_seconds,
            verify_deadline_seconds=settings.consent.verify_deadline_seconds,
        )
        neighbours = Neighbours(
            attempts=store.attempts,
            records=store,
            entra=entra,
            grants=store.grants,
            verification=verification,
            committed=committed,
            clock=clock,
        )
        legs = Legs(catalog, rules, entra=entra)
        starts = Starts(catalog, legs, attempts=store.attempts, clock=clock)
        return cls(
            consent=Consent(catalog, starts, legs, neighbours),
            invitations=Invitations(
                catalog,
                starts,
                legs,
                store=store.invitations,
                records=store.invited,
                attempts=store.attempts,
                people=store.people,
                labels=store.grants,
                committed=committed,
                clock=clock,
            ),
            confirmations=Confirmations(catalog, rules, Endings(legs, neighbours), store.invitations, neighbours),
            transfers=Transfers(
                attempts=store.attempts,
                records=store.transfers,
                labels=store.grants,
                verification=verification,
                verify_deadline_seconds=rules.verify_deadline_seconds,
                wait_seconds=rules.wait_seconds,
                committed=committed,
                clock=clock,
            ),
            failures=Failures(store.attempts, store.grants),
        )
