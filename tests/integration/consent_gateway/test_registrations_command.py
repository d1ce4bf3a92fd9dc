"""``registrations check`` in front of the sandbox, as an operator runs it."""

from datetime import timedelta
from typing import Any

import pytest

from consent_gateway.core import utc_now
from consent_gateway.entra import registrations_command
from consent_gateway.entra.registrations_check import Line
from support import gateway
from support.entra_sandbox import EntraSandbox
from support.gateway import CLIENT_IDS, HOME, SETS

CLIENT = CLIENT_IDS[SETS[0]]
GRAPH = "00000003-0000-0000-c000-000000000000"


async def check(entra: EntraSandbox) -> list[Line]:
    settings = gateway.settings(login_url=entra.login, graph_url=entra.graph, ca_bundle=entra.ca)
    return await registrations_command.check(settings)


def faults(found: list[Line]) -> list[str]:
    return [line.text for line in found if line.fault]


async def test_the_demos_registrations_are_in_order(entra: EntraSandbox) -> None:
    found = await check(entra)
    assert faults(found) == []
    assert registrations_command.exit_code(found) == 0
    assert {line.registration for line in found} == set(SETS)
    assert all("compared by number" in line.text for line in found)
    # With Directory.Read.All at home, they are compared by name.
    await entra.api("POST", f"tenants/{HOME}/apps/{CLIENT}/consent")
    named = await check(entra)
    assert faults(named) == []
    assert not any("compared by number" in line.text for line in named)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sign_in_audience": "AzureADMyOrg"}, "signInAudience is AzureADMyOrg"),
        ({"group_membership_claims": "None"}, "groupMembershipClaims is without DirectoryRole"),
        (
            {"permissions": [{"resource_app_id": GRAPH, "value": "Directory.Read.All"}]},
            "it asks for 1 application permissions of Microsoft Graph, the catalogue for 3",
        ),
    ],
)
async def test_a_fault_is_one_line_and_fails_the_command(
    entra: EntraSandbox, change: dict[str, Any], text: str
) -> None:
    await entra.api("PATCH", f"registrations/{CLIENT}", **change)
    found = await check(entra)
    assert registrations_command.exit_code(found) == 1
    assert any(text in line for line in faults(found))
    assert {line.client_id for line in found if line.fault} == {CLIENT}
    assert text in registrations_command.shown(found, as_json=False)
    assert text in registrations_command.shown(found, as_json=True)


async def test_an_ended_secret_is_named_by_what_entra_says(entra: EntraSandbox) -> None:
    (secret,) = (await entra.api("GET", f"registrations/{CLIENT}"))["secrets"]
    ended = (utc_now() - timedelta(days=1)).isoformat()
    await entra.api("PATCH", f"registrations/{CLIENT}/secrets/{secret['key_id']}", expires_at=ended)
    assert faults(await check(entra)) == ["our own tenant gives it no token: AADSTS7000222"]
