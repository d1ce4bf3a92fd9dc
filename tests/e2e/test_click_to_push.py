"""The main job: an operator grants a permission set, and the apps know."""

from datetime import datetime

from shared.events import PermissionGranted, TenantState, decode, tenant_key
from support.browsing import Browser
from support.eventually import eventually
from support.platform import CONTOSO, Platform, consent, sign_in
from support.records import records_on

SET = "read-directory-data"


async def test_a_granted_set_is_on_the_screen_on_kafka_in_the_registry_and_at_the_app(
    platform: Platform, browser: Browser
) -> None:
    screen = await sign_in(browser, platform, person="Adatum admin")
    assert screen.heading == "Microsoft Entra ID"

    end = await consent(screen, permission_set_id=SET, administrator="admin@contoso.com")
    assert end.status == 200
    assert "/consent/attempts/" in end.url
    assert "Granted" in end.text
    assert {"Contoso Ltd", CONTOSO} <= {text for text in ("Contoso Ltd", CONTOSO) if text in end.text}

    screen = await browser.get(screen.url)
    assert "Contoso Ltd" in screen.text
    assert CONTOSO in screen.text
    assert "Granted" in screen.text

    push = await platform.pushed(CONTOSO, permission_set_id=SET)
    assert push["verified"]
    data = push["data"]
    assert data["account_id"] == "adatum"
    assert data["tenant"] == {"id": CONTOSO, "name": "Contoso Ltd"}
    assert (data["access"], data["usable"]) == ("gained", True) or data["access"] == "kept"

    # Whoever was notified finds it in the registry, grouped by tenant.
    tenant = (await platform.api("registry", f"/v1/tenants/{CONTOSO}", account="adatum")).json()
    (grant,) = [grant for grant in tenant["grants"] if grant["permission_set_id"] == SET]
    assert (grant["status"], grant["missing"]) == ("granted", [])
    assert grant["revision"] >= data["revision"]
    assert datetime.fromisoformat(grant["granted_at"]).tzinfo is not None

    key = tenant_key("adatum", CONTOSO).encode()
    events = [
        decode(record.headers, record.value)
        for record in await records_on(platform.bootstrap_servers, "entra.consent-events.v1")
        if record.key == key
    ]
    (granted,) = [event.data for event in events if isinstance(event.data, PermissionGranted)]
    assert granted.permission_set_id == SET
    assert granted.tenant_name == "Contoso Ltd"
    assert [event.data.revision for event in events] == sorted(event.data.revision for event in events)  # type: ignore[attr-defined] # all are a tenant's

    async def last_state() -> TenantState:
        records = await records_on(platform.bootstrap_servers, "entra.tenants.v1", committed_only=True)
        states = [decode(r.headers, r.value).data for r in records if r.key == key]
        assert states, "not published yet"
        state = states[-1]
        assert isinstance(state, TenantState)
        return state

    state = await eventually(last_state, lambda state: state.revision >= granted.revision)
    assert [grant.status for grant in state.grants] == ["granted"]
