"""The scope parameter."""

import pytest

from entra_sandbox import scopes
from entra_sandbox.directory import Directory
from entra_sandbox.errors import EntraError
from entra_sandbox.model import GRAPH_APP_ID, PermissionType, Registration

GRAPH = "https://graph.microsoft.com"


def read(directory: Directory, registration: Registration, scope: str) -> scopes.ScopeRequest:
    return scopes.read(directory, registration, scope, tenant="Contoso Ltd")


def test_default_stands_for_every_api_of_the_registration(directory: Directory, registration: Registration) -> None:
    wanted = read(directory, registration, f"{GRAPH}/.default openid")

    assert wanted.permissions(registration) == registration.permissions


@pytest.mark.parametrize("scope", [f"{GRAPH}/User.Read", "User.Read", f"{GRAPH_APP_ID}/User.Read"])
def test_a_scope_without_resource_is_graphs(directory: Directory, registration: Registration, scope: str) -> None:
    (found,) = read(directory, registration, scope).permissions(registration)

    assert (found.resource_app_id, found.value, found.type) == (GRAPH_APP_ID, "User.Read", PermissionType.DELEGATED)


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        ("   ", 70011),
        (f"{GRAPH}/.default Mail.Read", 70011),
        (f"{GRAPH}/.default https://manage.office.com/.default", 70011),
        ("https://unknown.example/.default", 500011),
        ("Directory.Read.All", 650053),
    ],
)
def test_scopes_that_are_refused(directory: Directory, registration: Registration, scope: str, code: int) -> None:
    with pytest.raises(EntraError) as caught:
        read(directory, registration, scope)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("scope", "identifier"),
    [
        (f"{GRAPH}/.default", GRAPH),
        # A resource whose identifier ends in a slash needs the double one.
        (f"{GRAPH}//.default", GRAPH),
        (f"{GRAPH_APP_ID}/.default", GRAPH_APP_ID),
        ("HTTPS://Graph.microsoft.com/.default", "HTTPS://Graph.microsoft.com"),
    ],
)
def test_client_credentials_name_one_resource(directory: Directory, scope: str, identifier: str) -> None:
    resource, asked_by = scopes.default_resource(directory, scope, tenant="Contoso Ltd")

    assert (resource.app_id, asked_by) == (GRAPH_APP_ID, identifier)


@pytest.mark.parametrize("scope", ["", GRAPH, ".default", f"{GRAPH}/User.Read", f"{GRAPH}/.default openid"])
def test_client_credentials_take_default_alone(directory: Directory, scope: str) -> None:
    with pytest.raises(EntraError, match="AADSTS70011"):
        scopes.default_resource(directory, scope, tenant="Contoso Ltd")
