"""Reads of Microsoft Graph: bounded in time and pages, and true about what is unknown."""

import asyncio
from typing import Any

import httpx

from consent_gateway.entra.discovery import seconds_of

# Background reads give way to the customer's own (https://learn.microsoft.com/graph/throttling-limits).
PRIORITY = {"x-ms-throttle-priority": "Low"}
PAGES = 20


class Later(Exception):
    """Graph could not answer just now; nothing follows from that. ``seconds`` is how long it asked to wait."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__("later")
        self.seconds = seconds


class GraphReads:
    """Reads, each with the token of one tenant. None is "not readable", which is not "not there".

    Redirects aren't followed: a token goes to Graph only.
    """

    def __init__(self, graph_url: str, client: httpx.AsyncClient, *, deadline_seconds: float) -> None:
        self._url = graph_url
        self._client = client
        self._deadline = deadline_seconds

    async def one(self, path: str, token: str) -> dict[str, Any] | None:
        """An object, or None where Graph refuses it.

        Raises:
            Later: Graph throttled, failed or didn't answer.
        """
        return await self._get(f"{self._url}{path}", token)

    async def all(self, path: str, token: str) -> list[dict[str, Any]] | None:
        """All entries of a collection, page by page; None where they can't be read to the end.

        Raises:
            Later: Graph throttled, failed or didn't answer.
        """
        found: list[dict[str, Any]] = []
        url: object = f"{self._url}{path}"
        for _ in range(PAGES):
            # A token goes to Graph only, wherever an answer points.
            if not isinstance(url, str) or not url.startswith(f"{self._url}/"):
                return None
            body = await self._get(url, token)
            values = body.get("value") if body is not None else None
            if body is None or not isinstance(values, list):
                return None
            found += [entry for entry in values if isinstance(entry, dict)]
            url = body.get("@odata.nextLink")
            if url is None:
                return found
        return None

    async def _get(self, url: str, token: str) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(self._deadline):
                answer = await self._client.get(url, headers={"Authorization": f"Bearer {token}", **PRIORITY})
            body = answer.json() if answer.status_code == 200 else None
        except (TimeoutError, httpx.HTTPError, ValueError):
            raise Later from None
        # A token that was made a moment ago may be refused for a moment.
        if answer.status_code in {401, 429} or answer.status_code >= 500:
            raise Later(seconds_of(answer.headers.get("retry-after")))
        return body if isinstance(body, dict) else None
