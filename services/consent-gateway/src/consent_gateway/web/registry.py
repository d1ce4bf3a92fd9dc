"""What happened, as the tenant registry tells it: asked in the person's own name, and done without if it is away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from shared.events import Actor

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 5.0
PAGE = 50


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


class Registry:
    """Reads the registry over HTTP."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client

    async def history(
        self,
        *,
        tenant_id: str | None,
        access_token: str,
        cursor: str | None = None,
        filters: Mapping[str, str] | None = None,
    ) -> History:
        """What happened in the account, or on one of its tenants. Never raises for an answer, whatever it is.

        ``filters`` are the registry's: ``type``, ``permission_set_id`` (of a tenant), ``since``, ``until``,
        ``account_id`` (for staff).
        """
        path = f"/v1/tenants/{tenant_id}/history" if tenant_id is not None else "/v1/history"
        params: dict[str, Any] = {"limit": PAGE, **(filters or {}), **({"cursor": cursor} if cursor else {})}
        try:
            answer = await self._client.get(
                f"{self._url}{path}",
                params=params,
                headers={"Authorization": f"Bearer {access_token}"},
                timeout=TIMEOUT_SECONDS,
            )
            if answer.status_code == httpx.codes.NOT_FOUND:
                # Nothing is known of the tenant there yet: what was done a moment ago may still be on its way.
                return History()
            answer.raise_for_status()
            page = _Page.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            log.warning("registry.unavailable", error=type(error).__name__)
            return History(available=False)
        return History(entries=page.items, next_cursor=page.next_cursor)
