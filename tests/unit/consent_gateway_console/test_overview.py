from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from consent_gateway.catalog.model import Catalog, PlannedVersion
from consent_gateway.grants.grants import Entra, Health
from consent_gateway.web.location import Location
from consent_gateway.web.overview import Row, Screen, screen
from shared.events import AdditionalSetting, HeldApp, Permission
from support.console import CONTOSO, FABRIKAM, every_status, grant, packaged_catalog, tenant

HERE = Location(path="/screen")
GRAPH = "00000003-0000-0000-c000-000000000000"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return packaged_catalog()


def row(view: Screen, tenant_id: str, permission_set_id: str) -> Row:
    rows = [each for section in view.sections for each in section.rows]
    return next(each for each in rows if each.id == f"{tenant_id}.{permission_set_id}")


def test_the_first_visit_offers_every_set_on_whichever_tenant_one_has(catalog: Catalog) -> None:
    view = screen(catalog, [], location=HERE)
    assert view.sections == ()
    assert [offer.title for offer in view.offers] == [each.title for each in catalog.sets.values()]
    for offer in view.offers:
        assert offer.action is not None
        assert (offer.action.label, offer.action.tenant_id) == ("action.grant", None)


def test_tenants_are_sections_by_name_with_every_set_as_a_row(catalog: Catalog) -> None:
    nameless = tenant("c3a9e0d4-75b1-4e6c-8d2f-91b7a4f0e356", None, None, grant(catalog, "x", "read-directory-data"))
    view = screen(catalog, [*reversed(every_status(catalog)), nameless], location=HERE)
    assert [section.name for section in view.sections] == [None, "Contoso Ltd", "Fabrikam Inc"]
    assert all(len(section.rows) == len(catalog.sets) for section in view.sections)
    assert view.offers == ()


@pytest.mark.parametrize(
    ("where", "status", "action", "why"),
    [
        ((CONTOSO, "read-directory-data"), "granted", None, "why.granted_by"),
        ((CONTOSO, "read-activity-data"), "update_available", "action.update", "why.update_available.reason"),
        ((CONTOSO, "manage-accounts"), "partial", "action.again", "why.partial"),
        ((CONTOSO, "read-protected-content"), None, "action.grant", None),
        ((FABRIKAM, "read-directory-data"), "verifying", None, "why.verifying"),
        ((FABRIKAM, "manage-accounts"), "blocked", None, "why.blocked"),
        ((FABRIKAM, "read-saas-posture"), "revoked", "action.again", "why.revoked.removed"),
    ],
)
def test_each_status_has_its_reason_and_its_one_next_action(
    catalog: Catalog, where: tuple[str, str], status: str | None, action: str | None, why: str | None
) -> None:
    shown = row(screen(catalog, every_status(catalog), location=HERE), *where)
    assert shown.status == status
    assert (shown.action.label if shown.action else None) == action
    assert (shown.why.key if shown.why else None) == why
    if shown.action:
        assert shown.action.tenant_id == where[0]


def test_a_status_that_is_not_known_yet_is_shown_without_an_action(catalog: Catalog) -> None:
    known = grant(catalog, CONTOSO, "read-directory-data")
    strange = type("Strange", (), {**{name: getattr(known, name) for name in dir(known) if name[0] != "_"}})()
    strange.status = "suspended"
    shown = row(
        screen(catalog, [tenant(CONTOSO, "Contoso", None, strange)], location=HERE), CONTOSO, known.permission_set_id
    )
    assert (shown.status, shown.icon, shown.action, shown.why) == ("suspended", "unverified", None, None)


def test_an_update_names_what_the_newer_version_adds(catalog: Catalog) -> None:
    shown = row(screen(catalog, every_status(catalog), location=HERE), CONTOSO, "read-activity-data")
    assert shown.why is not None
    assert shown.why.values["permissions"] == "Place.Read.All"


def test_a_partial_grant_names_what_is_missing_and_the_apps_it_holds_back(catalog: Catalog) -> None:
    shown = row(screen(catalog, every_status(catalog), location=HERE), CONTOSO, "manage-accounts")
    assert shown.why is not None
    assert shown.why.values["permissions"] == "User.ManageIdentities.All"
    assert shown.why.affected.startswith("Zero Trust Secure Access, Cyber Risk Exposure Management")
    # User Accounts can work with Read directory data instead, which is granted here.
    assert "User Accounts" not in shown.why.affected


def test_a_held_app_is_named_last_with_the_tenant_that_it_uses(catalog: Catalog) -> None:
    chips = row(screen(catalog, every_status(catalog), location=HERE), CONTOSO, "read-directory-data").apps
    assert [chip.held_on for chip in chips] == [None, None, None, "Fabrikam Inc"]
    assert chips[-1].name == "Mobile Security"


def test_a_held_app_of_a_tenant_that_is_not_shown_still_says_so(catalog: Catalog) -> None:
    held = HeldApp(app_id="mobile-security", tenant_id=FABRIKAM, epoch=1)
    only = tenant(CONTOSO, "Contoso", None, grant(catalog, CONTOSO, "read-directory-data", held_apps=(held,)))
    chips = row(screen(catalog, [only], location=HERE), CONTOSO, "read-directory-data").apps
    assert chips[-1].held_on == "another tenant"


def test_details_show_each_permission_with_its_state(catalog: Catalog) -> None:
    extra = Permission(resource_app_id=GRAPH, value="Mail.Read", type="application")
    missing = next(each for each in catalog.sets["read-directory-data"].required if each.value == "Group.Read.All")
    partly = grant(
        catalog,
        CONTOSO,
        "read-directory-data",
        entra=Entra.INCOMPLETE,
        permissions=tuple(
            each
            for each in catalog.sets["read-directory-data"].required
            if each != missing and each.type == "application"
        ),
        missing=(missing,),
        extra=(extra,),
    )
    key = f"{CONTOSO}.read-directory-data"
    view = screen(
        catalog, [tenant(CONTOSO, "Contoso", None, partly)], location=Location(path="/screen", open_details=(key,))
    )
    details = row(view, CONTOSO, "read-directory-data").details
    assert details is not None
    assert {line.value: line.state for line in details.lines} == {
        "Directory.Read.All": "granted",
        "Group.Read.All": "missing",
        "GroupMember.Read.All": "granted",
        "User.Read": "unverified",
        "Mail.Read": "extra",
    }
    assert details.client_id == catalog.sets["read-directory-data"].client_id
    assert details.accepted_by == "Contoso administrator"


def test_while_verifying_nothing_is_called_missing(catalog: Catalog) -> None:
    key = f"{FABRIKAM}.read-directory-data"
    view = screen(catalog, every_status(catalog), location=Location(path="/screen", open_details=(key,)))
    details = row(view, FABRIKAM, "read-directory-data").details
    assert details is not None
    assert {line.state for line in details.lines} == {"verifying", "unverified"}


def test_details_open_and_close_by_address_and_keep_the_rest_of_it(catalog: Catalog) -> None:
    location = Location(path="/screen", app_id="search", open_details=("a.x",))
    assert location.toggling("b.y") == "/screen?app=search&details=a.x&details=b.y#row-b.y"
    assert location.toggling("a.x") == "/screen?app=search#row-a.x"
    assert location.add == "/screen?app=search&details=a.x&add=tenant#add-tenant"
    assert Location(path="/screen", app_id='"><script>').plain == "/screen?app=%22%3E%3Cscript%3E"


def test_a_tenant_that_was_disconnected_here_is_gone_and_one_that_was_removed_in_entra_stays(catalog: Catalog) -> None:
    gone = grant(catalog, CONTOSO, "read-directory-data", entra=Entra.GONE, reason="disconnected")
    removed = grant(catalog, FABRIKAM, "read-directory-data", entra=Entra.GONE, reason="removed")
    tenants = [tenant(CONTOSO, "Contoso", None, gone), tenant(FABRIKAM, "Fabrikam", None, removed)]
    view = screen(catalog, tenants, location=HERE)
    assert [section.name for section in view.sections] == ["Fabrikam"]
    assert view.attention == 1


def test_many_tenants_come_in_pages_and_count_together_for_an_app(catalog: Catalog) -> None:
    tenants = [
        tenant(
            f"00000000-0000-0000-0000-00000000000{n}", f"Tenant {9 - n}", None, grant(catalog, "x", "manage-accounts")
        )
        for n in range(3)
    ]
    location = Location(path="/screen", app_id="workbench", open_details=("a.b",), adding=True)
    view = screen(catalog, tenants, location=location, page=2)
    assert [section.name for section in view.sections] == ["Tenant 8", "Tenant 9"]
    assert view.next_page == f"/screen?app=workbench&after={tenants[1].tenant_id}"
    assert view.from_app is not None
    assert view.from_app.functions[1].works_on == "Tenant 9, Tenant 8 and Tenant 7"
    rest = screen(catalog, tenants[2:], location=Location(path="/screen", after=tenants[1].tenant_id), page=2)
    assert [section.name for section in rest.sections] == ["Tenant 7"]
    assert rest.next_page is None
    assert rest.location.page_after(None) == "/screen"
    assert screen(catalog, [], location=rest.location).offers == ()


def test_the_last_check_of_a_tenant_is_the_latest_of_its_grants(catalog: Catalog) -> None:
    now = datetime.now(UTC)
    checked = [
        grant(catalog, CONTOSO, each, health=Health(last_at=at))
        for each, at in (("read-directory-data", now - timedelta(hours=1)), ("manage-accounts", now))
    ]
    unchecked = grant(catalog, FABRIKAM, "read-directory-data", health=Health())
    view = screen(
        catalog, [tenant(CONTOSO, "C", None, *checked), tenant(FABRIKAM, "F", None, unchecked)], location=HERE
    )
    assert [section.checked_at for section in view.sections] == [now, None]


def test_a_missing_setting_and_an_announced_version_are_notes_and_no_status(catalog: Catalog) -> None:
    setting = AdditionalSetting(
        kind="directory_role",
        name="Password Administrator",
        functions=("zero-trust-secure-access/reset-password", "an-app/of-another-version"),
    )
    plan = PlannedVersion(
        version=2,
        effective_from=datetime(2026, 12, 1, tzinfo=UTC),
        adds=catalog.sets["read-directory-data"].permissions[:1],
        removes=(),
        reason="devices are protected too",
    )
    announcing = replace(
        catalog, sets={**catalog.sets, "manage-accounts": replace(catalog.sets["manage-accounts"], planned=(plan,))}
    )
    held = grant(catalog, CONTOSO, "manage-accounts", settings=(setting,))
    shown = row(screen(announcing, [tenant(CONTOSO, "Contoso", None, held)], location=HERE), CONTOSO, "manage-accounts")
    assert (shown.status, shown.action) == ("granted", None)
    role, planned = shown.notes
    assert (role.key, role.values["name"]) == ("note.directory_role", "Password Administrator")
    assert "Force a password reset" in str(role.values["functions"])
    assert (planned.key, planned.day) == ("note.planned", plan.effective_from)
    assert planned.values == {"version": 2, "permissions": "Directory.Read.All", "reason": plan.reason}


@pytest.mark.parametrize(
    ("changes", "noted"), [({}, True), ({"entra": Entra.VERIFYING}, False), ({"entra": Entra.GONE}, False)]
)
def test_checks_that_get_no_answer_are_a_note_with_the_last_good_one(
    catalog: Catalog, changes: dict[str, Entra], *, noted: bool
) -> None:
    good = datetime(2026, 11, 23, 12, tzinfo=UTC)
    again = good + timedelta(hours=2)
    health = Health(last_at=good + timedelta(hours=1), last_good_at=good, next_at=again, error="graph: throttled")
    held = grant(catalog, CONTOSO, "manage-accounts", health=health, **changes)
    shown = row(screen(catalog, [tenant(CONTOSO, "Contoso", None, held)], location=HERE), CONTOSO, "manage-accounts")
    assert [(one.key, one.at, one.again) for one in shown.notes] == ([("note.unanswered", good, again)] * noted)
