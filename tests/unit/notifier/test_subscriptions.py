"""What a subscription wants."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifier.notifications import Notice, endpoint_disabled, notice_of, ping
from notifier.subscriptions import OLD_NEWS, Owner, StoredSecret, Subscription, recipients
from shared.events import ConsentFailed, CredentialExpiring
from support.status_events import OCCURRED, event, status_event

NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


def subscription(**fields: Any) -> Subscription:
    values: dict[str, Any] = {
        "id": "s1",
        "owner": Owner(app_id="search"),
        "url": "https://example.com",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Subscription(**values | fields)


def status(**changes: Any) -> Notice:
    notice = notice_of(status_event(**changes))
    assert notice is not None
    return notice


ACCOUNT = {"owner": Owner(account_id="northwind")}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, True),
        ({"owner": Owner(app_id="workbench")}, False),
        ({"enabled": False}, False),
        ({"event_types": frozenset({"permission.status_changed"})}, True),
        ({"event_types": frozenset({"tenant.removed"})}, False),
        ({"permission_set_ids": frozenset({"read-directory-data", "manage-accounts"})}, True),
        ({"permission_set_ids": frozenset({"manage-accounts"})}, False),
        ({"paused": True}, True),
        ({"account_ids": frozenset({"northwind"})}, True),
        ({"account_ids": frozenset({"adatum"})}, False),
        (ACCOUNT, True),
        ({"owner": Owner(account_id="adatum")}, False),
    ],
)
def test_a_status_change(fields: dict[str, Any], wanted: bool) -> None:
    notice = status()
    assert subscription(**fields).wants(notice) is wanted
    assert [found.id for _, found in recipients([notice], [subscription(**fields)])] == (["s1"] if wanted else [])


def test_another_accounts_change_reaches_an_app_but_no_other_account() -> None:
    notice = status(account_id="adatum")
    assert subscription().wants(notice)
    assert not subscription(**ACCOUNT).wants(notice)


def test_a_credential_is_told_to_apps_that_asked_for_it() -> None:
    notice = notice_of(
        event(
            CredentialExpiring(
                registration="r", client_id="c", credential="k", expires_at=OCCURRED, days_left=1, occurred_at=OCCURRED
            )
        )
    )
    assert notice is not None
    asked = subscription(id="asked", event_types=frozenset({"credential.expiring"}))
    account = subscription(id="account", event_types=frozenset({"credential.expiring"}), **ACCOUNT)
    found = recipients([notice], [asked, account, subscription()])
    assert [each.id for _, each in found] == ["asked"]


def test_a_test_goes_to_nobody_by_itself() -> None:
    notice = ping(notice_id="p", at=NOW, subscription_id="s1", app_id="search", account_id=None)
    assert recipients([notice], [subscription(), subscription(id="s2")]) == []


def test_a_disabled_endpoint_is_told_of_at_the_owners_others() -> None:
    notice = endpoint_disabled(
        at=NOW, subscription_id="s1", version=1, url="u", reason="failing", app_id="search", account_id=None
    )
    others = [subscription(), subscription(id="s2"), subscription(id="s3", owner=Owner(app_id="workbench"))]
    assert [each.id for _, each in recipients([notice], others)] == ["s2"]


def test_an_apps_account_filter_does_not_hide_its_own_endpoints() -> None:
    notice = endpoint_disabled(
        at=NOW, subscription_id="s1", version=1, url="u", reason="failing", app_id="search", account_id=None
    )
    assert subscription(id="s2", account_ids=frozenset({"northwind"})).wants(notice)


def test_a_filter_by_permission_set_lets_through_what_is_about_none_and_what_is_about_one_of_several() -> None:
    narrow = subscription(permission_set_ids=frozenset({"manage-accounts"}))
    about_none = endpoint_disabled(
        at=NOW, subscription_id="other", version=1, url="u", reason="failing", app_id="search", account_id=None
    )
    assert narrow.wants(about_none)
    failed: dict[str, Any] = {"account_id": "northwind", "stage": "proof", "reason": "declined", "apps": ("search",)}
    failed |= {"attempt_id": "a", "actor": {"kind": "administrator", "id": "6e7b1c1e-0f0a-4c0e-8f57-3c1f6a2d9b04"}}
    for sets, wanted in ((("read-directory-data",), False), (("read-directory-data", "manage-accounts"), True)):
        data = ConsentFailed.model_validate({**failed, "permission_set_ids": sets, "occurred_at": OCCURRED})
        notice = notice_of(event(data))
        assert notice is not None
        assert narrow.wants(notice) is wanted


def test_who_subscribes_hears_from_about_then_on() -> None:
    assert subscription().hears(NOW - timedelta(days=300))
    young = subscription(hears_from=NOW)
    assert young.hears(NOW)
    assert young.hears(NOW - OLD_NEWS)
    assert not young.hears(NOW - OLD_NEWS - timedelta(seconds=1))


def test_secrets_sign_until_they_end() -> None:
    new, old = StoredSecret(sealed=b"new", created_at=NOW), StoredSecret(sealed=b"old", created_at=NOW, expires_at=NOW)
    both = subscription(secrets=(new, old))
    assert both.live_secrets(NOW - timedelta(seconds=1)) == (new, old)
    assert both.live_secrets(NOW) == (new,)
