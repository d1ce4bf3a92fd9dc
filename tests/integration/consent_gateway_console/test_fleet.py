"""The fleet view, the history and the forms for many tenants: over HTTP, with a registry that is really asked."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
import pytest_asyncio
from pymongo.errors import AutoReconnect

from consent_gateway.core import utc_now
from consent_gateway.people import administrator_id, user_id
from consent_gateway.web import console_many
from consent_gateway.web.many import MOST_CHECKED
from shared.events import HeldApp, PermissionBlocked, PermissionRevoked
from support.consent_events import ADMINISTRATOR, CONTOSO, FABRIKAM, grant_event
from support.fleet_site import FleetSite, fleet_site
from support.gateway import OPERATOR
from support.gateway_site import Visit
from support.ledger import waiting
from support.registry_api import ADATUM, DIRECTORY, MANAGE, numbered, write
from support.seeded import granted, seed
from tenant_registry.queries import Queries

SCREEN = "/integrations/microsoft-entra-id"
FLEET, HISTORY, MANY = f"{SCREEN}/fleet", f"{SCREEN}/history", f"{SCREEN}/invitations/many"


@pytest_asyncio.fixture
async def fleet(mongo_url: str, mongo_database: str) -> AsyncIterator[FleetSite]:
    async with fleet_site(mongo_url=mongo_url, database=mongo_database) as fleet:
        await write(
            fleet.registry,
            grant_event(revision=1),
            grant_event(revision=2, permission_set_id=MANAGE, status="partial"),
            grant_event(PermissionRevoked, revision=1, tenant_id=FABRIKAM, tenant_name="Fabrikam", status="revoked"),
            grant_event(account_id=ADATUM, tenant_id=numbered(1), tenant_name="Someone else's"),
        )
        yield fleet


def shown(page: httpx.Response) -> str:
    assert page.status_code == 200, page.text
    return " ".join(re.sub(r"<[^>]+>", " ", page.text.partition("<main")[2]).split())


def rows_of(page: httpx.Response) -> list[dict[str, str]]:
    assert page.status_code in {200, 201}, page.text
    assert page.headers["content-disposition"].startswith("attachment; filename=")
    assert page.headers["cache-control"] == "no-store"
    return list(csv.DictReader(io.StringIO(page.content.decode("utf-8-sig"), newline="")))


async def test_the_fleet_is_counted_and_listed(fleet: FleetSite) -> None:
    page = await (await fleet.visit("viewer")).get(FLEET)
    text = shown(page)
    assert "2 tenants" in text
    assert "Contoso Ltd" in text
    assert "Fabrikam" in text
    assert "Someone else" not in text
    assert f'href="{FLEET}?set={DIRECTORY}&amp;status=not_consented#tenants">1</a>' in page.text
    # Somebody who only reads is offered nothing to do.
    assert "<button" not in page.text.partition("</header>")[2].replace('<button class="button primary">Filter', "")


async def test_a_limited_app_that_uses_another_tenant_is_moved_from_the_list(fleet: FleetSite) -> None:
    held = (HeldApp(app_id="mobile-security", tenant_id=FABRIKAM, epoch=2),)
    await write(fleet.registry, grant_event(revision=3, held_apps=held))
    here = f'href="{SCREEN}/tenants/{CONTOSO}"'
    for visit, manages, moves in (
        (await fleet.visit("operator"), True, True),
        (await fleet.visit("viewer"), True, False),
        (await fleet.visit("staff", "contoso"), False, False),
    ):
        page = await visit.get(FLEET)
        assert "Mobile Security uses another tenant." in shown(page)
        assert (here in page.text, "Move it here" in page.text) == (manages, moves)


async def test_filters_choose_what_is_listed_and_what_is_downloaded(fleet: FleetSite) -> None:
    visit = await fleet.visit()
    for query, names in {
        f"?set={DIRECTORY}&status=not_consented": {"Fabrikam"},
        f"?set={MANAGE}&status=not_consented": {"Fabrikam"},
        "?status=partial": {"Contoso Ltd"},
        f"?set={DIRECTORY}&version=1": {"Contoso Ltd", "Fabrikam"},
        "?q=fabr": {"Fabrikam"},
        "?q=nobody": set(),
        "?account=adatum": {"Contoso Ltd", "Fabrikam"},
    }.items():
        text = shown(await visit.get(f"{FLEET}{query}"))
        assert {name for name in ("Contoso Ltd", "Fabrikam", "Someone") if name in text} == names, query
        assert {row["tenant_name"] for row in rows_of(await visit.get(f"{FLEET}.csv{query}"))} == names, query


async def test_pages_follow_each_other_by_cursors(fleet: FleetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "consent_gateway.web.fleet_reader.FleetReader.tenants.__kwdefaults__", {"cursor": None, "limit": 1}
    )
    visit = await fleet.visit()
    first = await visit.get(f"{FLEET}?q=")
    (more,) = re.findall(rf'href="({FLEET}\?cursor=[^"#]+)', first.text)
    second = await visit.get(more)
    assert ("Fabrikam" in shown(first), "Contoso Ltd" in shown(second)) == (True, True)
    assert "More tenants" not in shown(second)
    assert (await visit.get(f"{FLEET}?cursor=AAAA")).status_code == 400


async def test_staff_look_over_accounts_and_choose_one(fleet: FleetSite) -> None:
    staff = await fleet.visit("staff")
    assert "3 tenants" in shown(await staff.get(FLEET))
    assert "1 tenant " in shown(await staff.get(f"{FLEET}?account={ADATUM}"))
    accounts = await staff.get(f"{FLEET}/accounts")
    assert f'href="{FLEET}?account={ADATUM}"' in accounts.text
    assert "Someone else" in shown(await staff.get(f"{HISTORY}?tenant={numbered(1)}&account={ADATUM}"))
    nobody = await (await fleet.visit("admin")).get(f"{FLEET}/accounts")
    assert (nobody.status_code, ADATUM in nobody.text) == (403, False)


async def test_a_registry_that_is_away_is_said(fleet: FleetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> None:
        raise AutoReconnect

    for name in ("find_documents", "find_history"):
        monkeypatch.setattr(Queries, name, away)
    visit = await fleet.visit()
    page = await visit.get(FLEET)
    assert "cannot be read at the moment" in shown(page)
    for path in (f"{FLEET}.csv", f"{HISTORY}.csv", f"{HISTORY}.jsonl"):
        answer = await visit.get(path)
        assert (answer.status_code, "content-disposition" in answer.headers) == (503, False)


async def test_the_history_is_narrowed_and_taken_away_as_a_file(fleet: FleetSite) -> None:
    visit = await fleet.visit()
    text = shown(await visit.get(f"{HISTORY}?type=PermissionRevoked"))
    assert ("Fabrikam" in text, "Contoso Ltd" in text) == (True, False)
    text = shown(await visit.get(f"{HISTORY}?tenant={CONTOSO}&set={MANAGE}"))
    assert text.count("Partly granted") == 1
    assert "Nothing that fits" in shown(await visit.get(f"{HISTORY}?from=2030-01-01"))
    rows = rows_of(await visit.get(f"{HISTORY}.csv?tenant={CONTOSO}"))
    assert [(row["permission_set_id"], row["status"]) for row in rows] == [(MANAGE, "partial"), (DIRECTORY, "granted")]
    lines = (await visit.get(f"{HISTORY}.jsonl?type=PermissionRevoked")).text.splitlines()
    assert [json.loads(line)["tenant_id"] for line in lines] == [FABRIKAM]


async def test_the_history_says_where_a_run_came_from(fleet: FleetSite) -> None:
    """From the gateway's own attempts: no event has it. Later changes name the run too, and were not made by it."""

    async def run_of(account_id: str, address: str) -> str:
        person = replace(OPERATOR, account_id=account_id)
        attempt, _ = await waiting(fleet.core, person, DIRECTORY)
        said = {"started_from": {"address": address, "family": "Edge"}}
        await fleet.core.database["attempts"].update_one({"_id": attempt.id}, {"$set": said})
        return attempt.id

    mine, others = await run_of("northwind", "203.0.113.7"), await run_of(ADATUM, "198.51.100.9")
    await write(
        fleet.registry,
        grant_event(revision=11, tenant_id=numbered(2), attempt_id=mine),
        grant_event(PermissionBlocked, revision=12, tenant_id=numbered(2), attempt_id=mine, cause="block"),
        grant_event(revision=13, tenant_id=numbered(2), attempt_id=others),
    )
    visit = await fleet.visit()
    text = shown(await visit.get(f"{HISTORY}?tenant={numbered(2)}"))
    assert text.count("from 203.0.113.7, Edge") == 1
    assert "198.51.100.9" not in text
    assert await fleet.core.store.origins.forget("user:northwind:operator-1")
    assert "203.0.113.7" not in shown(await visit.get(f"{HISTORY}?tenant={numbered(2)}"))


async def test_the_history_names_people_by_what_the_gateway_knows_until_they_are_forgotten(fleet: FleetSite) -> None:
    """Events have ids only. The same subject of another account is another person."""
    people, tenant_id = fleet.core.store.people, numbered(2)
    await people.remember(administrator_id(tenant_id, ADMINISTRATOR.id), "Contoso Administrator")
    await people.remember(administrator_id(CONTOSO, ADMINISTRATOR.id), "Another tenant's")
    await people.remember(user_id("northwind", "operator-1"), "Northwind Operator")
    await people.remember(user_id(ADATUM, "operator-1"), "Another account's")
    await write(
        fleet.registry,
        grant_event(revision=11, tenant_id=tenant_id),
        grant_event(PermissionBlocked, revision=12, tenant_id=tenant_id, actor={"kind": "user", "id": "operator-1"}),
    )
    visit = await fleet.visit()
    names = ("by Contoso Administrator", "by Northwind Operator")

    async def said() -> list[bool]:
        text = shown(await visit.get(f"{HISTORY}?tenant={tenant_id}"))
        assert "Another" not in text
        return [name in text for name in names]

    assert await said() == [True, True]
    assert await people.forget(f"{tenant_id}:{ADMINISTRATOR.id}")
    assert await said() == [False, True]
    assert await people.forget("user:northwind:operator-1")
    assert await said() == [False, False]


async def furnish(fleet: FleetSite, *tenant_ids: str) -> None:
    """Grants in the gateway that are due in an hour."""
    later = utc_now().replace(year=2099)
    grants = [granted(fleet.core.catalog.sets[DIRECTORY], each, next_at=later) for each in tenant_ids]
    await seed(fleet.core, grants)


async def due(fleet: FleetSite) -> set[str]:
    found = fleet.core.database["grants"].find({"check.next_at": {"$lte": utc_now()}})
    return {document["tenant_id"] for document in await found.to_list(None)}


async def test_selected_tenants_are_checked(fleet: FleetSite) -> None:
    await furnish(fleet, CONTOSO, FABRIKAM)
    visit = await fleet.visit()
    answer = await visit.post(f"{FLEET}/checks", {"which": "selected", "tenant_id": [CONTOSO, "x"], "q": "co"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"{FLEET}?q=co&checked=1#tenants")
    assert await due(fleet) == {CONTOSO}
    assert "1 permission set will be checked" in shown(await visit.get(f"{FLEET}?checked=1"))
    answer = await visit.post(f"{FLEET}/checks", {"which": "selected"})
    assert "Nothing was selected" in shown(await visit.get(answer.headers["location"].partition("#")[0]))


async def test_all_that_fit_the_filters_are_checked_and_nothing_else(fleet: FleetSite) -> None:
    await furnish(fleet, CONTOSO, FABRIKAM)
    visit = await fleet.visit()
    await visit.post(f"{FLEET}/checks", {"which": "all", "status": "partial"})
    assert await due(fleet) == {CONTOSO}
    await visit.post(f"{FLEET}/checks", {"which": "all"})
    assert await due(fleet) == {CONTOSO, FABRIKAM}


async def test_no_more_tenants_are_checked_than_is_said(fleet: FleetSite, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnish(fleet, CONTOSO, FABRIKAM)
    for name, value in {"MOST_CHECKED": 1, "LONGEST_PAGE": 1}.items():
        monkeypatch.setattr(console_many, name, value)
    answer = await (await fleet.visit()).post(f"{FLEET}/checks", {"which": "all"})
    assert "more=yes" in answer.headers["location"]
    assert await due(fleet) == {FABRIKAM}
    assert MOST_CHECKED >= 1_000


async def test_nobody_checks_another_accounts_tenants(fleet: FleetSite) -> None:
    await furnish(fleet, CONTOSO)
    other = await fleet.visit("operator", ADATUM)
    await other.post(f"{FLEET}/checks", {"which": "selected", "tenant_id": CONTOSO})
    await other.post(f"{FLEET}/checks", {"which": "all"})
    # Somebody of the staff who is an operator as well asks within the account.
    both = await fleet.visit("staff", ADATUM, "operator")
    await both.post(f"{FLEET}/checks", {"which": "all"})
    assert await due(fleet) == set()


@pytest.mark.parametrize("role", ["viewer", "staff"])
@pytest.mark.parametrize("path", [f"{FLEET}/checks", MANY, f"{MANY}/choose"])
async def test_who_may_only_read_does_nothing_for_many(fleet: FleetSite, role: str, path: str) -> None:
    visit = await fleet.visit(role)
    form = {"which": "all", "tenant_ids": CONTOSO, "permission_set_id": DIRECTORY}
    assert (await visit.post(path, form)).status_code == 403
    assert (await visit.post(path, form, csrf="forged")).status_code == 403


async def invite(visit: Visit, tenants: str, *sets: str) -> httpx.Response:
    return await visit.post(MANY, {"tenant_ids": tenants, "permission_set_id": list(sets)})


async def test_links_for_many_tenants_are_a_file_that_is_shown_once(fleet: FleetSite) -> None:
    visit = await fleet.visit()
    made = await invite(visit, f"{CONTOSO},\n{FABRIKAM.upper()} {CONTOSO}", DIRECTORY, MANAGE)
    rows = rows_of(made)
    assert [row["tenant_id"] for row in rows] == [CONTOSO, FABRIKAM]
    links = {row["link"] for row in rows}
    assert len(links) == 2
    listed = await visit.get(f"{SCREEN}/invitations")
    assert listed.text.count('/revoke"') == 2
    assert not any(link.rpartition("/")[2] in listed.text for link in links)
    for row in rows:
        invitation = await fleet.core.flow.invitations.open(row["link"].rpartition("/")[2], guest=None)
        assert invitation.invitation.tenant_id == row["tenant_id"]
        assert invitation.invitation.permission_set_ids == (DIRECTORY, MANAGE)


@pytest.mark.parametrize(
    ("tenants", "sets", "says"),
    [
        ("not-a-tenant", (DIRECTORY,), "no tenant IDs"),
        (CONTOSO, (), "Choose at least one permission set"),
        ("", (DIRECTORY,), "name at least one tenant"),
        ("\n".join(numbered(each) for each in range(201)), (DIRECTORY,), "at most 200"),
    ],
)
async def test_what_does_not_fit_is_put_right_where_it_was_typed(
    fleet: FleetSite, tenants: str, sets: tuple[str, ...], says: str
) -> None:
    page = await invite(await fleet.visit(), tenants, *sets)
    assert page.status_code in {400, 422}
    assert says in page.text
    assert f">{tenants}</textarea>" in page.text
    assert await fleet.core.database["invitations"].count_documents({}) == 0


async def test_ticked_tenants_are_in_the_form(fleet: FleetSite) -> None:
    visit = await fleet.visit()
    page = await visit.post(f"{MANY}/choose", {"tenant_id": [CONTOSO, FABRIKAM, "<b>"], "set": DIRECTORY})
    assert f">{CONTOSO}\n{FABRIKAM}</textarea>" in page.text
    assert page.text.count(" checked") == 1
