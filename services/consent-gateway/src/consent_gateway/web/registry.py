"""The tenant registry over HTTP, asked in the person's own name: one answer, or a stream part by part."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from consent_gateway.errors import Kind, Refused

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 5.0
# Between two parts of a stream: the registry may have to wait for its database.
STREAM_SECONDS = 60.0
PAGE = 50

Params = Mapping[str, str]
Answer = TypeVar("Answer", bound=BaseModel)


class RegistryAway(Exception):
    """The registry can't be asked, or says something that can't be read."""


@dataclass(frozen=True)
class Export:
    """A stream as the registry sends it."""

    media_type: str
    parts: AsyncIterator[bytes]


class Registry:
    """Reads the registry. ``access_token`` decides what it answers.

    Every method raises ``RegistryAway``, and ``Refused`` for what the registry doesn't take: malformed, not_found.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client

    async def read(self, path: str, params: Params, kind: type[Answer], *, access_token: str) -> Answer:
        """One answer."""
        try:
            answer = await self._client.get(
                f"{self._url}{path}", params=dict(params), headers=_bearer(access_token), timeout=TIMEOUT_SECONDS
            )
            _check(answer)
            return kind.model_validate_json(answer.content)
        except (httpx.HTTPError, ValidationError) as error:
            raise _away(error) from None

    @asynccontextmanager
    async def export(self, path: str, params: Params, *, access_token: str) -> AsyncIterator[Export]:
        """A stream, part by part as it comes; leaving closes the connection."""
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


def page_of(params: Params, *, cursor: str | None, limit: int = PAGE) -> dict[str, str]:
    """The parameters of one page of a list."""
    return {**params, "limit": str(limit), **({"cursor": cursor} if cursor else {})}


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
