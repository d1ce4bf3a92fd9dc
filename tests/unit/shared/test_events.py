"""Events on the wire: what is written is read again; what isn't an event is refused with a reason, without its data."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.events import (
    EVENT_TYPES,
    GATEWAY,
    PLATFORM_KEY,
    REGISTRY,
    BadRecord,
    ConsentFailed,
    CredentialExpiring,
    Event,
    EventData,
    PermissionGranted,
    PermissionRevoked,
    TenantUpdated,
    UnknownType,
    canonical_tenant_id,
    decode,
    derived_event,
    encode,
    new_event,
)
from support.consent_events import ACCOUNT, ADMINISTRATOR, CONTOSO, at, event, grant_event, tenant_event

Headers = list[tuple[str, Any]]


def wire(**changes: Any) -> tuple[Headers, bytes]:
    """A good record, with headers changed, added, or (None) left out."""
    _, value, headers = encode(event(grant_event()))
    merged = dict(headers) | changes
    return [(name, text) for name, text in merged.items() if text is not None], value


@settings(deadline=None)
@given(
    revision=st.integers(1, 2**53),
    tenant_name=st.none() | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    status=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    epochs=st.dictionaries(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(0, 2**31)),
    when=st.datetimes(
        min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
        max_value=datetime(8999, 12, 30),  # noqa: DTZ001 - as above
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
    ),
)
def test_what_is_written_is_read_again(
    revision: int, tenant_name: str | None, status: str, epochs: dict[str, int], when: datetime
) -> None:
    data = grant_event(revision=revision, tenant_name=tenant_name, status=status, app_epochs=epochs, occurred_at=at(1))
    written = Event(id="1", source=GATEWAY, time=when, data=data)
    _, value, headers = encode(written)
    assert decode(headers, value) == written


def test_the_envelope_is_cloudevents_in_binary_mode() -> None:
    happened = event(grant_event())
    key, value, headers = encode(happened)
    assert key == f"{ACCOUNT}:{CONTOSO}".encode()
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": happened.id.encode(),
        "ce_source": b"/consent-gateway",
        "ce_type": b"visionone.entra.PermissionGranted.v1",
        "ce_time": happened.time.isoformat().encode(),
        "ce_subject": f"{CONTOSO}/read-directory-data".encode(),
        "content-type": b"application/json",
    }
    assert json.loads(value)["status"] == "granted"


FAILED = {
    "account_id": ACCOUNT,
    "permission_set_ids": ["read-directory-data"],
    "attempt_id": "a-1",
    "stage": "callback",
    "reason": "declined",
    "actor": ADMINISTRATOR,
    "occurred_at": at(1),
}
EXPIRING = CredentialExpiring(
    registration="r", client_id="c", credential="secret 2026", expires_at=at(1), days_left=7, occurred_at=at(1)
)


@pytest.mark.parametrize(
    ("data", "key", "subject"),
    [
        (tenant_event(TenantUpdated), f"{ACCOUNT}:{CONTOSO}", CONTOSO),
        (ConsentFailed.model_validate(FAILED | {"tenant_id": CONTOSO}), f"{ACCOUNT}:{CONTOSO}", None),
        (ConsentFailed.model_validate(FAILED), f"{ACCOUNT}:-", None),
        (EXPIRING, PLATFORM_KEY, None),
    ],
)
def test_keys_and_subjects(data: EventData, key: str, subject: str | None) -> None:
    written_key, _, headers = encode(event(data))
    assert written_key.decode() == key
    assert dict(headers).get("ce_subject") == (subject.encode() if subject else None)


def test_fields_and_headers_of_the_future_are_ignored() -> None:
    headers, value = wire(ce_traceparent=b"00-1", other=b"\xff")
    grown = json.dumps(json.loads(value) | {"new_field": {"deep": 1}}).encode()
    assert decode(headers, grown).data == grant_event()


def test_a_type_of_the_future_is_told_apart_from_a_bad_record() -> None:
    headers, value = wire(ce_type=b"visionone.entra.PermissionGranted.v2")
    with pytest.raises(UnknownType):
        decode(headers, value)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"ce_specversion": b"0.3"}, "ce_specversion is not 1.0"),
        ({"ce_specversion": None}, "ce_specversion is not 1.0"),
        ({"ce_id": None, "ce_type": b""}, "missing header ce_id, ce_type"),
        ({"ce_source": None}, "missing header ce_source"),
        ({"ce_time": b"2026-11-23T13:00:00"}, "ce_time has no zone"),
        ({"ce_time": b"now"}, "ce_time is not a timestamp"),
        ({"ce_time": b"0001-01-01T00:00:00+14:00"}, "ce_time is not between the years 1970 and 9000"),
        ({"ce_time": b"9999-12-31T23:59:59-14:00"}, "ce_time is not between the years 1970 and 9000"),
        ({"ce_id": b"\xff"}, "header ce_id is not UTF-8"),
    ],
)
def test_a_bad_envelope_is_refused(headers: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRecord, match=reason):
        decode(*wire(**headers))


def test_headers_without_a_value_and_headers_twice_are_refused() -> None:
    headers, value = wire()
    empty: Any = ("ce_extra", None)
    with pytest.raises(BadRecord, match="ce_extra has no value"):
        decode([*headers, empty], value)
    with pytest.raises(BadRecord, match="ce_id appears twice"):
        decode([*headers, ("ce_id", b"2")], value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value"),
        (b"", "Invalid JSON"),
        (b"[]", "should be an object"),
        (b"\xff", "Invalid JSON"),
        (b'{"a": NaN', "Invalid JSON"),
        (b'{"account_id": "northwind"}', "tenant_id: Field required"),
    ],
)
def test_a_bad_body_is_refused(value: bytes | None, reason: str) -> None:
    with pytest.raises(BadRecord, match=reason):
        decode(wire()[0], value)


@pytest.mark.parametrize(
    "changes",
    [
        {"account_id": "Northwind"},
        {"tenant_id": CONTOSO.upper()},
        {"permission_set_id": "$where"},
        {"permission_set_id": "a.b"},
        {"revision": 0},
        {"revision": "many"},
        {"revision": 2**63},
        {"previous_revision": -(2**63) - 1},
        {"version": 10**400},
        {"app_epochs": {"search": 2**63}},
        {"held_apps": [{"app_id": "search", "tenant_id": CONTOSO, "epoch": 2**70}]},
        {"occurred_at": "2026-11-23T13:00:00"},
        {"occurred_at": "0001-01-01T00:00:00+14:00"},
        {"granted_at": "9999-12-31T23:59:59-14:00"},
        {"usable": "maybe"},
        {"apps": "search"},
        {"actor": {"kind": "stranger", "id": "1"}},
    ],
)
def test_data_of_another_form_is_refused_without_being_repeated(changes: dict[str, Any]) -> None:
    headers, value = wire()
    with pytest.raises(BadRecord) as caught:
        decode(headers, json.dumps(json.loads(value) | changes).encode())
    ((field, wrong),) = changes.items()
    assert str(caught.value).startswith(field)
    if isinstance(wrong, str):
        assert wrong not in str(caught.value)


def test_a_derived_event_has_the_same_id_whenever_it_is_derived() -> None:
    cause = event(grant_event())
    first, again = (derived_event(cause.id, REGISTRY, cause.time, grant_event()) for _ in range(2))
    assert first == again
    others = {
        derived_event("another", REGISTRY, cause.time, grant_event()).id,
        derived_event(cause.id, REGISTRY, cause.time, grant_event(PermissionRevoked)).id,
        cause.id,
    }
    assert first.id not in others
    assert len(others) == 3


def test_a_new_event_has_an_id_of_its_own() -> None:
    assert new_event(GATEWAY, grant_event()).id != new_event(GATEWAY, grant_event()).id


def test_every_type_can_be_written_by_name() -> None:
    assert EVENT_TYPES["visionone.entra.PermissionGranted.v1"] is PermissionGranted
    assert all(name == f"visionone.entra.{kind.type_name}.v1" for name, kind in EVENT_TYPES.items())


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (CONTOSO, CONTOSO),
        (CONTOSO.upper(), CONTOSO),
        (f"{{{CONTOSO}}}", None),
        (CONTOSO.replace("-", ""), None),
        (f"urn:uuid:{CONTOSO}", None),
        ("00000000-0000-0000-0000-000000000000", None),
        ("contoso.com", None),
        ("", None),
    ],
)
def test_a_tenant_id_is_a_guid_in_its_usual_form(text: str, canonical: str | None) -> None:
    assert canonical_tenant_id(text) == canonical
