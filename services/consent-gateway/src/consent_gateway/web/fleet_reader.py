"""The fleet as the tenant registry tells it, page by page, or as a stream."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from consent_gateway.web.registry import PAGE, Export, Params, Registry, page_of

LONGEST_PAGE = 200


class _Read(BaseModel):
    """The registry says more than is read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FleetHeld(_Read):
    """A limited app of the set that uses another tenant."""

    app_id: str
    tenant_id: str


class FleetGrant(_Read):
    """A grant, as far as the fleet shows it."""

    permission_set_id: str
    status: str
    version: int
    reason: str | None = None
    held_apps: Sequence[FleetHeld] = ()


class FleetTenant(_Read):
    """A tenant with its grants."""

    account_id: str
    tenant_id: str
    tenant_name: str | None = None
    primary_domain: str | None = None
    grants: Sequence[FleetGrant] = ()


class TenantPage(_Read):
    """Some tenants, by account and tenant id."""

    items: Sequence[FleetTenant]
    next_cursor: str | None = None


class SetCounts(_Read):
    """How the tenants stand with one permission set."""

    permission_set_id: str
    statuses: Mapping[str, int]
    versions: Mapping[int, int]
    not_consented: int


class Counts(_Read):
    """How the tenants stand."""

    tenants: int
    statuses: Mapping[str, int]
    permission_sets: Sequence[SetCounts]
    counted_at: AwareDatetime


class Account(_Read):
    """An account that has tenants; its counts end at some number that stands for more."""

    account_id: str
    tenants: int
    attention: int


class AccountPage(_Read):
    """Some accounts, by id."""

    items: Sequence[Account] = Field(default=())
    next_cursor: str | None = None


class FleetReader:
    """Reads the fleet. ``access_token`` decides what the registry answers.

    Every method raises ``RegistryAway``, and ``Refused`` for what the registry doesn't take: malformed, not_found.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def counts(self, *, access_token: str, account_id: str | None = None) -> Counts:
        """The counts over the account, or over all of them for staff."""
        params = {"account_id": account_id} if account_id else {}
        return await self._registry.read("/v1/fleet", params, Counts, access_token=access_token)

    async def tenants(
        self, params: Params, *, access_token: str, cursor: str | None = None, limit: int = PAGE
    ) -> TenantPage:
        """The tenants that the filters choose, in an order that no change disturbs."""
        asked = page_of(params, cursor=cursor, limit=limit)
        return await self._registry.read("/v1/tenants", asked, TenantPage, access_token=access_token)

    async def accounts(self, *, access_token: str, cursor: str | None = None) -> AccountPage:
        """The accounts that have tenants, for staff."""
        params = {"cursor": cursor} if cursor else {}
        return await self._registry.read("/v1/accounts", params, AccountPage, access_token=access_token)

    def export(self, path: str, params: Params, *, access_token: str) -> AbstractAsyncContextManager[Export]:
        """An export of the registry, part by part as it comes."""
        return self._registry.export(path, params, access_token=access_token)
