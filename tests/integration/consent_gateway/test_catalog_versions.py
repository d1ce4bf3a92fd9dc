"""The active catalogue on a real replica set: it only grows, all replicas agree, and grants follow it once."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from consent_gateway.catalog import command as catalog_command
from consent_gateway.checks.checks import Finding, judge
from consent_gateway.checks.schedule import Rules
from consent_gateway.checks.verification import SYSTEM
from consent_gateway.consent.proof import Administrator
from consent_gateway.core import Core
from consent_gateway.errors import CatalogError
from consent_gateway.grants.grants import Grant, Status
from shared.events import GrantData, PermissionGranted, decode
from support import gateway
from support.catalogs import IDS, app, catalog_file, graph, permission
from support.gateway import CONTOSO, FABRIKAM, OPERATOR
from support.ledger import accepted

MORE = {"one": {"version": 2, "permissions": ("A.Read", "B.Read", "C.Read")}}


@pytest.fixture
def replica(make_core: Any, tmp_path: Path) -> Any:
    """Makes a replica whose file is what the test says, started."""

    async def make(**changes: Any) -> Core:
        core: Core = await make_core(catalog=catalog_file(tmp_path, **changes), client_ids=IDS)
        await core.reevaluation.create_indexes()
        await core.reevaluation.start()
        return core

    return make


async def grant_on(core: Core, tenant_id: str, *, person: Any = OPERATOR) -> Grant:
    """A grant of set `one`, all there."""
    administrator = Administrator(tenant_id=tenant_id, object_id=str(uuid4()), name="Admin", roles=None)
    (grant,) = await accepted(core, administrator, person, "one")
    roles = {p.resource_app_id: frozenset(one.value for one in grant.accepted) for p in grant.accepted}
    rules = Rules(interval_seconds=3600, negatives=2, negatives_span_seconds=0)
    known = frozenset(grant.accepted)
    found = judge(grant, Finding(roles=roles), known=known, now=datetime.now(UTC), rules=rules)
    (written,) = await core.store.commit_checks(
        grant.account_id, tenant_id, [found], organization=None, cause="check", actor=SYSTEM
    )
    return written


async def there(core: Core, tenant_id: str) -> Grant:
    (grant,) = await core.store.grants.grants_on("northwind", tenant_id)
    return grant


async def told(core: Core, *, cause: str = "catalog") -> list[GrantData]:
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    data = [decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data for row in rows]
    return [one for one in data if isinstance(one, GrantData) and one.cause == cause]


async def test_a_newer_version_makes_updates_available_once_and_accepting_it_ends_them(replica: Any) -> None:
    old = await replica()
    for tenant in (CONTOSO, FABRIKAM):
        await grant_on(old, tenant)
    new = await replica(version=2, sets=MORE)
    assert min(await asyncio.gather(new.reevaluation.step(), new.reevaluation.step())) == 0
    assert await new.reevaluation.step() == 0
    events = await told(new)
    assert sorted(one.tenant_id for one in events) == sorted((CONTOSO, FABRIKAM))
    for one in events:
        assert (one.status, one.previous_status, one.usable) == ("update_available", "granted", True)
        assert (one.version, one.available_version, one.additional) == (1, 2, graph("C.Read"))
    again = await grant_on(new, CONTOSO)
    assert (again.status, again.version, again.additional) == (Status.GRANTED, 2, ())
    assert isinstance((await told(new, cause="verification") + await told(new, cause="check"))[-1], PermissionGranted)
    assert await new.reevaluation.step() == 0


async def test_a_replica_with_an_older_file_works_with_the_active_version_and_re_evaluates_nothing(
    replica: Any,
) -> None:
    old = await replica()
    await grant_on(old, CONTOSO)
    new = await replica(version=2, sets=MORE)
    assert await old.reevaluation.step() == 0
    assert (old.catalog.version, old.catalog.sets["one"].version) == (2, 2)
    assert (await there(old, CONTOSO)).status is Status.GRANTED
    late = await replica()
    assert late.catalog.version == 2
    assert await late.reevaluation.step() == 0
    assert await new.reevaluation.step() == 1
    assert (await there(old, CONTOSO)).status is Status.UPDATE_AVAILABLE


async def test_a_consent_of_a_replica_that_has_not_heard_yet_is_looked_at_again(replica: Any) -> None:
    old = await replica()
    new = await replica(version=2, sets=MORE)
    assert await new.reevaluation.step() == 0
    assert (await grant_on(old, CONTOSO)).status is Status.GRANTED
    assert await new.reevaluation.step() == 1
    assert (await there(new, CONTOSO)).status is Status.UPDATE_AVAILABLE


async def test_the_same_version_with_another_content_is_refused(replica: Any) -> None:
    await replica()
    with pytest.raises(CatalogError, match="version 1 is known with another content"):
        await replica(apps=[app("writer", "one")])


async def test_what_is_active_only_grows_under_any_number_of_starts(replica: Any) -> None:
    cores = await asyncio.gather(*(replica(version=n) for n in (3, 1, 2, 3, 2, 1)))
    for core in cores:
        await core.reevaluation.step()
    assert {core.catalog.version for core in cores} == {3}
    assert len({core.catalog.edition for core in cores}) == 1


async def test_apps_that_are_added_and_taken_are_told_in_an_event_of_their_own(replica: Any) -> None:
    old = await replica()
    await grant_on(old, CONTOSO)
    new = await replica(version=2, sets=MORE, apps=[app("writer", "one")])
    await new.reevaluation.step()
    asked, moved = await told(new)
    assert (asked.status, asked.apps) == ("update_available", ("reader",))
    assert (moved.status, moved.previous_status) == ("update_available", "update_available")
    assert (moved.previous_apps, moved.apps) == (("reader",), ("writer",))
    assert moved.previous_revision == asked.revision


async def test_an_app_that_comes_to_be_limited_keeps_one_tenant_and_gets_all_back_without_the_limit(
    replica: Any,
) -> None:
    old = await replica()
    for tenant in (CONTOSO, FABRIKAM):
        await grant_on(old, tenant)
    limited = await replica(version=2, apps=[app("reader", "one", tenant_limit=1)])
    await limited.reevaluation.step()
    grants = [await there(limited, tenant) for tenant in (CONTOSO, FABRIKAM)]
    (user,) = [grant for grant in grants if grant.apps == ("reader",)]
    (other,) = [grant for grant in grants if not grant.apps]
    assert [(held.app_id, held.tenant_id) for held in other.held_apps] == [("reader", user.tenant_id)]
    free = await replica(version=3)
    await free.reevaluation.step()
    grants = [await there(free, tenant) for tenant in (CONTOSO, FABRIKAM)]
    assert [(grant.apps, grant.held_apps, grant.app_epochs) for grant in grants] == [(("reader",), (), {})] * 2


async def test_an_app_that_is_limited_no_more_keeps_no_slot_for_later(replica: Any) -> None:
    """Nobody would free it: the tenant may be gone when the limit comes back."""
    limited = [app("reader", "one", tenant_limit=1)]
    first = await replica(apps=limited)
    await grant_on(first, CONTOSO)
    free = await replica(version=2)
    await free.reevaluation.step()
    assert (await free.database["slots"].find_one({}))["tenant_id"] is None
    await free.operations.disconnect("northwind", CONTOSO, actor=SYSTEM)
    again = await replica(version=3, apps=limited)
    await again.reevaluation.step()
    grant = await grant_on(again, FABRIKAM)
    assert (grant.apps, grant.held_apps) == (("reader",), ())


async def test_a_slot_is_freed_when_the_catalogue_takes_the_app_away(replica: Any) -> None:
    old = await replica(apps=[app("reader", "one", tenant_limit=1)])
    await grant_on(old, CONTOSO)
    new = await replica(version=2, apps=[])
    await new.reevaluation.step()
    assert (await there(new, CONTOSO)).apps == ()
    slot = await new.database["slots"].find_one({"_id": "northwind:reader"})
    assert slot is not None
    assert slot["tenant_id"] is None


async def test_a_planned_version_is_told_at_once_and_comes_at_its_date(
    replica: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = datetime.now(UTC) + timedelta(days=3)
    plan = {"version": 2, "from": date(soon.year, soon.month, soon.day), "reason": "r", "adds": [permission("C.Read")]}
    old = await replica()
    await grant_on(old, CONTOSO)
    new = await replica(version=2, sets={"one": {"planned": [plan]}})
    assert await new.reevaluation.step() == 1
    (announced,) = await told(new)
    assert (announced.status, announced.previous_status) == ("granted", "granted")
    assert [(one.version, one.adds) for one in announced.planned] == [(2, graph("C.Read"))]
    assert await new.reevaluation.step() == 0
    monkeypatch.setattr(new.reevaluation, "_clock", lambda: soon)
    assert await new.reevaluation.step() == 1
    due = (await told(new))[-1]
    assert (due.status, due.additional, due.planned) == ("update_available", graph("C.Read"), ())
    # The date is kept with the version: a replica whose clock is behind works with what has come.
    assert await old.reevaluation.step() == 0
    assert old.catalog.sets["one"].version == 2
    # And one that brings a newer file by such a clock doesn't undo it.
    late = await replica(version=3, sets={"one": {"planned": [plan], "title": "Another"}})
    assert (late.catalog.version, late.catalog.sets["one"].version) == (3, 2)


async def test_a_job_that_was_interrupted_goes_on_where_it_was(replica: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await replica()
    tenants = sorted(str(uuid4()) for _ in range(4))
    for tenant in tenants:
        await grant_on(old, tenant)
    new = await replica(version=2, sets=MORE)
    done: list[str] = []
    tenant_of: Any = new.reevaluation._tenant

    async def dies_after_two(account_id: str, tenant_id: str) -> int:
        if len(done) == 2:
            raise asyncio.CancelledError
        done.append(tenant_id)
        return int(await tenant_of(account_id, tenant_id))

    monkeypatch.setattr(new.reevaluation, "_tenant", dies_after_two)
    with pytest.raises(asyncio.CancelledError):
        await new.reevaluation.step()
    assert (len(await told(new)), done) == (2, tenants[:2])
    successor = await replica(version=2, sets=MORE)
    assert await successor.reevaluation.step() == 2
    assert sorted(one.tenant_id for one in await told(new)) == tenants


async def test_a_version_that_changes_nothing_for_a_grant_tells_nothing(replica: Any) -> None:
    old = await replica()
    before = await grant_on(old, CONTOSO)
    new = await replica(version=2, sets={"one": {"title": "Another title"}})
    assert await new.reevaluation.step() == 1
    assert await told(new) == []
    assert (await there(new, CONTOSO)).revision == before.revision
    assert await new.reevaluation.step() == 0


async def test_a_job_of_an_edition_that_was_overtaken_writes_nothing_more(replica: Any) -> None:
    old = await replica()
    await grant_on(old, CONTOSO)
    paused = await replica(version=2, sets=MORE)
    newest = await replica(version=3)
    # It was paused between two tenants, with the lease of then, and doesn't know of the newer version.
    assert await paused.reevaluation._all(await paused.reevaluation._lease.acquire()) == 0
    assert await told(newest) == []
    assert (await there(newest, CONTOSO)).status is Status.GRANTED


async def test_a_job_whose_lease_went_to_another_replica_writes_nothing_more(replica: Any) -> None:
    old = await replica()
    await grant_on(old, CONTOSO)
    paused, other = await replica(version=2, sets=MORE), await replica(version=2, sets=MORE)
    token = await paused.reevaluation._lease.acquire()
    await paused.reevaluation._lease.release(token)
    assert await other.reevaluation._lease.acquire() is not None
    assert await paused.reevaluation._all(token) == 0
    assert await told(other) == []


async def test_tenants_are_looked_at_no_faster_than_is_set(replica: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old = await replica()
    for tenant in (CONTOSO, FABRIKAM):
        await grant_on(old, tenant)
    new = await replica(version=2, sets=MORE)
    monkeypatch.setattr(new.reevaluation, "_pause", 0.0123)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", noted)
    assert await new.reevaluation.step() == 2
    assert pauses.count(0.0123) == 2


async def test_one_tenant_that_fails_is_left_for_later_and_holds_no_other_up(
    replica: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await replica()
    for tenant in (FABRIKAM, CONTOSO):
        await grant_on(old, tenant)
    new = await replica(version=2, sets=MORE)
    tenant_of: Any = new.reevaluation._tenant

    async def fails_once(account_id: str, tenant_id: str) -> int:
        if tenant_id == FABRIKAM:
            raise ValueError
        return int(await tenant_of(account_id, tenant_id))

    with monkeypatch.context() as patch:
        patch.setattr(new.reevaluation, "_tenant", fails_once)
        assert await new.reevaluation.step() == 2
    assert (await there(new, CONTOSO)).status is Status.UPDATE_AVAILABLE
    assert await new.reevaluation.step() == 1
    assert (await there(new, FABRIKAM)).status is Status.UPDATE_AVAILABLE


async def test_a_version_that_needs_an_unknown_registration_leaves_the_one_before_and_shows_in_readiness(
    make_core: Any, replica: Any, tmp_path: Path
) -> None:
    old: Core = await make_core(catalog=catalog_file(tmp_path), client_ids={"one": IDS["one"]})
    await old.reevaluation.start()
    await old.versions.check()
    await replica(version=2, sets={"one": {}, "two": {}})
    await old.reevaluation.step()
    assert old.catalog.version == 1
    with pytest.raises(RuntimeError, match="names no client id for the registration 'two'"):
        await old.versions.check()


async def test_the_check_of_a_file_counts_the_grants_and_writes_nothing(
    replica: Any, mongo_url: str, mongo_database: str, tmp_path: Path
) -> None:
    core = await replica()
    for tenant in (CONTOSO, FABRIKAM):
        await grant_on(core, tenant)
    before = await told(core, cause="check")
    settings = gateway.settings(
        mongo_url=mongo_url, database=mongo_database, catalog=tmp_path / "catalog-1.yaml", client_ids=IDS
    )
    report = await catalog_command.check(settings, catalog_file(tmp_path, version=2, sets=MORE))
    assert (report.exit_code, report.from_version, report.to_version) == (1, 1, 2)
    assert [(one.grants, one.update_available) for one in report.effects] == [(2, 2)]
    assert (await catalog_command.check(settings, tmp_path / "catalog-1.yaml")).exit_code == 0
    assert await told(core, cause="check") == before
    assert await core.database["catalog"].count_documents({}) == 2
