"""What the console asks the registry for, and what it makes of answers that are none."""

from typing import Any

import httpx
import pytest

from consent_gateway.web.history_reader import HistoryReader
from consent_gateway.web.registry import Registry

TENANT = "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10"
ENTRY = {"id": "e1", "type": "PermissionGranted", "occurred_at": "2026-11-23T12:00:00Z", "status": "granted", "new": 1}


async def asked(answer: httpx.Response | Exception, tenant_id: str | None = TENANT) -> tuple[Any, httpx.Request]:
    seen: list[httpx.Request] = []

    def answers(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(answers)) as client:
        reader = HistoryReader(Registry("http://registry.test/", client))
        found = await reader.history(tenant_id=tenant_id, access_token="AT", cursor="c")
    return found, seen[0]


async def test_it_asks_in_the_persons_own_name() -> None:
    found, request = await asked(httpx.Response(200, json={"items": [ENTRY], "next_cursor": "n"}))
    assert request.headers["authorization"] == "Bearer AT"
    assert (request.url.path, dict(request.url.params)["cursor"]) == (f"/v1/tenants/{TENANT}/history", "c")
    assert (found.available, found.next_cursor, found.entries[0].status) == (True, "n", "granted")
    _, request = await asked(httpx.Response(200, json={"items": []}), tenant_id=None)
    assert request.url.path == "/v1/history"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503),
        httpx.Response(401),
        httpx.Response(422),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"items": [{"id": 1}]}),
        httpx.ConnectError("away"),
        httpx.ReadTimeout("slow"),
    ],
)
async def test_a_registry_that_is_away_is_done_without(answer: httpx.Response | Exception) -> None:
    found, _ = await asked(answer)
    assert (found.available, list(found.entries)) == (False, [])


async def test_a_tenant_that_is_not_known_there_yet_has_no_history() -> None:
    found, _ = await asked(httpx.Response(404))
    assert (found.available, list(found.entries)) == (True, [])
