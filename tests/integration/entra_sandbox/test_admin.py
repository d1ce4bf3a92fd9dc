"""The admin API and its pages: everything that tests and demos change."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest


def test_a_new_tenant_has_people_who_can_consent(person: Any, admin: httpx.Client, ids: Any) -> None:
    wanted = {"display_name": "Northwind Traders", "domains": ["northwind.example"]}
    tenant = admin.post("tenants", json=wanted).json()["id"]

    callback = person.adminconsent("northwind.example").sign_in("admin@northwind.example").accept().callback

    assert callback["tenant"] == tenant


def test_many_tenants_are_made_at_once_and_only_once(admin: httpx.Client, token_request: Any, ids: Any) -> None:
    wanted = {"count": 50, "prefix": "fleet", "consented": [ids.client]}

    first, second = (admin.post("tenant-batches", json=wanted).json()["items"] for _ in range(2))

    assert first == second
    assert len(set(first)) == 50
    assert token_request(first[49]).status_code == 200


def test_a_person_with_another_role_can_be_made_changed_and_deleted(
    people: Callable[[], Any], admin: httpx.Client, ids: Any
) -> None:
    wanted = {"user_principal_name": "pra@contoso.com", "display_name": "P", "roles": ["Privileged Role Administrator"]}
    user = admin.post(f"tenants/{ids.contoso}/users", json=wanted).json()["object_id"]
    assert people().adminconsent(ids.contoso).sign_in("pra@contoso.com").heading == "Permissions requested"

    admin.patch(f"users/{user}", json={"roles": []}).raise_for_status()
    assert people().adminconsent(ids.contoso).sign_in("pra@contoso.com").heading == "Need admin approval"

    admin.delete(f"users/{user}").raise_for_status()
    assert people().adminconsent(ids.contoso).sign_in("pra@contoso.com").heading == "Sign in"


def test_single_permissions_come_and_go(admin: httpx.Client, ids: Any) -> None:
    app = f"tenants/{ids.contoso}/apps/{ids.client}"
    admin.post(f"{app}/consent").raise_for_status()

    admin.put(f"{app}/app-roles/{ids.graph_app}/User.Read.All").raise_for_status()
    admin.put(f"{app}/app-roles/{ids.graph_app}/User.Read.All").raise_for_status()
    found = admin.delete(f"{app}/app-roles/{ids.graph_app}/Group.Read.All").json()
    assert [role["value"] for role in found["app_roles"]] == [
        "Directory.Read.All",
        "GroupMember.Read.All",
        "User.Read.All",
    ]

    assert admin.delete(f"{app}/grants").json()["grants"] == []


def test_redirect_uris_can_be_added(person: Any, admin: httpx.Client, ids: Any) -> None:
    other = "https://other.example/cb"
    admin.patch(f"registrations/{ids.client}", json={"redirect_uris": [other]}).raise_for_status()

    assert person.adminconsent(ids.contoso, redirect_uri=other).heading == "Sign in"
    assert person.adminconsent(ids.contoso).heading == "Sign in"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "tenants/nobody", None, 404),
        ("GET", "tenants/8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10/apps/nobody", None, 404),
        ("GET", "registrations/nobody", None, 404),
        ("DELETE", "users/nobody", None, 404),
        ("POST", "tenants", {"display_name": "X", "domains": ["contoso.com"]}, 409),
        ("POST", "tenants", {"display_name": "X", "domains": []}, 422),
        ("POST", "tenants", {"display_name": "X", "domains": ["x.example"], "colour": "red"}, 422),
        (
            "POST",
            "tenants/8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10/users",
            {"user_principal_name": "x@contoso.com", "display_name": "X", "roles": ["King"]},
            422,
        ),
        ("POST", "token-flaws", {"flaw": "ugly"}, 422),
        ("POST", "faults", {"kind": "flood"}, 422),
        ("POST", "faults", {"kind": "error"}, 422),
        ("PATCH", "behaviour", {"decline": None}, 422),
        ("PATCH", "behaviour", {"access_token_seconds": 0}, 422),
        ("PATCH", "tenants/8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10", {"domains": None}, 422),
        (
            "PUT",
            "tenants/8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10/apps/5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01/app-roles/x/y",
            None,
            422,
        ),
        ("POST", "registrations/5d1a7c10-3f64-4b0e-9a58-0c6b1e2f4a01/certificates", {"pem": "nonsense"}, 422),
    ],
)
def test_what_cannot_be_done_is_a_problem(
    admin: httpx.Client, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    response = admin.request(method, path, json=body)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["detail"]


def test_reset_brings_the_first_start_back(consented: Any, admin: httpx.Client, ids: Any) -> None:
    admin.delete(f"tenants/{ids.fabrikam}").raise_for_status()
    admin.post("tenants", json={"display_name": "X", "domains": ["x.example"]}).raise_for_status()

    admin.post("reset").raise_for_status()

    assert {item["id"] for item in admin.get("tenants").json()["items"]} == {ids.contoso, ids.fabrikam, ids.home}
    assert admin.get(f"tenants/{ids.contoso}/apps").json()["items"] == []
    assert admin.get("requests").json()["items"] == []


def forms(page: httpx.Response) -> dict[str, list[str]]:
    """Actions of a page's forms, with their field names."""
    found: dict[str, list[str]] = {}
    for form in re.findall(r"<form.*?</form>", page.text, re.DOTALL):
        action = re.search(r'action="([^"]+)"', form)
        assert action
        found[action.group(1)] = re.findall(r'name="([^"]+)"', form)
    return found


@pytest.fixture
def desk(sandbox: Any) -> Any:
    """Somebody at the sandbox's own pages."""
    with httpx.Client(base_url=sandbox.browser, headers={"Origin": sandbox.browser}, follow_redirects=True) as client:
        yield client


def test_every_page_can_be_read(consented: Any, desk: httpx.Client, ids: Any) -> None:
    for path in ("", f"/tenants/{ids.contoso}", f"/registrations/{ids.client}", "/troubles", "/requests"):
        page = desk.get(f"/sandbox{path}")
        assert page.status_code == 200
        assert page.text.count("<h1>") == 1

    assert "Directory.Read.All" in desk.get(f"/sandbox/tenants/{ids.contoso}").text
    assert desk.get("/").url.path == "/sandbox"


def test_what_the_pages_offer_works(desk: httpx.Client, admin: httpx.Client, ids: Any) -> None:
    tenant, registration = f"/sandbox/tenants/{ids.contoso}", f"/sandbox/registrations/{ids.client}"
    base = {"tenant_id": ids.contoso, "client_id": ids.client, "back": tenant}

    def do(change: str, **fields: Any) -> str:
        page = desk.post(f"/sandbox/do/{change}", data={**base, **fields})
        assert page.status_code == 200
        done = re.search(r'role="(status|alert)">(.*?)</p>', page.text)
        assert done
        assert done.group(1) == "status", done.group(2)
        return done.group(2)

    do("consent")
    do("change-app", directory_roles=["Global Reader"])
    app = admin.get(f"tenants/{ids.contoso}/apps/{ids.client}").json()
    assert (app["account_enabled"], app["directory_roles"]) == (False, ["Global Reader"])
    do("remove-app-role", resource_app_id=ids.graph_app, value="Group.Read.All")
    do("add-app-role", permission=f"{ids.graph_app} User.Read.All")
    assert len(admin.get(f"tenants/{ids.contoso}/apps/{ids.client}").json()["app_roles"]) == 3
    do("change-tenant", display_name="Contoso 2", domains="contoso.com", hold="on", missing_resource_policy="skip")
    assert admin.get(f"tenants/{ids.contoso}").json()["propagation"]["hold"] is True
    do("delete-app")
    do("consent")
    assert do("release", count="2") == "2 app roles became visible."
    do("create-user", user_principal_name="two@contoso.com", display_name="Two", roles=["Global Reader"])
    user = admin.get(f"tenants/{ids.contoso}/users").json()["items"][-1]
    do("change-user", object_id=user["object_id"], guest_in=ids.fabrikam)
    assert user["object_id"] in [
        item["object_id"] for item in admin.get(f"tenants/{ids.fabrikam}/users").json()["items"]
    ]
    do("delete-user", object_id=user["object_id"])
    do("add-secret", value="second", days="1", back=registration)
    do("expire-secret", key_id=admin.get(f"registrations/{ids.client}").json()["secrets"][0]["key_id"])
    do("add-federated-credential", issuer="https://idp.example", subject="s", jwks='{"keys": []}')
    do("add-permission", permission=f"{ids.graph_app} application User.Read.All")
    assert do("remove-permission", permission=f"{ids.graph_app} delegated openid").endswith("asks for 6 permissions.")
    do("change-registration", group_membership_claims="None", sign_in_audience="AzureADMyOrg", redirect_uris="")
    do("add-fault", kind="throttle", endpoint="token", retry_after="1", remaining="1", code="")
    do("delete-fault", id=admin.get("faults").json()["items"][0]["id"])
    do("arm-flaw", flaw="expired", remaining="1", tenant_id="")
    do("disarm-flaws")
    do(
        "change-behaviour",
        decline="v1",
        wrong_account="page",
        missing_service_principal="700016",
        access_token_seconds="60",
        graph_page_size="5",
    )
    assert admin.get("behaviour").json()["missing_service_principal"] == 700016
    do("rotate-keys", keep_previous="on")
    do("create-tenant", display_name="Adatum Corporation", domains="adatum.example", id="")
    do("forget-requests")
    do("delete-tenant", back="/sandbox")
    do("reset", back="/sandbox")


def test_the_forms_of_the_pages_are_the_changes_there_are(desk: httpx.Client, admin: httpx.Client, ids: Any) -> None:
    admin.post(f"tenants/{ids.contoso}/apps/{ids.client}/consent").raise_for_status()
    admin.post("faults", json={"kind": "throttle", "endpoint": "graph"}).raise_for_status()
    admin.post("token-flaws", json={"flaw": "expired"}).raise_for_status()
    actions: set[str] = set()
    for path in ("", f"/tenants/{ids.contoso}", f"/registrations/{ids.client}", "/troubles", "/requests"):
        actions |= set(forms(desk.get(f"/sandbox{path}")))

    for action in actions:
        page = desk.post(action, data={"back": "/sandbox"})
        assert page.status_code != 404, action


def test_a_form_with_a_mistake_says_so(desk: httpx.Client, ids: Any) -> None:
    page = desk.post("/sandbox/do/create-tenant", data={"display_name": "X", "domains": "contoso.com"})
    assert "Contoso Ltd has one of these domains already." in page.text

    page = desk.post(
        "/sandbox/do/add-fault", data={"kind": "throttle", "retry_after": "soon", "back": "/sandbox/troubles"}
    )
    assert 'role="alert"' in page.text


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
def test_a_form_of_another_site_changes_nothing(
    sandbox: Any, admin: httpx.Client, ids: Any, origin: str | None
) -> None:
    headers = {"Origin": origin} if origin else {}

    response = httpx.post(
        f"{sandbox.browser}/sandbox/do/delete-tenant", data={"tenant_id": ids.contoso}, headers=headers
    )

    assert response.status_code == 403
    assert admin.get(f"tenants/{ids.contoso}").status_code == 200


def test_the_admin_api_does_not_obey_pages_of_other_sites(sandbox: Any, admin: httpx.Client, ids: Any) -> None:
    evil = {"Origin": "https://evil.example"}

    assert admin.post("reset", headers=evil).status_code == 403
    assert admin.post(f"tenants/{ids.contoso}/apps/{ids.client}/consent", headers=evil).status_code == 403
    assert admin.post("reset", headers={"Origin": sandbox.browser}).status_code == 204
