"""Throttling, outages, hanging and broken connections on demand; the request log."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Ask = Callable[..., httpx.Response]


def test_throttling_says_when_to_come_back_and_is_over_after_its_count(
    consented: Any, token_request: Ask, admin: httpx.Client, ids: Any
) -> None:
    fault = {"kind": "throttle", "endpoint": "token", "tenant_id": ids.contoso, "retry_after": 7, "remaining": 2}
    admin.post("faults", json=fault).raise_for_status()

    assert token_request(ids.home).status_code == 200
    for _ in range(2):
        response = token_request()
        assert (response.status_code, response.headers["retry-after"]) == (429, "7")
        assert response.json()["error_codes"] == [90055]
    assert token_request().status_code == 200


def test_throttling_of_graph_has_graphs_own_form(consented: Any, graph_get: Ask, admin: httpx.Client) -> None:
    admin.post("faults", json={"kind": "throttle", "endpoint": "graph", "retry_after": 3}).raise_for_status()

    response = graph_get("/organization")

    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert response.json()["error"]["code"] == "TooManyRequests"
    assert "x-ms-throttle-information" in response.headers


@pytest.mark.parametrize(("body", "content"), [("empty", ""), ("html", "<html>"), ("json", '{"error"')])
def test_an_outage_answers_in_several_forms(token_request: Ask, admin: httpx.Client, body: str, content: str) -> None:
    admin.post("faults", json={"kind": "unavailable", "endpoint": "token", "status": 502, "body": body})

    response = token_request()

    assert response.status_code == 502
    assert response.text.startswith(content)


def test_an_outage_can_hit_discovery_keys_and_pages(
    person: Any, wire: httpx.Client, sandbox: Any, admin: httpx.Client, ids: Any
) -> None:
    admin.post("faults", json={"kind": "unavailable", "tenant_id": ids.contoso}).raise_for_status()

    for path in ("v2.0/.well-known/openid-configuration", "discovery/v2.0/keys"):
        assert wire.get(f"{sandbox.login}/{ids.contoso}/{path}").status_code == 503
        assert wire.get(f"{sandbox.login}/{ids.fabrikam}/{path}").status_code == 200
    assert person.adminconsent(ids.contoso).response.status_code == 503


def test_a_cut_connection_gives_no_answer_at_all(consented: Any, token_request: Ask, admin: httpx.Client) -> None:
    admin.post("faults", json={"kind": "reset", "endpoint": "token", "remaining": 1}).raise_for_status()

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        token_request()

    assert token_request().status_code == 200


def test_a_hanging_endpoint_holds_up_nobody_else(
    consented: Any, token_request: Ask, admin: httpx.Client, sandbox: Any, ids: Any
) -> None:
    fault = {"kind": "hang", "endpoint": "token", "tenant_id": ids.contoso, "seconds": 60, "remaining": 1}
    admin.post("faults", json=fault).raise_for_status()

    with httpx.Client(verify=sandbox.trust(), timeout=0.3) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post(f"{sandbox.login}/{ids.contoso}/oauth2/v2.0/token", data={"grant_type": "client_credentials"})

    assert token_request(ids.home).status_code == 200
    assert token_request().status_code == 200


def test_a_short_hang_ends_in_the_usual_answer(consented: Any, token_request: Ask, admin: httpx.Client) -> None:
    admin.post("faults", json={"kind": "hang", "endpoint": "token", "seconds": 0.1}).raise_for_status()

    response = token_request()

    assert response.status_code == 200
    assert response.elapsed.total_seconds() >= 0.1


def test_any_error_of_entra_can_be_played(consented: Any, token_request: Ask, admin: httpx.Client) -> None:
    known = {"kind": "error", "endpoint": "token", "code": 7000222, "remaining": 1}
    unknown = {"kind": "error", "endpoint": "token", "code": 50196, "error": "invalid_grant", "status": 400}
    admin.post("faults", json=known).raise_for_status()
    admin.post("faults", json=unknown).raise_for_status()

    first, second = token_request(), token_request()

    assert (first.status_code, first.json()["error"]) == (401, "invalid_client")
    assert (second.status_code, second.json()["error"], second.json()["error_codes"]) == (400, "invalid_grant", [50196])


def test_troubles_can_be_ended(token_request: Ask, admin: httpx.Client, ids: Any) -> None:
    for _ in range(2):
        admin.post("faults", json={"kind": "unavailable"}).raise_for_status()
    assert len(admin.get("faults").json()["items"]) == 2

    admin.delete(f"faults/{admin.get('faults').json()['items'][0]['id']}").raise_for_status()
    admin.delete("faults").raise_for_status()

    assert admin.get("faults").json()["items"] == []
    assert token_request(ids.home).status_code == 200


def test_the_log_proves_what_was_asked_and_holds_no_secret(
    consented: Any, token_request: Ask, graph_get: Ask, admin: httpx.Client, ids: Any
) -> None:
    admin.delete("requests").raise_for_status()
    assert admin.get("requests").json()["items"] == []

    token_request()
    token_request(client_id="sandbox-secret", client_secret="other")
    graph_get("/organization")
    consented.authorize(ids.contoso, prompt="none", state="my-state")

    found = admin.get("requests").json()["items"]
    assert [(item["listener"], item["method"], item["path"], item["status"]) for item in found] == [
        ("login", "POST", "/{tenant}/oauth2/v2.0/token", 200),
        ("login", "POST", "/{tenant}/oauth2/v2.0/token", 400),
        ("login", "POST", "/{tenant}/oauth2/v2.0/token", 200),
        ("graph", "GET", "/v1.0/organization", 200),
        ("browser", "GET", "/{tenant}/oauth2/v2.0/authorize", 302),
    ]
    assert found[0]["operation"] == "client_credentials"
    assert {item["tenant_id"] for item in found} == {ids.contoso}
    assert "sandbox-secret" not in admin.get("requests").text
    assert "my-state" not in admin.get("requests").text
    later = admin.get("requests", params={"after": found[2]["sequence"], "listener": "graph"}).json()["items"]
    assert [item["path"] for item in later] == ["/v1.0/organization"]


def test_a_cut_connection_is_in_the_log_with_status_0(consented: Any, token_request: Ask, admin: httpx.Client) -> None:
    admin.post("faults", json={"kind": "reset", "endpoint": "token", "remaining": 1}).raise_for_status()
    admin.delete("requests").raise_for_status()

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        token_request()

    assert [item["status"] for item in admin.get("requests").json()["items"]] == [0]
