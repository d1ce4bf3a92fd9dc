"""Every template, rendered with what it may be given, hostile names included."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from consent_gateway.catalog.needs import affected, held_on
from consent_gateway.consent.attempts import AttemptStatus, Browser, NextStep, SetResult
from consent_gateway.consent.failures import Failure
from consent_gateway.errors import STATUS, Kind
from consent_gateway.grants.grants import Health
from consent_gateway.web.location import Location
from consent_gateway.web.overview import screen
from consent_gateway.web.pages import Pages, day_element, time_element
from consent_gateway.web.security import FormTargets
from consent_gateway.web.sessions import Identity, Session
from shared.auth import Principal
from shared.events import AdditionalSetting, HeldApp
from support.console import CONTOSO, FABRIKAM, SETS, attempt_view, every_status, grant, packaged_catalog, tenant

CATALOG = packaged_catalog()
EVERYTHING = every_status(CATALOG)
MARKUP = '<img src=x onerror="alert(1)">'
BLANK: dict[str, Any] = {
    "catalog": CATALOG,
    "notice": None,
    "error": None,
    "chosen": (),
    "tenant_id": "",
    "endings": (),
    "failures": (),
}


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages(form_targets=FormTargets())


def session(*roles: str, name: str = "Northwind operator") -> Session:
    principal = Principal(
        subject="s",
        account_id="northwind",
        account_name=name,
        app_id=None,
        roles=frozenset(roles or {"operator"}),
        expires_at=2_000_000_000,
    )
    moment = datetime.now(UTC)
    identity = Identity(principal=principal, name=name, access_token="ACCESS", id_token="ID")
    return Session(id="i", binding="b", identity=identity, csrf_token="FORM-TOKEN", renew_at=moment, expires_at=moment)


async def shown(pages: Pages, template: str, values: dict[str, Any], who: Session | None = None) -> str:
    response = await pages.render(template, values, session=who)
    html = bytes(response.body).decode()
    # What a strict policy would block must not be there in the first place.
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=\"|javascript:", html.replace(MARKUP, ""))
    assert "ACCESS" not in html
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids)), "an id must be there once"
    return html


@pytest.mark.parametrize("kind", [*Kind])
async def test_every_refusal_has_a_page_with_its_status_and_its_reference(pages: Pages, kind: Kind) -> None:
    response = await pages.problem(kind.value, status=STATUS[kind], reference="0123456789ab")
    assert response.status_code == STATUS[kind]
    assert "0123456789ab" in bytes(response.body).decode()
    assert response.headers["referrer-policy"] == "no-referrer"
    assert ("retry-after" in response.headers) is (STATUS[kind] == 503)


@pytest.mark.parametrize("adding", [False, True])
@pytest.mark.parametrize("app_id", [None, *CATALOG.apps])
@pytest.mark.parametrize("connected", [False, True])
async def test_the_screen_in_all_its_states(pages: Pages, app_id: str | None, *, connected: bool, adding: bool) -> None:
    details = tuple(f"{where}.{each}" for where in (CONTOSO, FABRIKAM, "new") for each in SETS)
    location = Location(path="/screen", app_id=app_id, open_details=details, adding=adding)
    view = screen(CATALOG, every_status(CATALOG) if connected else [], location=location)
    html = await shown(pages, "screen.html", BLANK | {"view": view, "may_consent": True}, session())
    assert ("Connect your first tenant" in html) is not connected
    assert html.count("FORM-TOKEN") == html.count("<form ")
    assert html.count("Hide details") == len(SETS) * (2 if connected else 1)


async def test_a_viewer_sees_everything_and_no_way_to_change_it(pages: Pages) -> None:
    location = Location(path="/screen", app_id="mobile-security", adding=True)
    view = screen(CATALOG, every_status(CATALOG), location=location)
    html = await shown(pages, "screen.html", BLANK | {"view": view, "may_consent": False}, session("viewer"))
    assert re.findall(r'action="([^"]+)"', html) == ["/auth/logout"]
    assert "Update available" in html
    assert "needs the operator role in Northwind" in html


async def test_names_from_entra_are_text_and_nothing_else(pages: Pages) -> None:
    hostile = [tenant(CONTOSO, MARKUP, MARKUP, *every_status(CATALOG)[0].grants)]
    details = tuple(f"{CONTOSO}.{each}" for each in SETS)
    view = screen(CATALOG, hostile, location=Location(path="/screen", app_id="search", open_details=details))
    html = await shown(
        pages, "screen.html", BLANK | {"view": view, "may_consent": True, "tenant_id": MARKUP}, session(name=MARKUP)
    )
    assert MARKUP not in html
    assert "&lt;img src=x" in html


@pytest.mark.parametrize("ended", [False, True])
async def test_the_end_of_a_credential_and_a_missing_setting_are_said(pages: Pages, *, ended: bool) -> None:
    setting = AdditionalSetting(kind="licence", name="Microsoft Entra ID P1", functions=("search/activity-data",))
    held = tenant(CONTOSO, "Contoso", None, grant(CATALOG, CONTOSO, "read-activity-data", settings=(setting,)))
    view = screen(CATALOG, [held], location=Location(path="/screen"))
    ending = {"registration": "manage-accounts", "at": datetime(2026, 12, 1, tzinfo=UTC), "ended": ended}
    html = await shown(
        pages, "screen.html", BLANK | {"view": view, "may_consent": True, "endings": [ending]}, session()
    )
    assert ("ended" if ended else "ends") in html.split("manage-accounts", 1)[1][:200]
    assert "1 Dec 2026" in html
    assert "The tenant has no licence for Microsoft Entra ID P1" in html
    assert "Search Entra ID and Office 365 activity" in html


async def test_what_was_typed_comes_back_as_text(pages: Pages) -> None:
    view = screen(CATALOG, [], location=Location(path="/screen", adding=True))
    values = BLANK | {
        "view": view,
        "may_consent": True,
        "error": "malformed",
        "tenant_id": f'"{MARKUP}',
        "chosen": SETS[:1],
    }
    html = await shown(pages, "screen.html", values, session())
    assert MARKUP not in html
    assert 'aria-invalid="true"' in html
    assert html.count(" checked") == 1


def ends() -> list[Any]:
    held = HeldApp(app_id="mobile-security", tenant_id=FABRIKAM, epoch=1)
    title = CATALOG.sets[SETS[0]].title
    result = SetResult(
        permission_set_id=SETS[0], title=title, outcome=AttemptStatus.SUCCEEDED, status="granted", held_apps=(held,)
    )
    failures = [
        {"status": AttemptStatus.FAILED, "failure": kind, "results": (), "next_step": step, "tenant_name": None}
        for kind in Kind
        for step in (NextStep.TRY_AGAIN, NextStep.CONTACT_SUPPORT)
    ]
    return [
        {},
        {"results": (result,), "next_step": NextStep.MOVE_APP, "return_url": "https://app.test/back?consent_id=1"},
        {"tenant_name": None, "primary_domain": None},
        {"tenant_id": None, "tenant_name": None, "primary_domain": None},
        {"tenant_name": MARKUP, "error_code": "AADSTS65004"},
        *({"status": status, "results": ()} for status in AttemptStatus if status.value not in {"declined", "failed"}),
        *failures,
    ]


@pytest.mark.parametrize("change", ends())
@pytest.mark.parametrize("may_administer", [True, False])
async def test_every_end_of_a_consent_has_a_page(pages: Pages, change: dict[str, Any], *, may_administer: bool) -> None:
    view = attempt_view(CATALOG, **change)
    values = {
        "attempt": view,
        "outcome": view.failure.value if view.failure else view.status.value,
        "again": view.next_step is NextStep.TRY_AGAIN,
        "again_on": view.tenant_id,
        "catalog": CATALOG,
        "tenant_names": {FABRIKAM: "Fabrikam Inc"},
        "transfer": None,
        "moves": held_on(CATALOG, (one for result in view.results for one in result.held_apps), EVERYTHING),
        "may_administer": may_administer,
    }
    html = await shown(pages, "attempt.html", values, session())
    assert view.reference in html
    assert MARKUP not in html
    if view.results and view.results[0].held_apps:
        assert "Mobile Security stays on Fabrikam Inc" in html
        moved = f'action="/integrations/microsoft-entra-id/tenants/{CONTOSO}/apps/mobile-security/move"' in html
        assert moved is may_administer
        assert ("An administrator of your account can move Mobile Security here" in html) is not may_administer


async def test_the_accounts_own_people_see_where_a_run_came_from(pages: Pages) -> None:
    view = attempt_view(
        CATALOG,
        started_from=Browser(address="203.0.113.7", family="Firefox"),
        last_from=Browser(address=None, family="other"),
    )
    nothing: dict[str, Any] = {"again": False, "again_on": None, "transfer": None, "may_administer": False}
    values = {**nothing, "attempt": view, "outcome": "succeeded", "catalog": CATALOG, "tenant_names": {}, "moves": ()}
    html = await shown(pages, "attempt.html", values, session())
    assert "from 203.0.113.7, Firefox" in html
    assert "from an unknown address, another browser" in html
    guest = await shown(pages, "attempt.html", values, None)
    assert "203.0.113.7" not in guest


@pytest.mark.parametrize("may", [True, False])
async def test_a_failed_run_says_what_happened_and_can_be_reset(pages: Pages, *, may: bool) -> None:
    failure = Failure(
        id="a7",
        kind=Kind.NOT_ADMINISTRATOR,
        permission_set_ids=(SETS[0], "gone-since"),
        tenant_id=CONTOSO,
        error_code=MARKUP,
        reference="0123456789ab",
        next_step=NextStep.USE_ADMINISTRATOR,
        at=datetime(2026, 11, 23, tzinfo=UTC),
    )
    view = screen(CATALOG, EVERYTHING, location=Location(path="/screen"))
    values = BLANK | {"view": view, "may_consent": may, "failures": [failure]}
    html = await shown(pages, "screen.html", values, session())
    assert "That account is not an administrator" in html
    assert "0123456789ab" in html
    assert MARKUP not in html
    assert ('action="/integrations/microsoft-entra-id/attempts/a7/reset"' in html) is may


@pytest.mark.parametrize(("may_consent", "may_administer"), [(False, False), (True, False), (True, True)])
async def test_a_tenant_is_disconnected_after_saying_what_stops(
    pages: Pages, *, may_consent: bool, may_administer: bool
) -> None:
    contoso = EVERYTHING[0]
    held = held_on(CATALOG, (one for each in contoso.grants for one in each.held_apps), EVERYTHING)
    hostile = replace(contoso, tenant_name=MARKUP)
    values = {
        "tenant": hostile,
        "held": held,
        "limited": [CATALOG.apps["mobile-security"]],
        "stops": affected(CATALOG, CATALOG.sets["manage-accounts"], contoso),
        "may_consent": may_consent,
        "may_administer": may_administer,
    }
    html = await shown(pages, "tenant.html", values, session())
    assert MARKUP not in html
    assert "What stops working" in html
    actions = re.findall(r'action="[^"]*/([a-z]+)"', html)
    assert actions == [
        "logout",
        *["move"] * may_administer,
        *["verify"] * may_consent,
        *["disconnect"] * may_administer,
    ]


async def test_files_are_found_by_their_content(pages: Pages) -> None:
    html = bytes((await pages.render("signed_out.html")).body).decode()
    assert re.search(r'href="/static/console\.css\?v=[0-9a-f]{12}"', html)
    assert re.search(r'src="/static/console\.js\?v=[0-9a-f]{12}" type="module"', html)


def test_times_carry_their_exact_value() -> None:
    moment = datetime(2026, 11, 23, 9, 5, 7, tzinfo=UTC)
    assert time_element(moment) == (
        '<time datetime="2026-11-23T09:05:07+00:00" data-relative>23 Nov 2026, 09:05 UTC</time>'
    )
    assert day_element(moment) == '<time datetime="2026-11-23T09:05:07+00:00">23 Nov 2026</time>'


async def test_a_check_without_an_answer_says_when_the_last_good_one_was_and_the_next_one_is(pages: Pages) -> None:
    good, again = datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2026, 11, 23, 13, tzinfo=UTC)
    health = Health(last_at=good, last_good_at=good, next_at=again, error="graph: throttled")
    held = tenant(CONTOSO, "Contoso", None, grant(CATALOG, CONTOSO, SETS[0], health=health))
    view = screen(CATALOG, [held], location=Location(path="/screen"))
    html = await shown(pages, "screen.html", BLANK | {"view": view, "may_consent": True}, session())
    assert 'Next one <time datetime="2026-11-23T13:00:00+00:00" data-relative>' in html
    assert 'Last good check <time datetime="2026-11-23T12:00:00+00:00" data-relative>' in html
    assert "throttled" not in html
