"""Reads of roles and licences: what Graph refuses or shows in part is unknown, what it can't answer is for later."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from consent_gateway.entra.graph_reads import GraphReads, Later
from consent_gateway.entra.graph_settings import GraphSettings
from support.gateway import CLIENT_IDS

GRAPH = "https://graph.test"
CLIENT = CLIENT_IDS["manage-accounts"]
ROLE = {"@odata.type": "#microsoft.graph.directoryRole", "roleTemplateId": "966707D0-3269-4727-9be2-8c3a10f19b9d"}


async def ask(
    answer: Callable[[httpx.Request], httpx.Response], what: Callable[[GraphSettings], Any], *, deadline: float = 5.0
) -> Any:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return await what(GraphSettings(GraphReads(GRAPH, client, deadline_seconds=deadline)))


async def roles(answer: Callable[[httpx.Request], httpx.Response]) -> Any:
    return await ask(answer, lambda graph: graph.directory_roles("TOKEN", CLIENT))


async def plans(*entries: dict[str, Any]) -> Any:
    return await ask(
        lambda _: httpx.Response(200, json={"value": list(entries)}), lambda graph: graph.service_plans("TOKEN")
    )


async def test_roles_are_read_over_all_pages_and_groups_left_out() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        assert request.headers["authorization"] == "Bearer TOKEN"
        if len(seen) == 1:
            group = {"@odata.type": "#microsoft.graph.group", "id": "g"}
            return httpx.Response(200, json={"value": [group], "@odata.nextLink": f"{GRAPH}/v1.0/more"})
        return httpx.Response(200, json={"value": [ROLE]})

    assert await roles(answer) == {"966707d0-3269-4727-9be2-8c3a10f19b9d"}
    assert seen[0].endswith(f"/v1.0/servicePrincipals(appId='{CLIENT}')/transitiveMemberOf")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(403, json={"error": {"code": "Authorization_RequestDenied"}}),
        httpx.Response(404, json={}),
        httpx.Response(200, json=["strange"]),
        httpx.Response(200, json={"value": [ROLE | {"roleTemplateId": None}]}),
        httpx.Response(200, json={"value": [], "@odata.nextLink": "https://elsewhere.test/v1.0/more"}),
        httpx.Response(200, json={"value": [], "@odata.nextLink": f"{GRAPH}/v1.0/for-ever"}),
        httpx.Response(302, headers={"location": "https://elsewhere.test"}),
    ],
)
async def test_what_is_refused_or_shown_in_part_is_unknown(answer: httpx.Response) -> None:
    hosts: set[str] = set()

    def always(request: httpx.Request) -> httpx.Response:
        hosts.add(request.url.host)
        return answer

    assert await roles(always) is None
    assert hosts == {"graph.test"}


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (httpx.Response(429, headers={"retry-after": "17"}), 17.0),
        (httpx.Response(503), None),
        (httpx.Response(401), None),
        (httpx.Response(200, text="no json"), None),
    ],
)
async def test_what_can_not_be_answered_now_is_for_later(answer: httpx.Response, seconds: float | None) -> None:
    with pytest.raises(Later) as later:
        await roles(lambda _: answer)
    assert later.value.seconds == seconds


async def test_plans_of_subscriptions_that_work_count() -> None:
    def sku(status: str, **plan: Any) -> dict[str, Any]:
        return {"capabilityStatus": status, "servicePlans": [plan, "strange"]}

    found = await plans(
        sku("Enabled", servicePlanName="ONE", provisioningStatus="Success"),
        sku("Warning", servicePlanName="TWO", provisioningStatus="PendingActivation"),
        sku("Enabled", servicePlanName="OFF", provisioningStatus="Disabled"),
        sku("Suspended", servicePlanName="GONE", provisioningStatus="Success"),
        sku("Enabled", servicePlanName=None),
        {"capabilityStatus": "Enabled", "servicePlans": None},
    )
    assert found == {"ONE", "TWO"}
