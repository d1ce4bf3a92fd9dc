"""What holds for fifty at once, over three replicas: one holder of a tenant, one tenant of a limited app, one chain."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import yaml

from consent_gateway.consent.proof import Administrator
from consent_gateway.core import Core
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Grant, Status
from consent_gateway.grants.ledger import Books, Ledger
from consent_gateway.grants.slots import Slots
from shared.events import Actor, decode
from support.gateway import CLIENT_IDS, CONTOSO, OPERATOR
from support.ledger import accepted, lost

SET = "read-directory-data"
SECOND = "manage-accounts"
USER = Actor(kind="user", id="operator-1")
FIFTY = 50


@pytest_asyncio.fixture
async def replicas(make_core: Any) -> list[Core]:
    """Three, each with locks of its own: only the database stands between them."""
    return [await make_core() for _ in range(3)]


async def accept(core: Core, tenant_id: str, account_id: str, *sets: str) -> Any:
    person = replace(OPERATOR, account_id=account_id)
    administrator = Administrator(tenant_id=tenant_id, object_id=str(uuid4()), name=None, roles=None)
    return await accepted(core, administrator, person, *(sets or (SET,)))


async def all_of(*work: Any) -> list[Any]:
    """Run them at once; only refusals are answers, everything else is a defect."""
    answers = await asyncio.gather(*work, return_exceptions=True)
    for one in answers:
        if isinstance(one, BaseException) and not isinstance(one, Refused):
            raise one
    return answers


async def chains_are_whole(core: Core) -> None:
    """Each tenant's events follow one another: revisions grow, and each names the one before."""
    rows = await core.database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
    last: dict[str, int | None] = {}
    for row in rows:
        data = decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data
        revision = getattr(data, "revision", None)
        if revision is not None:
            assert getattr(data, "previous_revision", None) == last.get(data.key())
            last[data.key()] = revision


async def test_one_tenant_and_fifty_accounts(replicas: list[Core]) -> None:
    accounts = [f"account-{number}" for number in range(FIFTY)]
    answers = await all_of(*(accept(core, CONTOSO, one) for core, one in zip(cycle(replicas), accounts, strict=False)))
    refused = [one for one in answers if isinstance(one, Refused)]
    assert (len(refused), {one.kind for one in refused}) == (FIFTY - 1, {Kind.TENANT_TAKEN})
    grants = await replicas[0].database["grants"].find({}).to_list(None)
    link = await replicas[0].database["links"].find_one({"_id": CONTOSO})
    assert (link or {})["account_ids"] == [one["account_id"] for one in grants]


async def test_one_limited_app_and_fifty_tenants(replicas: list[Core]) -> None:
    tenants = [str(uuid4()) for _ in range(FIFTY)]
    await all_of(*(accept(core, one, "northwind") for core, one in zip(cycle(replicas), tenants, strict=False)))
    grants = await replicas[0].database["grants"].find({}).to_list(None)
    users = [one["tenant_id"] for one in grants if "mobile-security" in one["apps"]]
    slot = await replicas[0].database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert [(slot or {})["tenant_id"]] == users
    held = {(each["tenant_id"], each["epoch"]) for one in grants for each in one["held_apps"]}
    assert held == {(users[0], 1)}
    await chains_are_whole(replicas[0])


async def one_truth(core: Core) -> None:
    """The slot, the grants that have the app and those that wait for it say the same; so do links and live grants."""
    grants = [item for item in await core.database["grants"].find({}).to_list(None) if item["status"] != "revoked"]
    slot = await core.database["slots"].find_one({"_id": "northwind:mobile-security"})
    assert slot is not None
    users = {item["tenant_id"] for item in grants if "mobile-security" in item["apps"]}
    held = {(each["tenant_id"], each["epoch"]) for item in grants for each in item["held_apps"]}
    assert users == ({slot["tenant_id"]} if slot["tenant_id"] else set())
    assert held <= {(slot["tenant_id"], slot["epoch"])}
    for link in await core.database["links"].find({}).to_list(None):
        assert link["account_ids"] == sorted({one["account_id"] for one in grants if one["tenant_id"] == link["_id"]})
    await chains_are_whole(core)


@pytest.mark.parametrize("rounds", range(3))
async def test_a_grant_a_loss_and_a_move_of_one_limited_app_leave_one_truth(replicas: list[Core], rounds: int) -> None:
    one, two, three = replicas
    first, second, third = (str(uuid4()) for _ in range(3))
    (grant,) = await accept(one, first, "northwind")
    await accept(one, second, "northwind")
    await all_of(
        lost(one, grant),
        accept(two, first, "northwind", SECOND),
        accept(three, third, "northwind"),
        two.operations.move_app("northwind", "mobile-security", second, actor=USER),
        three.operations.disconnect("northwind", second, actor=USER),
    )
    await one_truth(one)


async def test_a_tenant_does_not_begin_to_wait_for_one_that_lets_go_at_that_moment(
    replicas: list[Core], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write skew: one transaction reads the slot and waits for its holder, which another one ends meanwhile."""
    one, two, _ = replicas
    first, second = str(uuid4()), str(uuid4())
    (grant,) = await accept(one, first, "northwind")
    has_read, go_on = asyncio.Event(), asyncio.Event()
    take, release, releases = Slots.take, Slots.release, 0

    async def take_slowly(self: Slots, app_id: str, tenant_id: str, *, move: bool = False) -> Any:
        answer = await take(self, app_id, tenant_id, move=move)
        if tenant_id == second and not move:
            has_read.set()
            await go_on.wait()
        return answer

    async def release_again(self: Slots, app_id: str, tenant_id: str) -> bool:
        nonlocal releases
        releases += 1
        if releases > 1:  # the first time it was in the other's way
            go_on.set()
        return await release(self, app_id, tenant_id)

    monkeypatch.setattr(Slots, "take", take_slowly)
    monkeypatch.setattr(Slots, "release", release_again)
    accepting = asyncio.create_task(accept(two, second, "northwind"))
    await has_read.wait()
    losing = asyncio.create_task(lost(one, grant))
    losing.add_done_callback(lambda _: go_on.set())
    await asyncio.gather(accepting, losing)
    await one_truth(one)


@pytest.fixture
def two_sets_with_one_limited_app(tmp_path: Path) -> Path:
    """A catalogue in which a limited app is in two sets."""
    resource = {"app_id": "00000003-0000-0000-c000-000000000000", "identifier": "https://g.test", "name": "Graph"}
    sets = [
        {
            "id": name,
            "title": name,
            "description": name,
            "version": 1,
            "registration": name,
            "permissions": [{"resource": "graph", "value": f"{name}.All", "reason": "r"}],
        }
        for name in ("one", "two")
    ]
    limited = {"id": "limited", "name": "L", "description": "l", "tenant_limit": 1, "permission_sets": ["one", "two"]}
    path = tmp_path / "catalog.yaml"
    catalog = {"version": 1, "resources": {"graph": resource}, "permission_sets": sets, "apps": [limited]}
    path.write_text(yaml.safe_dump(catalog))
    return path


class Uncounted:
    """A collection without the counter that is raised where a document stays as it was: that conflicts with nobody."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    async def update_one(self, where: Any, change: dict[str, Any], **options: Any) -> Any:
        return await self._collection.update_one(where, {"$set": change["$set"]}, **options)


# A grant of a set and the end of another one on the same tenant, where both sets have the same limited app, meet in
# three documents. Each of them is enough.
MEET = frozenset({"tenant", "link", "slot"})


def meet_only_in(where: str, replicas: list[Core], patched: pytest.MonkeyPatch) -> None:
    """Take the other documents away from where the two transactions meet."""
    if where != "tenant":

        async def unwritten(*_: object) -> None:
            """Leave the tenant's counter."""

        patched.setattr(Ledger, "_put_tenant", unwritten)
    if where != "link":
        for core in replicas:
            patched.setattr(core.operations._ledger, "links", Uncounted(core.database["links"]))
    if where != "slot":

        async def uncounted(self: Slots, key: str, fields: dict[str, object]) -> None:
            """Leave the slot where the tenant has it already."""
            if fields:
                await self._slots.update_one({"_id": key}, {"$set": fields}, session=self._session)

        patched.setattr(Slots, "_touch", uncounted)


async def on_an_old_picture(
    slow: Core, begin: Callable[[], Awaitable[Any]], between: Callable[[], Awaitable[Any]], patched: pytest.MonkeyPatch
) -> None:
    """Let the slow replica look at the tenant, the other one do all that it does, and the slow one go on."""
    has_read, go_on, read = asyncio.Event(), asyncio.Event(), Books.open

    async def read_slowly(self: Books, account_id: str, tenant_id: str) -> Any:
        turn = await read(self, account_id, tenant_id)
        if self._ledger is slow.operations._ledger and not go_on.is_set():
            has_read.set()
            await go_on.wait()
        return turn

    patched.setattr(Books, "open", read_slowly)
    begun = asyncio.ensure_future(begin())
    await has_read.wait()
    try:
        await between()
    finally:
        go_on.set()
    await begun


async def the_app_is_used_where_the_second_set_is(core: Core, tenant_id: str) -> bool:
    """Whether slot and link are those of a tenant on which the first set has ended and the second one is live."""
    grants = {grant.permission_set_id: grant for grant in await core.store.grants.grants_on("northwind", tenant_id)}
    assert (grants["one"].status, grants["two"].status) == (Status.REVOKED, Status.VERIFYING)
    slot = await core.database["slots"].find_one({"_id": "northwind:limited"})
    link = await core.database["links"].find_one({"_id": tenant_id})
    return (grants["two"].apps, (slot or {})["tenant_id"], (link or {})["account_ids"]) == (
        ("limited",),
        tenant_id,
        ["northwind"],
    )


@pytest.mark.parametrize("slow", ["grant", "revocation"])
@pytest.mark.parametrize("where", [*sorted(MEET), "nowhere"])
async def test_a_grant_and_a_revocation_of_two_sets_of_one_app_do_not_skew(
    make_core: Any, two_sets_with_one_limited_app: Path, monkeypatch: pytest.MonkeyPatch, where: str, slow: str
) -> None:
    """Each alone is right; both on the same old picture would free a slot and a link that are in use.

    That they would is seen where they meet nowhere.
    """
    settings = {
        "catalog": two_sets_with_one_limited_app,
        "client_ids": dict.fromkeys(("one", "two"), CLIENT_IDS[SET]),
    }
    one, two = [await make_core(**settings) for _ in range(2)]
    tenant_id = str(uuid4())
    grants: tuple[Grant, ...] = await accept(one, tenant_id, "northwind", "one")
    meet_only_in(where, [one, two], monkeypatch)

    async def revoke() -> None:
        await lost(one, grants[0])

    async def grant() -> None:
        await accept(two, tenant_id, "northwind", "two")

    if slow == "revocation":
        await on_an_old_picture(one, revoke, grant, monkeypatch)
    else:
        await on_an_old_picture(two, grant, revoke, monkeypatch)
    assert await the_app_is_used_where_the_second_set_is(two, tenant_id) == (where != "nowhere")
