"""The packaged seed: the sets of the product, with the ids of the real directory."""

import pytest

from entra_sandbox import seed
from entra_sandbox.model import PermissionType

SETS = {
    "read-directory-data": (3, {"User.Read"}),
    "read-activity-data": (17, {"User.Read"}),
    "manage-accounts": (3, set()),
    "read-protected-content": (4, {"User.Read"}),
    "read-saas-posture": (20, set()),
}


@pytest.mark.parametrize("name", SETS)
def test_each_set_has_its_permissions_and_those_that_the_sign_in_needs(name: str) -> None:
    registration = next(item for item in seed.load(None).registrations if item.name == name)
    application = [item for item in registration.permissions if item.type is PermissionType.APPLICATION]
    delegated = {item.value for item in registration.permissions if item.type is PermissionType.DELEGATED}

    assert (len(application), delegated) == (SETS[name][0], SETS[name][1] | {"openid", "profile"})


def test_every_customer_has_an_administrator_a_user_and_a_reader() -> None:
    packaged = seed.load(None)
    roles = {user.user_principal_name: user.roles for user in packaged.users}

    for domain in ("contoso.com", "fabrikam.com"):
        assert roles[f"admin@{domain}"] == ("Global Administrator",)
        assert roles[f"user@{domain}"] == ()
        assert roles[f"reader@{domain}"] == ("Global Reader",)


def test_ids_and_names_are_unique() -> None:
    packaged = seed.load(None)

    for resource in packaged.resources:
        assert len({item.id for item in resource.permissions}) == len(resource.permissions)
        assert len({(item.value, item.type) for item in resource.permissions}) == len(resource.permissions)
    identifiers = [name for resource in packaged.resources for name in resource.identifiers]
    assert len(set(identifiers)) == len(identifiers)
