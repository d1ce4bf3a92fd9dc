"""Microsoft Graph: bearer tokens, permissions per call, objects, pages."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Get = Callable[..., httpx.Response]
ACCOUNTS = "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a03"
CONTENT = "5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a04"


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_the_organization_is_a_list_of_one(consented: Any, graph_get: Get, ids: Any) -> None:
    body = graph_get("/organization?$select=id,displayName,verifiedDomains,tenantType").json()

    assert len(body["value"]) == 1
    found = body["value"][0]
    assert set(found) == {"id", "displayName", "verifiedDomains", "tenantType"}
    assert (found["id"], found["displayName"], found["tenantType"]) == (ids.contoso, "Contoso Ltd", "AAD")
    default = next(item for item in found["verifiedDomains"] if item["isDefault"])
    assert default["name"] == "contoso.com"


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer nonsense", "Basic eDp5", "Bearer a.b.c"])
def test_without_a_token_of_ours_nothing_opens(wire: httpx.Client, sandbox: Any, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}

    response = wire.get(f"{sandbox.graph}/v1.0/organization", headers=headers)

    assert error(response) == (401, "InvalidAuthenticationToken")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["error"]["innerError"]["request-id"] == response.headers["request-id"]


def test_a_token_for_another_resource_is_refused(person: Any, graph_get: Get, ids: Any) -> None:
    person.adminconsent(ids.contoso, client_id=CONTENT).sign_in("admin@contoso.com").accept()

    response = graph_get("/organization", client_id=CONTENT, scope="https://aadrm.com/.default")

    assert error(response) == (401, "InvalidAuthenticationToken")


def test_an_expired_token_is_refused(consented: Any, graph_get: Get, token_request: Get, admin: httpx.Client) -> None:
    admin.patch("behaviour", json={"access_token_seconds": 1}).raise_for_status()
    token = token_request().json()["access_token"]

    response = graph_get("/organization", token=token)
    while response.status_code == 200:
        response = graph_get("/organization", token=token)

    assert error(response) == (401, "InvalidAuthenticationToken")
    assert "expired" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/organization",
        "/subscribedSkus",
        "/servicePrincipals",
        "/servicePrincipals(appId='00000003-0000-0000-c000-000000000000')",
        "/servicePrincipals(appId='5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01')/appRoleAssignments",
        "/servicePrincipals(appId='5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01')/memberOf",
        "/oauth2PermissionGrants",
    ],
)
def test_calls_need_their_permissions(consented: Any, graph_get: Get, admin: httpx.Client, ids: Any, path: str) -> None:
    assert graph_get(path).status_code == 200

    app = f"tenants/{ids.contoso}/apps/{ids.client}"
    admin.delete(f"{app}/app-roles/{ids.graph_app}/Directory.Read.All").raise_for_status()

    assert error(graph_get(path)) == (403, "Authorization_RequestDenied")


def test_an_app_reads_its_own_service_principal_without_any_permission(
    consented: Any, graph_get: Get, admin: httpx.Client, ids: Any
) -> None:
    for value in ("Directory.Read.All", "Group.Read.All", "GroupMember.Read.All"):
        admin.delete(f"tenants/{ids.contoso}/apps/{ids.client}/app-roles/{ids.graph_app}/{value}").raise_for_status()

    own = graph_get(f"/servicePrincipals(appId='{ids.client}')?$select=id,appId,accountEnabled,appOwnerOrganizationId")

    assert own.json()["accountEnabled"] is True
    assert own.json()["appOwnerOrganizationId"] == ids.home
    assert graph_get(f"/servicePrincipals/{own.json()['id']}").json()["appId"] == ids.client


def test_assignments_name_resources_by_their_object_id_in_the_tenant(consented: Any, graph_get: Get, ids: Any) -> None:
    own = graph_get(f"/servicePrincipals(appId='{ids.client}')").json()
    graph = graph_get(f"/servicePrincipals(appId='{ids.graph_app}')?$select=id,appRoles").json()

    assignments = graph_get(f"/servicePrincipals/{own['id']}/appRoleAssignments").json()["value"]

    names = {role["id"]: role["value"] for role in graph["appRoles"]}
    assert {names[item["appRoleId"]] for item in assignments} == {
        "Directory.Read.All",
        "Group.Read.All",
        "GroupMember.Read.All",
    }
    assert {item["resourceId"] for item in assignments} == {graph["id"]}
    assert {item["principalId"] for item in assignments} == {own["id"]}
    assert set(assignments[0]) == {
        *("id", "deletedDateTime", "appRoleId", "createdDateTime", "principalDisplayName", "principalId"),
        *("principalType", "resourceDisplayName", "resourceId"),
    }


def test_lists_come_in_pages(consented: Any, graph_get: Get, admin: httpx.Client, wire: httpx.Client, ids: Any) -> None:
    admin.patch("behaviour", json={"graph_page_size": 2}).raise_for_status()
    first = graph_get(f"/servicePrincipals(appId='{ids.client}')/appRoleAssignments?$select=appRoleId")
    bearer = {"Authorization": first.request.headers["authorization"]}

    body, seen = first.json(), list(first.json()["value"])
    assert len(seen) == 2
    while "@odata.nextLink" in body:
        body = wire.get(body["@odata.nextLink"], headers=bearer).json()
        seen += body["value"]

    assert len(seen) == 3
    assert all(set(item) == {"appRoleId"} for item in seen)


def test_delegated_grants_are_found_by_client_and_kind(consented: Any, graph_get: Get, ids: Any) -> None:
    own = graph_get(f"/servicePrincipals(appId='{ids.client}')").json()["id"]

    for kind, count in (("AllPrincipals", 1), ("Principal", 0)):
        query = f"$filter=clientId eq '{own}' and consentType eq '{kind}'"
        found = graph_get(f"/oauth2PermissionGrants?{query}").json()["value"]
        assert len(found) == count
        assert all(item["scope"] == "User.Read openid profile" for item in found)


def test_held_back_roles_are_not_to_be_seen_here_either(
    person: Any, graph_get: Get, admin: httpx.Client, ids: Any
) -> None:
    admin.patch(f"tenants/{ids.contoso}", json={"propagation": {"hold": True}}).raise_for_status()
    person.adminconsent(ids.contoso).sign_in("admin@contoso.com").accept()
    admin.patch(
        f"tenants/{ids.contoso}/apps/{ids.client}", json={"directory_roles": ["Global Reader"]}
    ).raise_for_status()

    assert graph_get(f"/servicePrincipals(appId='{ids.client}')/appRoleAssignments").json()["value"] == []


def test_directory_roles_of_the_service_principal_are_listed_and_let_it_read(
    person: Any, graph_get: Get, admin: httpx.Client, ids: Any
) -> None:
    person.adminconsent(ids.contoso, client_id=ACCOUNTS).sign_in("admin@contoso.com").accept()
    roles = {"directory_roles": ["Password Administrator", "Global Reader"]}
    admin.patch(f"tenants/{ids.contoso}/apps/{ACCOUNTS}", json=roles).raise_for_status()

    found = graph_get(f"/servicePrincipals(appId='{ACCOUNTS}')/memberOf", client_id=ACCOUNTS).json()["value"]

    assert [(item["displayName"], item["roleTemplateId"]) for item in found] == [
        ("Password Administrator", "966707d0-3269-4727-9be2-8c3a10f19b9d"),
        ("Global Reader", "f2ef992c-3afb-46b9-b7cf-a126ee74c451"),
    ]
    assert all(item["@odata.type"] == "#microsoft.graph.directoryRole" for item in found)


def test_licences_are_listed_with_their_plans(consented: Any, graph_get: Get, admin: httpx.Client, ids: Any) -> None:
    admin.patch(f"tenants/{ids.contoso}", json={"licences": ["O365_BUSINESS_PREMIUM"]}).raise_for_status()

    found = graph_get("/subscribedSkus").json()["value"]

    assert [item["skuPartNumber"] for item in found] == ["O365_BUSINESS_PREMIUM"]
    assert "AAD_PREMIUM" not in [plan["servicePlanName"] for plan in found[0]["servicePlans"]]


def test_a_registration_reads_itself_in_its_home_tenant(graph_get: Get, admin: httpx.Client, ids: Any) -> None:
    admin.patch(f"registrations/{ids.client}", json={"group_membership_claims": "None"}).raise_for_status()

    found = graph_get(f"/applications(appId='{ids.client}')", tenant=ids.home).json()

    assert found["web"]["redirectUris"] == [ids.callback, ids.proof]
    assert found["groupMembershipClaims"] is None
    assert found["signInAudience"] == "AzureADMultipleOrgs"
    assert found["passwordCredentials"][0]["secretText"] is None
    access = found["requiredResourceAccess"][0]
    assert {"id": "7ab1d382-f21e-4acd-a863-ba3e13f7da61", "type": "Role"} in access["resourceAccess"]


def test_a_registration_is_not_to_be_found_in_a_customers_tenant(consented: Any, graph_get: Get, ids: Any) -> None:
    assert error(graph_get(f"/applications(appId='{ids.client}')")) == (404, "Request_ResourceNotFound")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/servicePrincipals(appId='5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a02')", (404, "Request_ResourceNotFound")),
        ("/organization?$select=id,nonsense", (400, "BadRequest")),
        ("/servicePrincipals?$filter=startswith(appId,'5')", (400, "Request_UnsupportedQuery")),
        ("/servicePrincipals?$top=0", (400, "Request_BadRequest")),
        ("/nonsense", (400, "BadRequest")),
    ],
)
def test_requests_that_make_no_sense(consented: Any, graph_get: Get, path: str, expected: tuple[int, str]) -> None:
    assert error(graph_get(path)) == expected


def test_a_person_with_user_read_sees_the_organization(
    consented: Any, token_request: Get, graph_get: Get, ids: Any
) -> None:
    code = consented.authorize(ids.contoso, prompt="none", scope="openid User.Read").callback["code"]
    token = token_request(grant_type="authorization_code", code=code, redirect_uri=ids.proof, scope="").json()

    assert graph_get("/organization", token=token["access_token"]).status_code == 200
    assert error(graph_get("/servicePrincipals", token=token["access_token"])) == (403, "Authorization_RequestDenied")
