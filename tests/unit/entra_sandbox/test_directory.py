"""Tenants by name, consent, propagation."""

from collections.abc import Callable
from pathlib import Path

import pytest

from entra_sandbox import seed
from entra_sandbox.directory import Directory
from entra_sandbox.errors import EntraError
from entra_sandbox.model import (
    GRAPH_APP_ID,
    Guest,
    PermissionType,
    Propagation,
    Registration,
    RequiredPermission,
    ServicePrincipal,
    Tenant,
)
from entra_sandbox.store import Store


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", 900023),
        ("..", 900023),
        ("x?y=1", 900023),
        ("a/b", 900023),
        ("contoso com", 900023),
        ("-.com", 900023),
        ("00000000-0000-0000-0000-000000000000", 90002),
        ("8f4c1a526d0e4f2b9a315b7e0c9d2a10", 900023),
        ("adatum.example", 90002),
    ],
)
def test_what_names_no_tenant_is_refused(directory: Directory, name: str, code: int) -> None:
    with pytest.raises(EntraError) as caught:
        directory.authority(name)

    assert caught.value.code == code


def test_shared_names_are_known_in_any_case(directory: Directory) -> None:
    assert directory.authority("Organizations") == "organizations"


def visible(directory: Directory, tenant: Tenant, registration: Registration) -> list[str]:
    item = directory.principal(tenant.id, registration.client_id)
    return directory.roles_for(item, directory.resources[GRAPH_APP_ID]) if item else []


def slow(directory: Directory, tenant: Tenant, **delay: object) -> Tenant:
    changed = tenant.model_copy(update={"propagation": Propagation.model_validate(delay)})
    return directory.tenants.put(tenant.id, changed)


def test_roles_show_up_in_the_order_of_the_registration_each_a_step_after_the_other(
    directory: Directory, contoso: Tenant, registration: Registration, move: Callable[[float], None]
) -> None:
    tenant = slow(directory, contoso, delay_seconds=10, step_seconds=5)
    directory.grant(tenant, registration, registration.permissions)

    seen = []
    for _ in range(5):
        seen.append(len(visible(directory, tenant, registration)))
        move(5)

    assert seen == [0, 0, 1, 2, 3]


def test_a_second_consent_does_not_hide_what_is_visible(
    directory: Directory, contoso: Tenant, registration: Registration
) -> None:
    directory.grant(contoso, registration, registration.permissions)
    tenant = slow(directory, contoso, hold=True)

    again = directory.grant(tenant, registration, registration.permissions)

    assert len(visible(directory, tenant, registration)) == 3
    assert len(again.assignments) == 3


def test_replacing_takes_away_what_is_no_longer_asked_for(
    directory: Directory, contoso: Tenant, registration: Registration
) -> None:
    one = RequiredPermission(resource_app_id=GRAPH_APP_ID, value="Group.Read.All")
    scope = RequiredPermission(resource_app_id=GRAPH_APP_ID, value="email", type=PermissionType.DELEGATED)
    directory.grant(contoso, registration, registration.permissions)

    added = directory.grant(contoso, registration, (scope,), replace=False)
    assert len(added.assignments) == 3
    assert added.grants[0].scopes == ("User.Read", "openid", "profile", "email")

    replaced = directory.grant(contoso, registration, (one, scope))
    assert visible(directory, contoso, registration) == ["Group.Read.All"]
    assert replaced.grants[0].scopes == ("email",)


def test_a_persons_own_grant_survives_that_of_an_administrator(
    directory: Directory, contoso: Tenant, registration: Registration
) -> None:
    person = directory.people_of(contoso.id)[1].object_id
    scope = RequiredPermission(resource_app_id=GRAPH_APP_ID, value="email", type=PermissionType.DELEGATED)
    directory.grant_to_person(contoso, registration, (scope,), person)

    item = directory.grant(contoso, registration, registration.permissions)

    assert [grant.consent_type for grant in item.grants] == ["AllPrincipals", "Principal"]
    assert (GRAPH_APP_ID, "email") in directory.scopes_granted(item, person)
    assert (GRAPH_APP_ID, "email") not in directory.scopes_granted(item, contoso.id)


def test_a_late_service_principal_is_hidden_until_its_delay_is_over(
    directory: Directory, contoso: Tenant, registration: Registration, move: Callable[[float], None]
) -> None:
    tenant = slow(directory, contoso, delay_seconds=1, service_principal=True)
    directory.grant(tenant, registration, registration.permissions)

    assert directory.principal(tenant.id, registration.client_id) is None
    move(1)
    assert isinstance(directory.principal(tenant.id, registration.client_id), ServicePrincipal)


def test_releasing_counts_over_all_apps_of_the_tenant(
    directory: Directory, contoso: Tenant, registration: Registration
) -> None:
    tenant = slow(directory, contoso, hold=True)
    other = directory.registration("5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a03")
    assert other
    for item in (registration, other):
        directory.grant(tenant, item, item.permissions)

    assert directory.release(tenant.id, count=4) == 4
    assert (len(visible(directory, tenant, registration)), len(visible(directory, tenant, other))) == (3, 1)
    assert directory.release(tenant.id, client_id=registration.client_id) == 0
    assert directory.release(tenant.id) == 2


def test_a_guest_is_a_member_with_another_id(directory: Directory, contoso: Tenant, fabrikam: Tenant) -> None:
    user = directory.user_by_name("admin@contoso.com")
    assert user
    guest = Guest(tenant_id=fabrikam.id, object_id="00000000-0000-0000-0000-000000000001", roles=("Global Reader",))
    invited = user.model_copy(update={"guest_in": (guest,)})

    member = directory.member(invited, fabrikam)

    assert directory.member(user, fabrikam) is None
    assert member
    assert (member.object_id, member.roles, member.guest) == (guest.object_id, ("Global Reader",), True)


def test_what_was_deleted_from_the_seed_stays_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite3")
    packaged = seed.load(None)
    first = Directory(store, packaged)
    gone = packaged.tenants[0].id
    first.delete_tenant(gone)
    store.close()

    again = Directory(Store(tmp_path / "state.sqlite3"), packaged)

    assert again.tenants.get(gone) is None
    assert again.people_of(gone) == []
    assert len(again.tenants.values()) == len(packaged.tenants) - 1
