"""Each fault of a client registration is one line that names it; a registration in order has none."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consent_gateway.catalog.model import MICROSOFT_GRAPH
from consent_gateway.entra.credentials import Held
from consent_gateway.entra.registrations_check import Wanted, lines
from support.console import packaged_catalog

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
THUMBPRINT = "0123456789abcdef0123456789abcdef01234567"
CALLBACK, PROOF = "https://gateway.test/consent/callback", "https://gateway.test/consent/proof"
SET = packaged_catalog().sets["read-directory-data"]
WANTED = Wanted(
    registration="one", client_id=SET.client_id, redirect_uris=(CALLBACK, PROOF), permissions=SET.permissions
)
NAMES = {f"id-{p.value}": p.value for p in SET.permissions} | {"id-openid": "openid", "id-profile": "profile"}
ACCESS = [{"id": f"id-{p.value}", "type": "Scope" if p.type == "delegated" else "Role"} for p in SET.permissions]
SIGN_IN = [{"id": f"id-{name}", "type": "Scope"} for name in ("openid", "profile")]
CERTIFICATE = Held(
    client_id=SET.client_id,
    name="one.pem",
    kind="certificate",
    fingerprint="f",
    expires_at=NOW + timedelta(days=300),
    thumbprint=THUMBPRINT,
)


def application(**changes: Any) -> dict[str, Any]:
    """A registration that is in order."""
    return {
        "signInAudience": "AzureADMultipleOrgs",
        "groupMembershipClaims": "DirectoryRole",
        "web": {"redirectUris": [CALLBACK, PROOF]},
        "keyCredentials": [{"customKeyIdentifier": THUMBPRINT.upper(), "endDateTime": "2027-09-19T12:00:00Z"}],
        "passwordCredentials": [{"hint": "abc", "endDateTime": "2027-09-19T12:00:00Z"}],
        "requiredResourceAccess": [{"resourceAppId": MICROSOFT_GRAPH, "resourceAccess": ACCESS + SIGN_IN}],
    } | changes


def access(*entries: dict[str, str]) -> dict[str, Any]:
    return {"requiredResourceAccess": [{"resourceAppId": MICROSOFT_GRAPH, "resourceAccess": list(entries)}]}


def said(app: dict[str, Any], *, names: Any = None, held: Any = (CERTIFICATE,)) -> list[str]:
    return [str(line) for line in lines(WANTED, app, {MICROSOFT_GRAPH: names}, held, now=NOW)]


@pytest.mark.parametrize("identifier", [THUMBPRINT, base64.b64encode(bytes.fromhex(THUMBPRINT)).decode()])
def test_a_registration_in_order_has_no_line(identifier: str) -> None:
    keys = [{"customKeyIdentifier": identifier, "endDateTime": "2027-09-19T12:00:00Z"}]
    assert said(application(keyCredentials=keys), names=NAMES) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"web": {"redirectUris": [CALLBACK]}}, f"the redirect URI {PROOF} is missing"),
        ({"web": None}, f"the redirect URI {CALLBACK} is missing"),
        ({"signInAudience": "AzureADMyOrg"}, "signInAudience is AzureADMyOrg"),
        ({"groupMembershipClaims": None}, "groupMembershipClaims is without DirectoryRole"),
        ({"groupMembershipClaims": "SecurityGroup"}, "groupMembershipClaims is without DirectoryRole"),
        ({"keyCredentials": []}, "one.pem is not among its certificates"),
        (
            {"keyCredentials": [{"customKeyIdentifier": THUMBPRINT, "endDateTime": "2026-11-01T00:00:00Z"}]},
            "one.pem ended on 2026-11-01",
        ),
        (access(*ACCESS[1:], *SIGN_IN), "the application permission Directory.Read.All of Microsoft Graph is missing"),
        (
            access(*ACCESS, *SIGN_IN, {"id": "id-x", "type": "Role"}),
            "it asks for id-x of Microsoft Graph (application), which no set of the catalogue does",
        ),
    ],
)
def test_each_fault_is_one_line_that_names_it(changes: dict[str, Any], text: str) -> None:
    found = [line for line in said(application(**changes), names=NAMES) if not line.startswith("note: ")]
    assert text in found[0]
    assert found[0].startswith(f"one ({SET.client_id}): ")
    assert len(found) == (2 if changes == {"web": None} else 1)


def test_several_group_claims_may_stand_together() -> None:
    assert said(application(groupMembershipClaims="SecurityGroup, DirectoryRole"), names=NAMES) == []


def test_without_names_the_permissions_are_compared_by_number_and_that_is_said() -> None:
    (note,) = said(application())
    assert note.startswith("note: ")
    assert "compared by number only" in note
    fault, note = said(application(**access(*ACCESS[1:], *SIGN_IN)))
    assert "it asks for 2 application permissions of Microsoft Graph, the catalogue for 3" in fault


def test_a_sign_in_that_would_ask_again_is_a_note() -> None:
    (note,) = said(application(**access(*ACCESS)), names=NAMES)
    assert note.startswith("note: ")
    assert "openid and profile" in note


def test_a_secret_is_found_by_its_first_characters_and_said_when_it_ends_soon() -> None:
    secret = Held(
        client_id=SET.client_id,
        name="one.secret",
        kind="secret",
        fingerprint="f",
        expires_at=NOW + timedelta(days=20),
        hint="abc",
    )
    (note,) = said(application(), names=NAMES, held=(secret,))
    assert note.startswith("note: ")
    assert "one.secret ends on 2026-12-13" in note
    (fault, _) = said(application(passwordCredentials=[]), names=NAMES, held=(secret,))
    assert "one.secret is not among its secrets" in fault
