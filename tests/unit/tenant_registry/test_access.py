"""Who may read what: the table of roles."""

import pytest

from shared.auth import Principal
from shared.problems import Problem
from tenant_registry.access import Scope, require_app, scope_of


def principal(*roles: str, account_id: str | None = "northwind", app_id: str | None = None) -> Principal:
    return Principal(
        subject="s", account_id=account_id, account_name=None, app_id=app_id, roles=frozenset(roles), expires_at=0
    )


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_people_read_within_their_account(role: str) -> None:
    assert scope_of(principal(role)) == Scope(account_id="northwind")
    assert scope_of(principal(role), account_id="northwind") == Scope(account_id="northwind")


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_another_account_does_not_exist_for_them(role: str) -> None:
    with pytest.raises(Problem) as caught:
        scope_of(principal(role), account_id="adatum")
    assert caught.value.status == 404


def test_staff_read_across_accounts_and_may_name_one() -> None:
    staff = principal("staff", account_id=None)
    assert scope_of(staff) == Scope(account_id=None)
    assert scope_of(staff, account_id="adatum") == Scope(account_id="adatum")


def test_an_app_reads_itself_over_all_accounts_whatever_account_its_token_names() -> None:
    app = principal("app", app_id="search")
    assert scope_of(app) == Scope(account_id=None, app_id="search")
    assert scope_of(app, account_id="adatum") == Scope(account_id="adatum", app_id="search")


def test_a_token_without_a_role_that_reads_is_refused() -> None:
    with pytest.raises(Problem) as caught:
        scope_of(principal("auditor"))
    assert caught.value.status == 403


def test_an_app_asks_for_itself_only() -> None:
    require_app(Scope(account_id=None, app_id="search"), "search")
    require_app(Scope(account_id="northwind"), "search")
    with pytest.raises(Problem) as caught:
        require_app(Scope(account_id=None, app_id="search"), "workbench")
    assert caught.value.status == 403
