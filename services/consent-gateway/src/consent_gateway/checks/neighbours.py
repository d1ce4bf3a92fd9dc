"""What verification needs of its surroundings: Entra, the grants, and where what it decides is written."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from consent_gateway.catalog.model import Resource
from consent_gateway.checks.checks import Finding, Judgement, Organization
from consent_gateway.grants.grants import Grant
from shared.events import Actor


class Prober(Protocol):
    """Asks Entra about a tenant, with fresh tokens only. Never raises for an answer, whatever it is."""

    async def find(
        self, *, tenant_id: str, client_id: str, resources: Sequence[Resource], delegated: bool, full: bool
    ) -> Finding:
        """What Entra says of the registration on the tenant, resource by resource; in full, or only the roles."""
        raise NotImplementedError


class Grants(Protocol):
    """Where grants are read and their health is kept."""

    async def grants_on(self, account_id: str, tenant_id: str) -> list[Grant]:
        """The account's grants on a tenant."""
        raise NotImplementedError

    async def label(self, account_id: str, tenant_id: str) -> tuple[str | None, str | None]:
        """The tenant's name and primary domain, as far as they are known."""
        raise NotImplementedError

    async def check_soon(self, tenant_id: str, set_ids: Collection[str], *, by: datetime) -> None:
        """Make the grants of these sets on the tenant, of whatever account, due by then."""

    async def note_health(self, judged: Judgement, *, token: int | None) -> None:
        """Keep the health of a grant that did not change otherwise, if it is still the one that was judged.

        A token also gives the lease back.
        """


class Changes(Protocol):
    """Where what a check decided is written."""

    async def commit_checks(
        self,
        account_id: str,
        tenant_id: str,
        judged: Sequence[Judgement],
        *,
        tokens: Mapping[str, int] | None = None,
        organization: Organization | None,
        cause: str,
        actor: Actor,
    ) -> tuple[Grant, ...]:
        """Write those whose grant is still the one that was judged, under its lease; returns them."""
        raise NotImplementedError
