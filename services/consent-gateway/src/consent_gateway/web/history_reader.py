"""What happened, as the tenant registry tells it; done without if the registry is away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import AwareDatetime, BaseModel, ConfigDict

from consent_gateway.errors import Kind, Refused
from consent_gateway.web.registry import Params, Registry, RegistryAway, page_of
from shared.events import Actor


class Entry(BaseModel):
    """One thing that happened. The registry says more than is read here; what an event lacks is None."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    type: str
    account_id: str | None = None
    tenant_id: str | None = None
    tenant_name: str | None = None
    permission_set_id: str | None = None
    permission_set_ids: tuple[str, ...] | None = None
    status: str | None = None
    previous_status: str | None = None
    version: int | None = None
    versions: Mapping[str, int] | None = None
    reason: str | None = None
    detail: str | None = None
    cause: str | None = None
    stage: str | None = None
    error_code: str | None = None
    channel: str | None = None
    requested_by: str | None = None
    actor: Actor | None = None
    attempt_id: str | None = None
    occurred_at: AwareDatetime


class _Page(BaseModel):
    items: Sequence[Entry]
    next_cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class History:
    """A page of what happened, newest first. ``available`` is False where the registry could not be asked."""

    entries: Sequence[Entry] = ()
    next_cursor: str | None = None
    available: bool = True


class HistoryReader:
    """Reads what happened."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def history(
        self, *, tenant_id: str | None, access_token: str, cursor: str | None = None, filters: Params | None = None
    ) -> History:
        """What happened in the account, or on one of its tenants. Never raises for an answer, whatever it is.

        ``filters`` are the registry's: ``type``, ``permission_set_id`` (of a tenant), ``since``, ``until``,
        ``account_id`` (for staff).
        """
        path = f"/v1/tenants/{tenant_id}/history" if tenant_id is not None else "/v1/history"
        asked = page_of(filters or {}, cursor=cursor)
        try:
            page = await self._registry.read(path, asked, _Page, access_token=access_token)
        except RegistryAway:
            return History(available=False)
        except Refused as refused:
            # Nothing is known of the tenant there yet: what was done a moment ago may still be on its way.
            return History(available=refused.kind is Kind.NOT_FOUND)
        return History(entries=page.items, next_cursor=page.next_cursor)
