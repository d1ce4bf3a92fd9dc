from dataclasses import replace

import pytest

from consent_gateway.catalog.model import Catalog
from consent_gateway.catalog.needs import FromApp, from_app, stops
from consent_gateway.grants.grants import Entra, Facts
from support.console import CONTOSO, FABRIKAM, SETS, every_status, grant, packaged_catalog, tenant


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return packaged_catalog()


def lacking(notice: FromApp) -> list[str]:
    return [function.title for function in notice.functions if function.works_on is None]


def test_without_a_tenant_each_function_offers_the_set_that_it_needs(catalog: Catalog) -> None:
    notice = from_app(catalog, catalog.apps["mobile-security"], [])
    assert notice.headline == "from_app.unconnected"
    for function in notice.functions:
        assert function.lacks == "“Read directory data”"
        assert [(each.permission_set_id, each.tenant_id) for each in function.actions] == [
            ("read-directory-data", None)
        ]


def test_a_function_that_any_of_several_sets_satisfies_names_them_all_and_offers_the_first(catalog: Catalog) -> None:
    (function,) = from_app(catalog, catalog.apps["user-accounts"], []).functions
    assert function.lacks is not None
    assert function.lacks.count("“") == 4
    assert " or " in function.lacks
    assert [each.permission_set_id for each in function.actions] == ["read-directory-data"]


def test_what_works_names_the_tenants_and_what_does_not_the_grant_that_closes_it(catalog: Catalog) -> None:
    notice = from_app(catalog, catalog.apps["zero-trust-secure-access"], every_status(catalog))
    assert notice.headline == "from_app.lacks"
    works = {function.title: function.works_on for function in notice.functions if function.works_on}
    assert works == {"Synchronize users and groups for private and internet access rules": "Contoso Ltd"}
    content = next(each for each in notice.functions if each.title.startswith("Inspect content"))
    assert [each.tenant_name for each in content.actions] == ["Contoso Ltd", "Fabrikam Inc"]


def test_an_app_with_a_limit_is_offered_more_on_its_own_tenant_only(catalog: Catalog) -> None:
    app = catalog.apps["mobile-security"]
    partial = grant(
        catalog,
        FABRIKAM,
        "read-directory-data",
        entra=Entra.INCOMPLETE,
        missing=catalog.sets["read-directory-data"].required[:1],
    )
    other = grant(catalog, CONTOSO, "read-directory-data", apps=("user-accounts",))
    tenants = [tenant(CONTOSO, "Contoso", None, other), tenant(FABRIKAM, "Fabrikam", None, partial)]
    notice = from_app(catalog, app, tenants)
    assert notice.limited_to == "Fabrikam"
    assert {each.tenant_name for function in notice.functions for each in function.actions} == {"Fabrikam"}


def test_what_is_being_verified_is_not_asked_for_again(catalog: Catalog) -> None:
    notice = from_app(catalog, catalog.apps["mobile-security"], every_status(catalog))
    assert notice.headline == "from_app.verifying"
    assert {function.verifying_on for function in notice.functions} == {"Fabrikam Inc"}
    assert not any(function.actions for function in notice.functions)


def test_an_app_that_has_everything_is_told_so(catalog: Catalog) -> None:
    connected = tenant(CONTOSO, "Contoso", None, grant(catalog, CONTOSO, "read-directory-data"))
    notice = from_app(catalog, catalog.apps["phishing-simulation-assessment"], [connected])
    assert (notice.headline, lacking(notice)) == ("from_app.ready", [])


def test_a_need_for_some_permissions_is_met_by_any_set_that_has_them(catalog: Catalog) -> None:
    activity = grant(catalog, CONTOSO, "read-activity-data")
    without = grant(
        catalog,
        CONTOSO,
        "read-activity-data",
        permissions=tuple(each for each in activity.permissions if each.value != "MailboxSettings.Read"),
    )
    app = catalog.apps["identity-security"]
    assert "Detect malicious inbox rules" not in lacking(from_app(catalog, app, [tenant(CONTOSO, "C", None, activity)]))
    assert "Detect malicious inbox rules" in lacking(from_app(catalog, app, [tenant(CONTOSO, "C", None, without)]))


@pytest.mark.parametrize("change", [{"blocked": True}, {"entra": Entra.GONE}, {"apps": ()}])
def test_a_grant_that_the_app_may_not_use_counts_for_nothing(catalog: Catalog, change: dict[str, object]) -> None:
    connected = tenant(CONTOSO, "Contoso", None, grant(catalog, CONTOSO, "read-directory-data", **change))
    assert lacking(from_app(catalog, catalog.apps["mobile-security"], [connected]))


def test_a_function_that_only_a_setting_holds_back_names_it_and_asks_for_no_grant(catalog: Catalog) -> None:
    sets = ("read-directory-data", "manage-accounts", "read-protected-content")
    granted = tenant(CONTOSO, "Contoso Ltd", None, *(grant(catalog, CONTOSO, each) for each in sets))
    facts = Facts(directory_roles={catalog.sets["manage-accounts"].client_id: frozenset()})
    notice = from_app(catalog, catalog.apps["zero-trust-secure-access"], [replace(granted, facts=facts)])
    assert notice.headline == "from_app.held_back"
    (held,) = [function for function in notice.functions if function.works_on is None]
    assert (held.title, held.held_back, held.actions) == ("Force a password reset", "Password Administrator", ())
    assert from_app(catalog, catalog.apps["zero-trust-secure-access"], [granted]).headline == "from_app.ready"


def test_what_stops_is_what_works_now_and_rests_on_nothing_else(catalog: Catalog) -> None:
    granted = tenant(CONTOSO, "Contoso", None, *(grant(catalog, CONTOSO, each) for each in SETS[:3]))
    alone = stops(catalog, granted, [SETS[2]])
    assert alone
    assert set(alone) < set(stops(catalog, granted))
    assert stops(catalog, granted, ["of no tenant"]) == ()
    blocked = tenant(CONTOSO, "Contoso", None, *(grant(catalog, CONTOSO, each, blocked=True) for each in SETS[:3]))
    assert stops(catalog, blocked) == ()
