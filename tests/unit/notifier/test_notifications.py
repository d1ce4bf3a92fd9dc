"""Which change concerns whom, and the bytes that tell it."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from notifier.notifications import Notice, endpoint_disabled, notice_of, ping
from shared.events import (
    BadRecord,
    ConsentFailed,
    CredentialExpiring,
    Event,
    PermissionGranted,
    RegistrationStatusChanged,
    TenantRemoved,
    TenantUpdated,
    encode,
)
from support.status_events import CONTOSO, GRAPH, OCCURRED, event, status_data, status_event

TENANT: dict[str, Any] = {
    "account_id": "northwind",
    "tenant_id": CONTOSO,
    "tenant_name": "Contoso Ltd",
    "primary_domain": "contoso.com",
    "revision": 7,
    "cause": "operator",
    "actor": {"kind": "user", "id": "6e7b1c1e-0f0a-4c0e-8f57-3c1f6a2d9b04"},
    "occurred_at": OCCURRED,
}


def told(happened: Event) -> Notice:
    notice = notice_of(happened)
    assert notice is not None
    return notice


def data_for(notice: Notice, app_id: str | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(notice.body(app_id))["data"]
    return found


def test_the_bytes_of_a_status_change() -> None:
    """Whoever changes these bytes sends other bytes under ids that receivers have seen: don't, but for new events."""
    happened = replace(status_event(reason=None), id="0d8f9a0e-6f5b-5a3e-9c1d-2b7e4f6a8c10", time=OCCURRED)
    permission = '{"resource_app_id":"' + GRAPH + '","value":"Directory.Read.All","type":"application"}'
    assert told(happened).body("search").decode() == (
        '{"type":"permission.status_changed","timestamp":"2026-11-23T13:00:00.123Z","data":{"account_id":"northwind",'
        '"tenant":{"id":"' + CONTOSO + '","name":"Contoso Ltd"},"permission_set_id":"read-directory-data",'
        '"previous_status":"verifying","status":"granted","reason":null,"permissions":[' + permission + "],"
        '"missing":[],"revision":1,"app_id":"search","usable":true,"access":"gained"}}'
    )


def test_what_the_catalogue_asks_for_or_plans_and_missing_settings_are_told_where_there_are_any() -> None:
    permission = {"resource_app_id": GRAPH, "value": "Device.Read.All", "type": "application"}
    plan = {"version": 3, "effective_from": "2027-01-15T00:00:00Z", "adds": [], "removes": [permission], "reason": "r"}
    setting = {"kind": "licence", "name": "Microsoft Entra ID P1", "functions": ["search/activity-data"]}
    more = {"available_version": 2, "additional": [permission], "planned": [plan], "settings": [setting]}
    found = data_for(told(status_event(**more)), "search")
    assert {name: found[name] for name in more} == more
    assert data_for(told(status_event()), "search").keys().isdisjoint(more)


@pytest.mark.parametrize(
    ("change", "usable", "access"),
    [
        ({"previous_status": None, "previous_apps": ()}, True, "gained"),
        ({"previous_status": "verifying"}, True, "gained"),
        ({"previous_status": "blocked"}, True, "gained"),
        ({"previous_status": "granted", "previous_apps": ()}, True, "gained"),
        ({"previous_status": "granted"}, True, "kept"),
        ({"previous_status": "partial"}, True, "kept"),
        ({"previous_status": "something-new"}, True, "kept"),
        ({"previous_status": "granted", "status": "blocked", "usable": False}, False, "lost"),
        ({"previous_status": "granted", "status": "revoked", "usable": False, "apps": ()}, False, "lost"),
        ({"previous_status": "granted", "apps": ("identity-security",)}, False, "lost"),
        ({"previous_status": None, "status": "verifying", "usable": False}, False, "kept"),
        ({"previous_status": "blocked", "status": "revoked", "usable": False, "apps": ()}, False, "kept"),
        # A grant that is verified anew stays usable meanwhile: only the event itself knows.
        ({"previous_status": "verifying", "previous_usable": True}, True, "kept"),
        (
            {
                "previous_status": "verifying",
                "previous_usable": True,
                "status": "revoked",
                "usable": False,
                "apps": (),
            },
            False,
            "lost",
        ),
        ({"previous_status": "granted", "previous_usable": False}, True, "gained"),
    ],
)
def test_what_a_change_means_for_an_app(change: dict[str, Any], usable: bool, access: str) -> None:
    data = data_for(told(status_event(**change)), "search")
    assert (data["usable"], data["access"]) == (usable, access)


def test_the_account_reads_of_the_grant_not_of_an_app() -> None:
    data = data_for(told(status_event(previous_status="granted", apps=())), None)
    assert (data["app_id"], data["usable"], data["access"]) == (None, True, "kept")


def test_apps_before_and_after_are_told_and_no_other() -> None:
    notice = told(status_event(apps=("search",), previous_apps=("workbench",)))
    assert sorted(notice.apps()) == ["search", "workbench"]
    assert not notice.concerns("identity-security")


def test_the_epoch_is_that_of_the_apps_slot_even_when_it_uses_another_tenant_now() -> None:
    notice = told(
        status_event(
            apps=("search",),
            previous_apps=("mobile-security", "search"),
            app_epochs={"search": 3},
            held_apps=[{"app_id": "mobile-security", "tenant_id": CONTOSO, "epoch": 9}],
        )
    )
    assert data_for(notice, "mobile-security")["epoch"] == 9
    assert data_for(notice, "search")["epoch"] == 3
    assert "epoch" not in data_for(notice, None)


def test_names_are_written_as_they_are_and_only_what_json_forbids_is_escaped() -> None:
    """The bytes of events that were told before are fixed, whatever renders them."""
    odd = "".join(map(chr, (*range(0x180), 0x2028, 0x2029, 0xFEFF, 0xFFFF, 0x1F600)))
    notice = told(event(TenantUpdated.model_validate(TENANT | {"tenant_name": f"Société {odd}"})))
    body = notice.body(None)
    compact = json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":"))
    assert body == compact.encode()
    assert json.loads(body)["data"]["tenant"]["name"] == f"Société {odd}"


def test_a_snapshot_tells_nobody_anything() -> None:
    assert notice_of(status_event(cause="snapshot")) is None


def test_types_of_other_topics_tell_nobody_anything() -> None:
    granted = PermissionGranted.model_validate(status_data().model_dump())
    assert notice_of(event(granted)) is None


def test_no_person_is_named_in_a_body() -> None:
    notice = told(status_event(granted_by="11111111-2222-3333-4444-555555555555"))
    for reader in (None, "search"):
        assert b"6e7b1c1e" not in notice.body(reader)
        assert b"11111111-2222" not in notice.body(reader)


@pytest.mark.parametrize("bad", ["a.b", "", "a\r\nwebhook-signature: x", "ü", "x" * 129, "a b"])
def test_an_id_that_can_not_be_signed_is_a_bad_record(bad: str) -> None:
    with pytest.raises(BadRecord):
        notice_of(replace(status_event(), id=bad))


def test_the_other_events_and_their_readers() -> None:
    removed = told(event(TenantRemoved.model_validate(TENANT | {"reason": "disconnected", "apps": ("search",)})))
    assert (removed.type, sorted(removed.apps())) == ("tenant.removed", ["search"])
    assert data_for(removed, "search")["access"] == "lost"
    updated = told(event(TenantUpdated.model_validate(TENANT)))
    assert (updated.type, list(updated.audiences)) == ("tenant.updated", [None])
    assert data_for(updated, None)["primary_domain"] == "contoso.com"
    failed = ConsentFailed.model_validate(
        TENANT | {"permission_set_ids": ("a",), "attempt_id": "x", "stage": "callback", "reason": "declined"}
    )
    assert data_for(told(event(failed)), None)["reason"] == "declined"


def test_a_credential_concerns_apps_alone() -> None:
    expiring = CredentialExpiring(
        registration="r", client_id="c", credential="secret 1", expires_at=OCCURRED, days_left=3, occurred_at=OCCURRED
    )
    notice = told(event(expiring))
    assert notice.platform
    assert notice.concerns("search")
    assert not notice.concerns(None)
    assert data_for(notice, "search")["app_id"] == "search"


def test_a_client_registration_concerns_apps_alone() -> None:
    failing = RegistrationStatusChanged(
        registration="r",
        client_id="c",
        status="failing",
        previous_status="working",
        error_code="AADSTS7000222",
        occurred_at=OCCURRED,
    )
    notice = told(event(failing))
    assert (notice.type, notice.platform, notice.concerns(None)) == ("registration.status_changed", True, False)
    said = data_for(notice, "search")
    assert (said["status"], said["previous_status"], said["error_code"]) == ("failing", "working", "AADSTS7000222")


def test_notices_of_our_own() -> None:
    at: datetime = OCCURRED
    test = ping(notice_id="p", at=at, subscription_id="s", app_id="search", account_id=None)
    assert json.loads(test.body("search"))["type"] == "test.ping"
    same = [
        endpoint_disabled(
            at=at, subscription_id="s", version=version, url="u", reason="failing", app_id=None, account_id="northwind"
        ).id
        for version in (3, 3, 4)
    ]
    assert same[0] == same[1] != same[2]


def test_nobody_is_told_who_it_was() -> None:
    """Of people, events hold object ids; neither what is sent nor what is kept for it holds those."""
    person = TENANT["actor"]["id"]
    data = [
        status_data(actor=TENANT["actor"]),
        TenantUpdated(**TENANT),
        TenantRemoved(**TENANT, reason="disconnected", apps=("search",)),
    ]
    for each in data:
        happened = event(each)
        assert person in encode(happened)[1].decode()
        notice = told(happened)
        assert person not in repr((notice.data, notice.audiences))
        assert not any(person in notice.body(reader).decode() for reader in notice.audiences)
