"""The admin-consent endpoint as a browser meets it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

CLIENT_WITH_TWO_RESOURCES = "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a04"
RIGHTS_MANAGEMENT = "00000012-0000-0000-c000-000000000000"


def roles_of(admin: httpx.Client, tenant: str, client: str) -> set[str]:
    response = admin.get(f"tenants/{tenant}/apps/{client}")
    return {role["value"] for role in response.json()["app_roles"]} if response.is_success else set()


def test_accepting_grants_everything_in_the_registration_and_calls_back(
    person: Any, admin: httpx.Client, ids: Any
) -> None:
    person.adminconsent(ids.contoso, state="a b&c").sign_in("admin@contoso.com")
    assert person.heading == "Permissions requested"
    for shown in ("Vision One: Read directory data", "unverified", "Read all groups", "Sign in and read user profile"):
        assert shown in person.text

    callback = person.accept().callback

    assert callback == {
        "admin_consent": "True",
        "tenant": ids.contoso,
        "scope": "https://graph.microsoft.com/User.Read https://graph.microsoft.com/.default",
        "state": "a b&c",
    }
    app = admin.get(f"tenants/{ids.contoso}/apps/{ids.client}").json()
    assert {role["value"] for role in app["app_roles"]} == {
        "Directory.Read.All",
        "Group.Read.All",
        "GroupMember.Read.All",
    }
    assert app["grants"] == [
        {
            "resource": "Microsoft Graph",
            "consent_type": "AllPrincipals",
            "principal_id": None,
            "scopes": ["User.Read", "openid", "profile"],
        }
    ]


def test_the_page_lists_the_permissions_of_every_resource(person: Any, ids: Any) -> None:
    person.adminconsent(ids.contoso, client_id=CLIENT_WITH_TWO_RESOURCES).sign_in("admin@contoso.com")

    for name in (
        "Azure Rights Management Services",
        "Microsoft Information Protection Sync Service",
        "Microsoft Graph",
    ):
        assert name in person.text
    assert 'data-permission="Content.SuperUser"' in person.text


def test_organizations_consents_in_the_home_tenant_of_the_person(person: Any, admin: httpx.Client, ids: Any) -> None:
    callback = person.adminconsent("organizations").sign_in("admin@fabrikam.com").accept().callback

    assert callback["tenant"] == ids.fabrikam
    assert roles_of(admin, ids.fabrikam, ids.client)
    assert not roles_of(admin, ids.contoso, ids.client)


def test_a_guest_administrator_consents_at_home_under_organizations_and_as_guest_in_the_named_tenant(
    people: Callable[[], Any], admin: httpx.Client, ids: Any
) -> None:
    guest = {"tenant_id": ids.fabrikam, "object_id": ids.contoso, "roles": ["Global Administrator"]}
    user = next(
        item
        for item in admin.get(f"tenants/{ids.contoso}/users").json()["items"]
        if item["user_principal_name"].startswith("admin@")
    )
    admin.patch(f"users/{user['object_id']}", json={"guest_in": [guest]}).raise_for_status()

    shared = people().adminconsent("organizations").sign_in("admin@contoso.com").accept().callback
    named = people().adminconsent(ids.fabrikam).sign_in("admin@contoso.com").accept().callback

    assert (shared["tenant"], named["tenant"]) == (ids.contoso, ids.fabrikam)


SHAPES = {
    "declined": ({"error": "access_denied", "admin_consent": "True"}, "AADSTS65004: "),
    "cancel": ({"error": "access_denied", "error_subcode": "cancel"}, ""),
    "documented": ({"error": "consent_required", "admin_consent": "True"}, "AADSTS65004: "),
    "v1": ({"error": "permission_denied"}, "The admin canceled the request"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_cancelling_calls_back_in_each_shape_that_was_seen_and_grants_nothing(
    person: Any, admin: httpx.Client, ids: Any, shape: str
) -> None:
    expected, described = SHAPES[shape]
    admin.patch("behaviour", json={"decline": shape}).raise_for_status()

    person.adminconsent(ids.contoso).sign_in("admin@contoso.com").submit("consent", decision="cancel")

    callback = person.callback
    assert callback["state"] == "st-1"
    assert "tenant" not in callback
    assert expected.items() <= callback.items()
    assert callback.get("error_description", "").startswith(described)
    if described.startswith("AADSTS"):
        assert "%0d%0aTrace+ID%3a+" in person.location
    assert not roles_of(admin, ids.contoso, ids.client)


@pytest.mark.parametrize("name", ["user@contoso.com", "reader@contoso.com"])
def test_whoever_is_not_an_administrator_is_told_so_and_can_only_go_back(
    person: Any, admin: httpx.Client, ids: Any, name: str
) -> None:
    person.adminconsent(ids.contoso).sign_in(name)
    assert person.heading == "Need admin approval"
    assert "unverified" in person.text

    callback = person.submit("consent", decision="return").callback

    assert callback == {"error": "access_denied", "error_subcode": "cancel", "state": "st-1"}
    assert not roles_of(admin, ids.contoso, ids.client)


def test_a_forced_accept_of_somebody_who_is_not_an_administrator_grants_nothing(
    person: Any, admin: httpx.Client, ids: Any
) -> None:
    person.adminconsent(ids.contoso).sign_in("user@contoso.com").accept()

    assert person.heading == "Need admin approval"
    assert not roles_of(admin, ids.contoso, ids.client)


@pytest.mark.parametrize(
    ("role", "graph_roles", "other_roles"),
    [
        ("Global Administrator", True, True),
        ("Privileged Role Administrator", True, True),
        ("Application Administrator", False, True),
        ("Cloud Application Administrator", False, True),
        ("User Administrator", False, False),
    ],
)
def test_roles_decide_what_may_be_consented_to(
    people: Callable[[], Any], admin: httpx.Client, ids: Any, role: str, *, graph_roles: bool, other_roles: bool
) -> None:
    person = {"user_principal_name": "one@contoso.com", "display_name": "One", "roles": [role]}
    admin.post(f"tenants/{ids.contoso}/users", json=person).raise_for_status()
    only_exchange = {
        "name": "exchange",
        "display_name": "Exchange only",
        "home_tenant_id": ids.home,
        "redirect_uris": [ids.callback],
        "permissions": [
            {"resource_app_id": "00000002-0000-0ff1-ce00-000000000000", "value": "Mail.Read", "type": "application"}
        ],
    }
    other = admin.post("registrations", json=only_exchange).json()["client_id"]

    for client, allowed in ((ids.client, graph_roles), (other, other_roles)):
        heading = people().adminconsent(ids.contoso, client_id=client).sign_in("one@contoso.com").heading
        assert heading == ("Permissions requested" if allowed else "Need admin approval")


def test_somebody_of_another_tenant_is_sent_back_with_50020_and_no_tenant(person: Any, ids: Any) -> None:
    callback = person.adminconsent(ids.contoso).sign_in("admin@fabrikam.com").callback

    assert callback["error"] == "access_denied"
    assert callback["error_description"].startswith("AADSTS50020: User account 'admin@fabrikam.com' from ")
    assert callback["error_uri"].endswith("/error?code=50020")
    assert callback["admin_consent"] == "True"
    assert "tenant" not in callback


def test_the_wrong_account_can_be_shown_on_a_page_first(person: Any, admin: httpx.Client, ids: Any) -> None:
    admin.patch("behaviour", json={"wrong_account": "page"}).raise_for_status()

    person.adminconsent(ids.contoso).sign_in("admin@fabrikam.com")
    assert "AADSTS50020" in person.text

    person.submit("switch").sign_in("admin@contoso.com")
    assert person.heading == "Permissions requested"


def test_a_personal_account_is_led_astray_by_the_shared_endpoint(person: Any) -> None:
    callback = person.adminconsent("organizations").sign_in("somebody@outlook.com").callback

    assert callback["error"] == "invalid_request"
    assert callback["error_description"] == "The provided request must include a 'response_type' input parameter."


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"redirect_uri": "http://localhost:8080/consent/callback/"}, 50011),
        ({"redirect_uri": "http://localhost:8080/consent/Callback"}, 50011),
        ({"redirect_uri": "http://127.0.0.1:8080/consent/callback"}, 50011),
        ({"redirect_uri": "http://localhost:8080/consent/callback?x=1"}, 50011),
        ({"redirect_uri": ""}, 900144),
        ({"client_id": ""}, 900144),
        ({"client_id": "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4aff"}, 700016),
    ],
)
def test_what_is_wrong_with_client_or_redirect_uri_is_shown_and_never_sent_back(
    person: Any, ids: Any, overrides: dict[str, str], code: int
) -> None:
    person.adminconsent(ids.contoso, **overrides)

    assert person.response.status_code == 400
    assert f"AADSTS{code}" in person.text


@pytest.mark.parametrize(("tenant", "code"), [("adatum.example", 90002), ("..", 900023), ("nowhere", 900023)])
def test_a_tenant_that_does_not_exist_is_shown_on_a_page(person: Any, tenant: str, code: int) -> None:
    person.open(f"{person._sandbox.browser}/{tenant.replace('.', '%2E')}/v2.0/adminconsent")

    assert person.response.status_code == 400
    assert f"AADSTS{code}" in person.text


@pytest.mark.parametrize(
    ("scope", "error", "code"),
    [
        ("", "invalid_request", 900144),
        ("https://graph.microsoft.com/.default https://graph.microsoft.com/User.Read", "invalid_scope", 70011),
        ("https://unknown.example/.default", "invalid_resource", 500011),
        ("https://graph.microsoft.com/Nothing.Read", "invalid_client", 650053),
    ],
)
def test_a_scope_that_cannot_be_consented_to_is_sent_back(
    person: Any, ids: Any, scope: str, error: str, code: int
) -> None:
    callback = person.adminconsent(ids.contoso, scope=scope).callback

    assert callback["error"] == error
    assert callback["error_description"].startswith(f"AADSTS{code}: ")


def test_a_dynamic_scope_grants_delegated_permissions_alone(person: Any, admin: httpx.Client, ids: Any) -> None:
    person.adminconsent(ids.contoso, scope="https://graph.microsoft.com/User.Read").sign_in("admin@contoso.com")
    assert person.accept().callback["admin_consent"] == "True"

    app = admin.get(f"tenants/{ids.contoso}/apps/{ids.client}").json()
    assert app["app_roles"] == []
    assert app["grants"][0]["scopes"] == ["User.Read"]


def test_the_v1_endpoint_needs_no_scope_and_names_none(person: Any, admin: httpx.Client, ids: Any) -> None:
    url = f"{person._sandbox.browser}/{ids.contoso}/adminconsent"
    person.open(url, client_id=ids.client, redirect_uri=ids.callback, state="s").sign_in("admin@contoso.com")

    assert person.accept().callback == {"tenant": ids.contoso, "state": "s", "admin_consent": "True"}
    assert roles_of(admin, ids.contoso, ids.client)


def test_consenting_again_takes_away_what_the_registration_no_longer_asks_for(
    consented: Any, admin: httpx.Client, ids: Any
) -> None:
    fewer = [{"resource_app_id": ids.graph_app, "value": "Group.Read.All", "type": "application"}]
    admin.patch(f"registrations/{ids.client}", json={"permissions": fewer}).raise_for_status()
    assert len(roles_of(admin, ids.contoso, ids.client)) == 3

    consented.adminconsent(ids.contoso).accept()

    assert roles_of(admin, ids.contoso, ids.client) == {"Group.Read.All"}


def test_a_resource_that_the_tenant_lacks_stops_the_consent_or_is_left_out(
    people: Callable[[], Any], admin: httpx.Client, ids: Any
) -> None:
    admin.patch(f"tenants/{ids.contoso}", json={"missing_resources": [RIGHTS_MANAGEMENT]}).raise_for_status()

    first = people().adminconsent(ids.contoso, client_id=CLIENT_WITH_TWO_RESOURCES).sign_in("admin@contoso.com")
    assert first.callback["error_description"].startswith("AADSTS650052: ")
    assert RIGHTS_MANAGEMENT in first.callback["error_description"]

    admin.patch(f"tenants/{ids.contoso}", json={"missing_resource_policy": "skip"}).raise_for_status()
    second = people().adminconsent(ids.contoso, client_id=CLIENT_WITH_TWO_RESOURCES).sign_in("admin@contoso.com")
    assert second.accept().callback["admin_consent"] == "True"
    assert roles_of(admin, ids.contoso, CLIENT_WITH_TWO_RESOURCES) == {
        "UnifiedPolicy.Tenant.Read",
        "InformationProtectionPolicy.Read.All",
        "Organization.Read.All",
    }


def test_an_armed_error_ends_the_consent_at_the_redirect_uri(person: Any, admin: httpx.Client, ids: Any) -> None:
    fault = {"kind": "error", "endpoint": "adminconsent", "code": 650051, "error": "invalid_client", "remaining": 1}
    admin.post("faults", json=fault).raise_for_status()

    callback = person.adminconsent(ids.contoso).sign_in("admin@contoso.com").callback
    assert callback["error"] == "invalid_client"
    assert callback["error_description"].startswith("AADSTS650051: ")

    assert person.adminconsent(ids.contoso).heading == "Permissions requested"


def test_a_consent_form_works_in_the_browser_it_was_made_for_alone(
    people: Callable[[], Any], admin: httpx.Client, ids: Any
) -> None:
    attacker, victim = people(), people()
    attacker.adminconsent(ids.contoso).sign_in("admin@contoso.com")
    victim.adminconsent(ids.contoso).sign_in("admin@contoso.com")

    stolen = attacker.forms["consent"]
    response = victim.client.post(
        f"{attacker._sandbox.browser}{stolen.action}", data={**stolen.fields, "decision": "accept"}
    )

    assert response.status_code == 400
    assert not roles_of(admin, ids.contoso, ids.client)
