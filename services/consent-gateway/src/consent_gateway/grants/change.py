"""What is to be done to a tenant of an account, and what was there before."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from consent_gateway.checks.checks import Organization
from consent_gateway.grants.grants import Grant, Tenant
from shared.events import Actor


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to be done to a tenant.

    ``grants`` are those that change, in the order of their events. For the ``accepted`` ones, and for the
    ``reassigned`` ones whose apps the catalogue changed, the apps are settled here: they depend on the slots.
    ``organization`` is the tenant's description, where it was read anew. ``removed`` is the reason of a disconnection.
    """

    grants: Sequence[Grant] = ()
    accepted: frozenset[str] = frozenset()
    reassigned: frozenset[str] = frozenset()
    organization: Organization | None = None
    removed: str | None = None
    cause: str
    actor: Actor


@dataclass(kw_only=True)
class Turn:
    """One tenant of one account inside a transaction: what is there before the change."""

    account_id: str
    tenant_id: str
    tenant: Tenant | None
    grants: dict[str, Grant] = field(default_factory=dict)
