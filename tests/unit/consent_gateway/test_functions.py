"""What an app can do on a tenant: by grants, by roles and licences, and never by guessing."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from consent_gateway.catalog.functions import (
    FunctionOnTenant,
    Presence,
    State,
    clients_with_roles,
    functions_of,
    missing_settings,
    needs_licences,
)
from consent_gateway.catalog.model import Catalog
from consent_gateway.grants.grants import Entra, Facts, Health, Tenant
from shared.events import AdditionalSetting
from support.console import CONTOSO, grant, packaged_catalog, tenant
from support.gateway import CLIENT_IDS

PASSWORD_ADMINISTRATOR = "966707d0-3269-4727-9be2-8c3a10f19b9d"
MANAGE = CLIENT_IDS["manage-accounts"]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return packaged_catalog()


def one(catalog: Catalog, where: Tenant, app_id: str, function_id: str) -> FunctionOnTenant:
    found = functions_of(catalog, catalog.apps[app_id], where)
    return next(each for each in found if each.function.id == function_id)


def contoso(catalog: Catalog, *sets: str, facts: Facts | None = None, **changes: Any) -> Tenant:
    grants = [grant(catalog, CONTOSO, each, **changes) for each in sets]
    return replace(tenant(CONTOSO, "Contoso Ltd", None, *grants), facts=facts or Facts())


def test_any_of_several_sets_is_enough_and_without_any_they_are_all_named(catalog: Catalog) -> None:
    for each in ("read-directory-data", "read-saas-posture"):
        found = one(catalog, contoso(catalog, each), "user-accounts", "saml-group-accounts")
        assert (found.state, found.sets) == (State.WORKS, ())
    lacking = one(catalog, contoso(catalog), "user-accounts", "saml-group-accounts")
    assert lacking.state is State.LACKS
    assert lacking.sets == catalog.apps["user-accounts"].sets


def test_permissions_count_wherever_they_come_from_but_only_for_the_app(catalog: Catalog) -> None:
    where = contoso(catalog, "read-activity-data")
    assert one(catalog, where, "identity-security", "inbox-rules").state is State.WORKS
    held = contoso(catalog, "read-activity-data", apps=("search",))
    assert one(catalog, held, "identity-security", "inbox-rules").state is State.LACKS


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"entra": Entra.VERIFYING, "permissions": ()}, State.VERIFYING),
        ({"blocked": True}, State.LACKS),
        ({"entra": Entra.GONE}, State.LACKS),
    ],
)
def test_a_grant_that_is_not_usable_gives_nothing(catalog: Catalog, changes: dict[str, Any], state: State) -> None:
    where = contoso(catalog, "manage-accounts", **changes)
    assert one(catalog, where, "search", "response").state is state


@pytest.mark.parametrize(
    ("roles", "presence", "state"),
    [
        ({}, Presence.UNKNOWN, State.WORKS),
        ({MANAGE: frozenset[str]()}, Presence.MISSING, State.HELD_BACK),
        ({MANAGE: frozenset({PASSWORD_ADMINISTRATOR})}, Presence.THERE, State.WORKS),
        # The role of another registration's service principal is no help.
        (
            {MANAGE: frozenset[str](), CLIENT_IDS["read-activity-data"]: frozenset({PASSWORD_ADMINISTRATOR})},
            Presence.MISSING,
            State.HELD_BACK,
        ),
    ],
)
def test_a_role_holds_back_when_it_is_known_to_be_missing(
    catalog: Catalog, roles: dict[str, frozenset[str]], presence: Presence, state: State
) -> None:
    where = contoso(catalog, "manage-accounts", facts=Facts(directory_roles=roles))
    found = one(catalog, where, "zero-trust-secure-access", "reset-password")
    assert found.state is state
    (setting,) = found.settings
    assert (setting.name, setting.presence, setting.client_ids) == ("Password Administrator", presence, (MANAGE,))
    missing = missing_settings(catalog, where.grants[0], where)
    expected = AdditionalSetting(
        kind="directory_role",
        name="Password Administrator",
        functions=("zero-trust-secure-access/reset-password", "cyber-risk-exposure-management/reset-password"),
    )
    assert {(each.kind, each.name, frozenset(each.functions)) for each in missing} == (
        {(expected.kind, expected.name, frozenset(expected.functions))} if presence is Presence.MISSING else set()
    )
    # Consent is one thing, settings are another: the status is the same.
    assert where.grants[0].status == "granted"


@pytest.mark.parametrize(
    ("plans", "state"),
    [
        (None, State.WORKS),
        (frozenset({"EXCHANGE_S_STANDARD"}), State.HELD_BACK),
        (frozenset({"AAD_PREMIUM"}), State.WORKS),
    ],
)
def test_a_licence_holds_back_when_the_tenant_is_known_not_to_have_it(
    catalog: Catalog, plans: frozenset[str] | None, state: State
) -> None:
    facts = Facts(service_plans=plans, read_at=datetime.now(UTC))
    where = contoso(catalog, "read-activity-data", facts=facts)
    assert one(catalog, where, "identity-security", "sign-in-detections").state is state


def test_an_api_that_the_tenant_does_not_have_holds_back_by_name_and_asks_for_no_grant(catalog: Catalog) -> None:
    wanted = catalog.sets["read-protected-content"]
    rights = next(resource for resource in wanted.resources if "Rights" in resource.name)
    missing = tuple(p for p in wanted.required if p.resource_app_id == rights.app_id)
    there = tuple(p for p in wanted.required if p not in missing and p.type == "application")
    partial: dict[str, Any] = {"entra": Entra.INCOMPLETE, "permissions": there, "missing": missing}
    where = contoso(catalog, wanted.id, health=Health(absent=(rights.app_id,)), **partial)
    found = one(catalog, where, "zero-trust-secure-access", "data-loss-prevention")
    assert (found.state, found.sets) == (State.HELD_BACK, ())
    assert [(setting.kind, setting.name) for setting in found.settings] == [("resource", rights.name)]
    (setting,) = missing_settings(catalog, where.grants[0], where)
    assert (setting.kind, setting.functions) == ("resource", ("zero-trust-secure-access/data-loss-prevention",))
    # Where the API is there, the permission was taken away, and a grant brings it back.
    lacking = one(catalog, contoso(catalog, wanted.id, **partial), "zero-trust-secure-access", "data-loss-prevention")
    assert (lacking.state, lacking.sets) == (State.LACKS, (wanted.id,))


def test_only_what_a_function_of_the_grants_needs_is_worth_reading(catalog: Catalog) -> None:
    assert clients_with_roles(catalog, contoso(catalog, "read-directory-data").grants) == frozenset()
    assert clients_with_roles(catalog, contoso(catalog, "manage-accounts").grants) == {MANAGE}
    assert not needs_licences(catalog, contoso(catalog, "read-directory-data", apps=("mobile-security",)).grants)
    assert needs_licences(catalog, contoso(catalog, "read-activity-data").grants)
