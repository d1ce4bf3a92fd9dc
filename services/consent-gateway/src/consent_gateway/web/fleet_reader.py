"""The fleet as the tenant registry tells it: asked in the person's own name, page by page, or as a stream."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx
import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from consent_gateway.errors import Kind, Refused

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 5.0
# Between two parts of a stream: the registry may have to wait for its database.
STREAM_SECONDS = 60.0
PAGE = 50
LONGEST_PAGE = 200

Params = Mapping[str, str]
Answer = TypeVar("Answer", bound=BaseModel)


class RegistryAway(Exception):
    """The registry can't be asked, or says something that can't be read."""


class _Read(BaseModel):
    """The registry says more than is read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FleetGrant(_Read):
    """A grant, as far as the fleet shows it."""

    permission_set_id: str
    status: str
    version: int
    reason: str | None = None


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


@dataclass(frozen=True)
class Export:
    """A stream as the registry sends it."""

    media_type: str
    parts: AsyncIterator[bytes]


class FleetReader:
    """Reads the registry over HTTP. ``access_token`` decides what it answers.

    Every method raises ``RegistryAway``, and ``Refused`` for what the registry doesn't take: malformed, not_found.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client

    async def counts(self, *, access_token: str, account_id: str | None = None) -> Counts:
        """The counts over the account, or over all of them for staff."""
        params = {"account_id": account_id} if account_id else {}
        return await self._read("/v1/fleet", params, access_token, Counts)

    async def tenants(
        self, params: Params, *, access_token: str, cursor: str | None = None, limit: int = PAGE
    ) -> TenantPage:
        """The tenants that the filters choose, in an order that no change disturbs."""
        asked = {**params, "limit": str(limit), **({"cursor": cursor} if cursor else {})}
        return await self._read("/v1/tenants", asked, access_token, TenantPage)

    async def accounts(self, *, access_token: str, cursor: str | None = None) -> AccountPage:
        """The accounts that have tenants, for staff."""
        return await self._read("/v1/accounts", {"cursor": cursor} if cursor else {}, access_token, AccountPage)

    @asynccontextmanager
    async def export(self, path: str, params: Params, *, access_token: str) -> AsyncIterator[Export]:
        """An export of the registry, part by part as it comes; leaving closes the connection."""
        request = self._client.build_request(
            "GET",
            f"{self._url}{path}",
            params=dict(params),
            headers=_bearer(access_token),
            timeout=httpx.Timeout(TIMEOUT_SECONDS, read=STREAM_SECONDS),
        )
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _away(error) from None
        try:
            _check(answer)
            yield Export(answer.headers.get("content-type", "application/octet-stream"), answer.aiter_bytes())
        finally:
            await answer.aclose()

    async def _read(self, path: str, params: Params, access_token: str, kind: type[Answer]) -> Answer:
        try:
            answer = await self._client.get(
                f"{self._url}{path}", params=dict(params), headers=_bearer(access_token), timeout=TIMEOUT_SECONDS
            )
            _check(answer)
            return kind.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            raise _away(error) from None


def _bearer(access_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token}"}


def _check(answer: httpx.Response) -> None:
    if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
        raise Refused(Kind.MALFORMED)
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise Refused(Kind.NOT_FOUND)
    if answer.status_code != httpx.codes.OK:
        raise _away(answer.status_code)


def _away(why: Exception | int) -> RegistryAway:
    log.warning("registry.unavailable", error=why if isinstance(why, int) else type(why).__name__)
    return RegistryAway()
