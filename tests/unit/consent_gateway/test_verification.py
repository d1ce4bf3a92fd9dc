"""What a check asks for and what it leaves behind, without a database or a network."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consent_gateway.catalog.file import load_catalog, read_catalog
from consent_gateway.catalog.model import MICROSOFT_GRAPH, Catalog, Resource
from consent_gateway.checks.checks import Delegated, Finding, Judgement, Organization, Outcome
from consent_gateway.checks.registrations import Home, Registrations
from consent_gateway.checks.schedule import Rules
from consent_gateway.checks.verification import Verification
from consent_gateway.grants.grants import Entra, Grant, Health, accept
from support.breakers import SharedBreakers, guard
from support.catalogs import catalog_file, granted, graph
from support.gateway import CLIENT_IDS, CONTOSO, FABRIKAM

CATALOG = load_catalog(None, CLIENT_IDS)
SET = CATALOG.sets["read-directory-data"]
GRAPH = SET.resources[0].app_id
ROLES = frozenset(one.value for one in SET.required if one.type == "application")
REGISTRATIONS = {"one": CLIENT_IDS["read-directory-data"], "two": CLIENT_IDS["manage-accounts"]}
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES = Rules(interval_seconds=3600, negatives=3, negatives_span_seconds=900)


@dataclass
class World:
    """Entra, the grants and the ledger of one check."""

    grants: list[Grant]
    finding: Finding
    named: tuple[str | None, str | None] = (None, None)
    notes: list[Judgement] = field(default_factory=list)
    commits: list[tuple[list[Judgement], Organization | None]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    soon: list[tuple[set[str], timedelta]] = field(default_factory=list)

    async def home(self, client_id: str) -> Home:
        return Home.WORKS

    async def find(self, **asked: Any) -> Finding:
        self.asked.append(asked)
        return self.finding

    async def grants_on(self, account_id: str, tenant_id: str) -> list[Grant]:
        return self.grants

    async def label(self, account_id: str, tenant_id: str) -> tuple[str | None, str | None]:
        return self.named

    async def check_soon(self, tenant_id: str, set_ids: Collection[str], *, by: datetime) -> None:
        self.soon.append((set(set_ids), by - NOW))

    async def note_health(self, judged: Judgement, *, token: int | None) -> None:
        self.notes.append(judged)

    async def commit_checks(
        self,
        account_id: str,
        tenant_id: str,
        judged: Sequence[Judgement],
        *,
        tokens: Mapping[str, int] | None = None,
        organization: Organization | None,
        **_: object,
    ) -> tuple[Grant, ...]:
        self.commits.append((list(judged), organization))
        return tuple(one.grant for one in judged)

    async def check(self, *set_ids: str) -> None:
        await self.verification().check("northwind", CONTOSO, set(set_ids) or {SET.id})

    def verification(self, catalog: Catalog = CATALOG) -> Verification:
        mass = guard(tenants=20, share=0.2, clock=lambda: NOW)
        registrations = Registrations(self, SharedBreakers(), mass=mass, monotonic=lambda: 0.0, clock=lambda: NOW)
        return Verification(
            catalog,
            RULES,
            prober=self,
            registrations=registrations,
            grants=self,
            changes=self,
            committed=lambda: None,
            clock=lambda: NOW,
        )


def grant(**changes: Any) -> Grant:
    fresh = accept(
        None,
        SET,
        account_id="northwind",
        tenant_id=CONTOSO,
        administrator="admin",
        attempt_id="attempt",
        now=NOW - timedelta(seconds=100),
        verify_until=NOW + timedelta(days=1),
        first_check_at=NOW,
    )
    there = tuple(one for one in fresh.accepted if one.type == "application")
    settled: dict[str, Any] = {"entra": Entra.COMPLETE, "permissions": there, "verified_at": NOW}
    return replace(fresh, **(settled | changes))


def found(**more: Any) -> Finding:
    return Finding(roles={GRAPH: ROLES}, **more)


@pytest.mark.parametrize(
    ("named", "retry_after", "least", "most"),
    [
        # Known already: Graph's trouble makes nobody ask sooner.
        (("Contoso Ltd", "contoso.com"), None, 2_880, 4_320),
        (("Contoso Ltd", "contoso.com"), 10.0, 2_880, 4_320),
        # Unknown: again after as long as it went without, or when Graph wants it.
        ((None, None), None, 100, 100),
        ((None, None), 600.0, 600, 600),
    ],
)
async def test_a_graph_that_fails_makes_nobody_ask_more_often_than_for_a_name(
    named: tuple[str | None, str | None], retry_after: float | None, least: float, most: float
) -> None:
    world = World([grant()], found(organization_later=True, retry_after=retry_after), named=named)
    await world.check()
    (note,) = world.notes
    assert note.grant.health.next_at is not None
    assert least <= (note.grant.health.next_at - NOW).total_seconds() <= most
    assert world.commits == []


@pytest.mark.parametrize(
    ("health", "full"),
    [
        (Health(), True),
        (Health(full_at=NOW - timedelta(hours=1)), False),
        (Health(full_at=NOW - timedelta(hours=25)), True),
        (Health(full_at=NOW - timedelta(hours=1), negatives=1), True),
    ],
)
async def test_a_settled_grant_costs_one_request_most_of_the_time(health: Health, full: bool) -> None:
    world = World([grant(health=health)], found(delegated=Delegated.UNASKED, full=full))
    await world.check()
    assert [asked["full"] for asked in world.asked] == [full]
    assert len(world.notes) == 1


async def test_a_new_name_is_written_even_where_nothing_else_changed() -> None:
    renamed = Organization(tenant_id=CONTOSO, name="Contoso GmbH", primary_domain="contoso.com")
    world = World([grant()], found(organization=renamed), named=("Contoso Ltd", "contoso.com"))
    await world.check()
    assert world.commits == [([], renamed)]
    same = World([grant()], found(organization=renamed), named=("Contoso GmbH", "contoso.com"))
    await same.check()
    assert same.commits == []


async def test_what_was_accepted_is_asked_for_whatever_the_catalogue_knows() -> None:
    gone_from_catalog = "11111111-1111-4111-8111-111111111111"
    permission = SET.required[0].model_copy(update={"resource_app_id": gone_from_catalog})
    odd = grant(permission_set_id="left-the-catalogue", accepted=(permission,), client_id=CLIENT_IDS["manage-accounts"])
    world = World([odd], found())
    await world.check("left-the-catalogue")
    (asked,) = world.asked
    assert asked["client_id"] == CLIENT_IDS["manage-accounts"]
    unknown = Resource(app_id=gone_from_catalog, identifier=gone_from_catalog, name=gone_from_catalog)
    assert asked["resources"] == (unknown,)


async def test_after_a_consent_all_grants_of_its_registration_are_looked_at_by_the_same_answers(tmp_path: Path) -> None:
    """An Accept can take permissions away that another set of the registration had: nobody waits for its turn."""
    sets = {
        "one": {"permissions": ("A.Read",), "registration": "one"},
        "two": {"permissions": ("B.Read",), "registration": "one"},
        "three": {"permissions": ("C.Read",), "registration": "two"},
    }
    catalog = read_catalog(catalog_file(tmp_path, sets=sets)).catalog(REGISTRATIONS)
    fresh, other, third = (
        granted(permission_set_id=name, accepted=graph(value), permissions=graph(value), client_id=None)
        for name, value in (("one", "A.Read"), ("two", "B.Read"), ("three", "C.Read"))
    )
    world = World([replace(fresh, entra=Entra.VERIFYING, permissions=()), other, third], Finding(roles={}))
    world.finding = Finding(roles={MICROSOFT_GRAPH: frozenset({"A.Read"})})
    await world.verification(catalog).settle("northwind", CONTOSO, ["one"], seconds=1)
    assert world.soon == [({"one", "two"}, timedelta(seconds=10))]
    (asked,) = world.asked
    assert (asked["client_id"], len(asked["resources"])) == (REGISTRATIONS["one"], 1)
    ((arrived,),) = [judged for judged, _ in world.commits]
    assert (arrived.grant.permission_set_id, arrived.grant.entra) == ("one", Entra.COMPLETE)
    (doubted,) = world.notes
    assert (doubted.grant.permission_set_id, doubted.grant.health.negatives) == ("two", 1)


async def test_what_another_set_of_the_registration_asks_for_is_never_extra(tmp_path: Path) -> None:
    sets = {
        "one": {"permissions": ("A.Read",), "registration": "one"},
        "two": {"permissions": ("B.Read",), "registration": "one"},
    }
    catalog = read_catalog(catalog_file(tmp_path, sets=sets)).catalog(REGISTRATIONS)
    only = granted(accepted=graph("A.Read"), permissions=(), entra=Entra.VERIFYING)
    world = World([only], Finding(roles={MICROSOFT_GRAPH: frozenset({"A.Read", "B.Read", "C.Read"})}))
    await world.verification(catalog).check("northwind", CONTOSO, {"one"})
    (((judged,), _),) = world.commits
    assert judged.grant.extra == graph("C.Read")


async def test_each_api_of_the_grants_is_asked_for_once() -> None:
    world = World([grant(), grant(permission_set_id="another")], found())
    world.grants[1] = replace(
        world.grants[1], accepted=(*SET.required, SET.required[0].model_copy(update={"resource_app_id": FABRIKAM}))
    )
    await world.check(SET.id, "another")
    (asked,) = world.asked
    assert [one.app_id for one in asked["resources"]] == sorted((GRAPH, FABRIKAM))


async def test_due_times_of_many_grants_drift_apart() -> None:
    at: set[datetime | None] = set()
    for _ in range(10):
        world = World([grant()], found())
        await world.check()
        at |= {note.grant.health.next_at for note in world.notes}
    assert len(at) > 1


async def test_a_mass_removal_is_not_written_but_waited_for() -> None:
    world = World([grant(health=Health(negatives=2, negatives_since=NOW - timedelta(hours=1)))], found())
    world.finding = Finding(roles={GRAPH: frozenset()})
    mass = guard(tenants=1, share=0.0, clock=lambda: NOW)
    breakers = SharedBreakers()
    registrations = Registrations(world, breakers, mass=mass, monotonic=lambda: 0.0, clock=lambda: NOW)
    verification = Verification(
        CATALOG,
        RULES,
        prober=world,
        registrations=registrations,
        grants=world,
        changes=world,
        committed=lambda: None,
        clock=lambda: NOW,
    )
    await registrations.doubt(SET.client_id, [_negative(grant())])
    await verification.check("northwind", CONTOSO, {SET.id})
    assert (world.commits, breakers.opens) == ([], [(SET.client_id, "mass_removal")])
    (note,) = world.notes
    assert (note.grant.entra, note.grant.health.error) == (Entra.COMPLETE, "mass_removal")


def _negative(one: Grant) -> Judgement:
    return Judgement(before=one, grant=one, changed=False, outcome=Outcome.NEGATIVE)
