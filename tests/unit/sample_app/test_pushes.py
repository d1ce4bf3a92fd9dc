"""What a good receiver makes of a push."""

import json
from typing import Any

import pytest

from sample_app.pushes import Known, Push, StatusChanged, TenantChange, Verdict, judge, read

TENANT = {"id": "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10", "name": "Contoso Ltd"}
STATUS: dict[str, Any] = {
    "account_id": "northwind",
    "tenant": TENANT,
    "app_id": "identity-security",
    "permission_set_id": "read-directory-data",
    "previous_status": None,
    "status": "granted",
    "usable": True,
    "access": "gained",
    "reason": None,
    "permissions": [],
    "missing": [],
    "revision": 100,
}


def body(kind: str = "permission.status_changed", **changes: Any) -> bytes:
    data = {**STATUS, **changes}
    return json.dumps({"type": kind, "timestamp": "2026-11-23T12:00:00Z", "data": data}).encode()


def status(**changes: Any) -> Push:
    return read(body(**changes))


def test_a_push_is_read() -> None:
    push = status(missing=[{"resource_app_id": "r", "value": "User.Read.All", "type": "application"}], unheard_of=1)

    assert isinstance(push.change, StatusChanged)
    assert (push.type, push.change.revision, push.change.epoch) == ("permission.status_changed", 100, None)
    assert [permission.value for permission in push.change.missing] == ["User.Read.All"]


def test_types_and_statuses_from_the_future_are_borne() -> None:
    assert read(body("permission.reviewed")) == Push("permission.reviewed", None)
    assert isinstance(status(status="expiring_soon").change, StatusChanged)
    assert isinstance(read(body("tenant.removed")).change, TenantChange)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"null",
        b"{}",
        b'{"type": "test.ping", "timestamp": "x", "data": []}',
        body(revision="soon"),
        body(revision=-1),
        body(revision=2**63),
        body(epoch=2**63),
        body(tenant=None),
        body(usable=None),
        body("tenant.updated", revision=None),
        b"[" * 100_000,
    ],
)
def test_another_form_is_an_error_and_nothing_worse(bad: bytes) -> None:
    with pytest.raises(ValueError, match=": "):
        read(bad)


REMOVED = read(body("tenant.removed"))
RENAMED = read(body("tenant.updated"))


@pytest.mark.parametrize(
    ("push", "known", "verdict"),
    [
        (status(), Known(), Verdict.APPLIED),
        (status(), Known(grant_revision=99), Verdict.APPLIED),
        (status(), Known(grant_revision=100), Verdict.STALE_REVISION),
        (status(), Known(grant_revision=101), Verdict.STALE_REVISION),
        (status(), Known(removed_revision=101), Verdict.STALE_REVISION),
        (status(), Known(removed_revision=99), Verdict.APPLIED),
        (status(), Known(name_revision=101), Verdict.APPLIED),
        (status(), Known(slot_epoch=5), Verdict.APPLIED),
        (status(epoch=5), Known(slot_epoch=4), Verdict.APPLIED),
        (status(epoch=5), Known(slot_epoch=5), Verdict.APPLIED),
        (status(epoch=5), Known(slot_epoch=6), Verdict.STALE_EPOCH),
        (status(epoch=5, usable=False, access="lost"), Known(slot_epoch=6), Verdict.APPLIED),
        (status(epoch=5), Known(slot_epoch=6, grant_revision=100), Verdict.STALE_REVISION),
        (RENAMED, Known(), Verdict.APPLIED),
        (RENAMED, Known(grant_revision=500), Verdict.APPLIED),
        (RENAMED, Known(name_revision=100), Verdict.STALE_REVISION),
        (RENAMED, Known(removed_revision=100), Verdict.STALE_REVISION),
        (REMOVED, Known(grant_revision=500, name_revision=500), Verdict.APPLIED),
        (REMOVED, Known(removed_revision=100), Verdict.STALE_REVISION),
        (Push("test.ping", None), Known(grant_revision=500), Verdict.NOTED),
    ],
)
def test_only_news_is_applied(push: Push, known: Known, verdict: Verdict) -> None:
    assert judge(push, known) is verdict
