"""Who may consent to what."""

import pytest

from entra_sandbox.model import GRAPH_APP_ID, PermissionType, RequiredPermission
from entra_sandbox.roles import MEMBER_WID, TEMPLATE_IDS, may_consent, wids

GRAPH_ROLE = RequiredPermission(resource_app_id=GRAPH_APP_ID, value="User.Read.All")
GRAPH_SCOPE = RequiredPermission(resource_app_id=GRAPH_APP_ID, value="User.Read", type=PermissionType.DELEGATED)
OTHER_ROLE = RequiredPermission(resource_app_id="00000002-0000-0ff1-ce00-000000000000", value="Mail.Read")


@pytest.mark.parametrize(
    ("roles", "permissions", "allowed"),
    [
        (["Global Administrator"], [GRAPH_ROLE, OTHER_ROLE, GRAPH_SCOPE], True),
        (["Privileged Role Administrator"], [GRAPH_ROLE], True),
        (["Application Administrator"], [OTHER_ROLE, GRAPH_SCOPE], True),
        (["Application Administrator"], [OTHER_ROLE, GRAPH_ROLE], False),
        (["Cloud Application Administrator"], [GRAPH_SCOPE], True),
        (["Cloud Application Administrator"], [GRAPH_ROLE], False),
        (["Global Reader", "User Administrator"], [GRAPH_SCOPE], False),
        ([], [GRAPH_SCOPE], False),
    ],
)
def test_who_may_consent(roles: list[str], permissions: list[RequiredPermission], *, allowed: bool) -> None:
    assert may_consent(roles, permissions) is allowed


def test_wids_are_template_ids_and_say_that_somebody_is_a_member() -> None:
    assert wids(["Global Reader"]) == [TEMPLATE_IDS["Global Reader"], MEMBER_WID]
    assert wids([], guest=True) == []
