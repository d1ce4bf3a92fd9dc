"""No sequence of consents, answers of Entra, operations, catalogues, replays and crashes breaks the ledger.

Hypothesis chooses the steps; the database is a real one, and two replicas work on it. A transaction may be undone, be
done again, lose the answer to its commit, or be the last thing that its process did: then a process that remembers
nothing takes that one's place. After every step the same is looked for: revisions that only grow in whole chains, one
holder of a tenant, one tenant of a limited app, states that were good once, consents that were written once, events
that say what is stored, and nothing taken away by a fault of ours.
"""

import asyncio
import hashlib
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pymongo.errors import PyMongoError

from consent_gateway.checks.verification import SYSTEM
from consent_gateway.consent.attempts import Person
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants import ledger
from consent_gateway.grants.change import Change
from consent_gateway.grants.ledger import Books
from consent_gateway.grants.store import Claim
from consent_gateway.settings import Settings
from shared.events import Actor, decode
from support import gateway
from support.gateway import CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR
from support.played import APP, Killed, PlayedEntra, Transactions, first_catalog, next_catalog

SETS = ("read-directory-data", "manage-accounts")
TENANTS = (CONTOSO, FABRIKAM, "0d2c1f5e-8a47-4c1b-9f36-7be2d1a4c905")
USER = Actor(kind="user", id="operator-1")
BOOKS = ("attempts", "grants", "links", "slots", "tenants", "outbox", "people")
COLLECTIONS = (*BOOKS, "transfers", "invitations", "registrations", "catalog", "leases")
NEGATIVES = 2
# What speaks against a grant, and what says nothing of it.
FINDINGS = ("all", "some", "none", "gone", "ours", "silent")

# One account more often: what two of its tenants do to each other is the harder part.
people = st.sampled_from([OPERATOR, OPERATOR, OPERATOR, OTHER_OPERATOR])
tenants = st.sampled_from(TENANTS)
sets = st.sampled_from(SETS)
replicas = st.integers(0, 1)
troubles = st.sampled_from(Transactions.TROUBLES)


class Grants(RuleBasedStateMachine):
    """The gateway on two replicas."""

    settings: ClassVar[Settings]
    loop: ClassVar[asyncio.AbstractEventLoop]
    cores: ClassVar[list[Core]]
    entra: ClassVar[PlayedEntra]
    transactions: ClassVar[Transactions]

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Person, str, str]] = []
        self.proving: list[tuple[Person, str]] = []
        self.claims: list[list[Claim]] = []
        self.spent: set[str] = set()
        self.closed: set[str] = set()
        # Answers against a grant since it was accepted, or found to be all there.
        self.negatives: dict[str, int] = {}
        self.accepted: dict[str, Any] = {}
        self.live: set[str] = set()
        self.revisions: dict[str, int] = {}
        # What the step may have ended: grants, or all of those on a tenant.
        self.may_end: set[str] = set()
        self.catalog = first_catalog()
        # What each replica has on its disk: whoever takes its place reads it again.
        self.files = [self.catalog, self.catalog]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def tried(self, replica: int, work: Coroutine[Any, Any, Any]) -> Any:
        """A step that may be refused, fail, or be the process's last; what came of it is an answer."""
        try:
            return self.run(work)
        except (Refused, PyMongoError) as error:
            return error
        except Killed as end:
            self.replace(replica)
            return end

    def replace(self, replica: int) -> None:
        """Another process takes the place of one that is gone; its leases run out in time."""

        async def begin() -> None:
            async with self.cores[replica].open():
                pass
            self.cores[replica] = self.entra.replica(self.settings)
            versions: Any = self.cores[replica].versions
            versions._own = self.files[replica]
            await self.cores[replica].versions.follow()
            await self.cores[0].database["leases"].delete_many({})

        self.run(begin())

    @initialize()
    def empty(self) -> None:
        async def clear() -> None:
            for name in COLLECTIONS:
                await self.cores[0].database[name].delete_many({})

        self.transactions.trouble = None
        self.run(clear())
        self.entra.finding, self.entra.works_at_home = "all", True
        for replica in range(len(self.cores)):
            self.replace(replica)
            self.run(self.cores[replica].reevaluation.start())

    @rule(trouble=troubles)
    def trouble(self, trouble: str) -> None:
        """It comes with the next transaction, whatever step that is part of."""
        self.transactions.trouble = trouble

    @rule(trouble=troubles, tenant_id=tenants, one=sets, replica=replicas)
    def trouble_with_a_consent(self, trouble: str, tenant_id: str, one: str, replica: int) -> None:
        self.transactions.trouble = trouble
        self.grant(OPERATOR, tenant_id, one, replica)

    @rule(trouble=troubles, tenant_id=tenants, finding=st.sampled_from(["all", "none", "gone"]), replica=replicas)
    def trouble_with_a_check(self, trouble: str, tenant_id: str, finding: str, replica: int) -> None:
        self.transactions.trouble = trouble
        self.look(OPERATOR, tenant_id, finding, replica, at_home=True)

    @rule(replica=replicas)
    def restart(self, replica: int) -> None:
        self.replace(replica)

    @rule(change=st.sampled_from(["asks", "asks", "needs", "gives", "limits"]), one=sets, replica=replicas)
    def roll_out(self, change: str, one: str, replica: int) -> None:
        """One replica comes with a newer file; the other one hears of it sooner or later."""
        self.catalog = self.files[replica] = next_catalog(self.catalog, change, one)
        versions: Any = self.cores[replica].versions
        versions._own = self.catalog
        self.run(self.cores[replica].reevaluation.start())

    @rule(replica=replicas)
    def follow(self, replica: int) -> None:
        core = self.cores[replica]
        self.tried(replica, core.reevaluation.step())
        self.run(self._look_at_catalog(self.cores[replica]))

    async def _look_at_catalog(self, core: Core) -> None:
        catalog = core.catalog
        active = await core.database["catalog"].find_one({"_id": "active"})
        assert active is not None
        if active["edition"] != catalog.edition:
            return
        seen = {"catalog_edition": catalog.edition, "entra": {"$ne": "gone"}}
        grants = await core.database["grants"].find(seen).to_list(None)
        for one in grants:
            required = {(p.resource_app_id, p.value) for p in catalog.sets[one["permission_set_id"]].required}
            accepted = {(p["resource_app_id"], p["value"]) for p in one["accepted"]}
            assert one["asks_more"] is bool(required - accepted)
            assert accepted <= required, "what nobody asks for any more is held against a grant"
            apps = {*one["apps"], *(held["app_id"] for held in one["held_apps"])}
            assert apps == set(catalog.sets[one["permission_set_id"]].apps)
        behind = await core.database["grants"].count_documents({"catalog_edition": {"$lt": catalog.edition}})
        if not behind and catalog.apps[APP].tenant_limit:
            for person in (OPERATOR, OTHER_OPERATOR):
                mine = [one for one in grants if one["account_id"] == person.account_id]
                assert len({one["tenant_id"] for one in mine if APP in one["apps"]}) <= 1

    @rule(person=people, tenant_id=tenants, one=sets, replica=replicas)
    def start(self, person: Person, tenant_id: str, one: str, replica: int) -> None:
        url = self.run(self.cores[replica].consent.start(person, permission_set_ids=[one], tenant_id=tenant_id))
        self.waiting.append((person, tenant_id, url.rpartition("state=")[2]))

    @rule(person=people, tenant_id=tenants, one=sets, replica=replicas)
    def grant_at_once(self, person: Person, tenant_id: str, one: str, replica: int) -> None:
        self.grant(person, tenant_id, one, replica)

    def grant(self, person: Person, tenant_id: str, one: str, replica: int) -> None:
        """All of it at once: most steps are about what was granted."""
        consent, who = self.cores[replica].consent, {"person": person, "session_hash": person.session_hash}
        self.entra.finding = "all"
        url = self.run(consent.start(person, permission_set_ids=[one], tenant_id=tenant_id))
        params = [("admin_consent", "True"), ("tenant", tenant_id), ("state", url.rpartition("state=")[2])]
        step: Any = self.run(consent.callback(params, **who))  # type: ignore[arg-type]
        state = step.url.rpartition("state=")[2]
        self.tried(replica, consent.prove([("code", "c"), ("state", state)], **who))  # type: ignore[arg-type]
        self.spent.add(state)

    @rule(tenant_id=tenants, replica=replicas)
    def grant_what_has_a_limited_app(self, tenant_id: str, replica: int) -> None:
        self.grant(OPERATOR, tenant_id, SETS[0], replica)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), replica=replicas)
    def callback(self, data: Any, replica: int) -> None:
        """Also again, and by the other person: what was taken once is never taken again."""
        person, tenant_id, state = data.draw(st.sampled_from(self.waiting))
        params = [("admin_consent", "True"), ("tenant", tenant_id), ("state", state)]
        consent = self.cores[replica].consent
        step = self.tried(replica, consent.callback(params, person=person, session_hash=person.session_hash))
        if not isinstance(step, Refused):
            assert state not in self.spent
            self.spent.add(state)
            self.proving.append((person, step.url.rpartition("state=")[2]))

    @precondition(lambda self: self.proving)
    @rule(data=st.data(), replica=replicas, finding=st.sampled_from(["all", "none", "silent"]))
    def prove(self, data: Any, replica: int, finding: str) -> None:
        person, state = data.draw(st.sampled_from(self.proving))
        self.entra.finding = finding
        params = [("code", "c"), ("state", state)]
        consent = self.cores[replica].consent
        step = self.tried(replica, consent.prove(params, person=person, session_hash=person.session_hash))
        if not isinstance(step, Refused):
            assert state not in self.spent
            self.spent.add(state)

    @precondition(lambda self: self.proving)
    @rule(data=st.data(), replica=replicas)
    def die_with_a_state(self, data: Any, replica: int) -> None:
        """A process took a state and died; its attempt is swept in the end."""
        _, state = data.draw(st.sampled_from(self.proving))

        async def die() -> None:
            hashed = hashlib.sha256(state.encode()).hexdigest()
            attempts = self.cores[0].database["attempts"]
            taken = await attempts.find_one_and_update(
                {"leg.state_hash": hashed, "phase": "proof"},
                {"$set": {"phase": "taken", "leg": None, "run": "dead"}},
            )
            if taken is not None:
                self.spent.add(state)

        self.run(die())
        self.replace(replica)

    @rule(replica=replicas)
    def sweep(self, replica: int) -> None:
        """Whatever was left in somebody's hands is ended once its time is over."""

        async def late() -> None:
            over = {"$set": {"expires_at": utc_now() - timedelta(days=1)}}
            await self.cores[0].database["attempts"].update_many({"phase": "taken"}, over)
            await self.cores[replica].sweeper.sweep()

        self.tried(replica, late())

    @rule(person=people, tenant_id=tenants, finding=st.sampled_from(FINDINGS), at_home=st.booleans(), replica=replicas)
    def check(self, person: Person, tenant_id: str, finding: str, at_home: bool, replica: int) -> None:
        self.look(person, tenant_id, finding, replica, at_home=at_home)

    @rule(tenant_id=tenants, finding=st.sampled_from(["gone", "gone", "ours", "silent"]), replica=replicas)
    def our_own_fault(self, tenant_id: str, finding: str, replica: int) -> None:
        """However often Entra says it, while our own tenant refuses us or nobody answers, it takes nothing away."""
        for each in (replica, 1 - replica, replica):
            self.look(OPERATOR, tenant_id, finding, each, at_home=False)

    def look(self, person: Person, tenant_id: str, finding: str, replica: int, *, at_home: bool) -> None:
        """Entra is asked about the tenant's grants."""
        self.answers(f"{person.account_id}:{tenant_id}", finding, at_home)
        check = self.cores[replica].verification.check
        checked = self.tried(replica, check(person.account_id, tenant_id, set(SETS)))
        if finding == "all" and isinstance(checked, list):
            for grant in checked:
                self.negatives[f"{person.account_id}:{tenant_id}:{grant.permission_set_id}"] = 0

    def answers(self, tenant: str, finding: str, at_home: bool) -> None:
        """What Entra says from here on; an answer against the tenant's grants is counted whether it is heard or not."""
        self.entra.finding, self.entra.works_at_home = finding, at_home
        for one in self.cores:
            one.verification._registrations._known.clear()
        if finding in {"some", "none"} or (finding == "gone" and at_home):
            for name in [one for one in self.negatives if one.startswith(tenant)]:
                self.negatives[name] += 1
                if self.negatives[name] >= NEGATIVES:
                    self.may_end.add(name)

    @rule(replica=replicas)
    def claim(self, replica: int) -> None:
        """Leases that have run out at once: whoever holds one may be overtaken by the next one."""
        store = self.cores[replica].store.grants
        due = {"now": utc_now() + timedelta(days=30), "owner": f"replica-{replica}", "seconds": -1.0, "most": 4}
        claimed: list[Claim] = self.run(store.claim_due(**due))  # type: ignore[arg-type]
        by_tenant: dict[tuple[str, str], list[Claim]] = {}
        for one in claimed:
            by_tenant.setdefault((one.grant.account_id, one.grant.tenant_id), []).append(one)
        self.claims += by_tenant.values()

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), finding=st.sampled_from(FINDINGS), at_home=st.booleans(), replica=replicas)
    def check_claimed(self, data: Any, finding: str, at_home: bool, replica: int) -> None:
        """Under a lease, however old."""
        claims: list[Claim] = data.draw(st.sampled_from(self.claims))
        first = claims[0].grant
        self.answers(f"{first.account_id}:{first.tenant_id}", finding, at_home)
        tokens = {one.grant.permission_set_id: one.token for one in claims}
        verification = self.cores[replica].verification
        self.tried(replica, verification.check_claimed([one.grant for one in claims], tokens))

    @rule(person=people, tenant_id=tenants, one=sets, blocked=st.booleans(), replica=replicas)
    def block(self, person: Person, tenant_id: str, one: str, blocked: bool, replica: int) -> None:
        block = self.cores[replica].operations.block
        self.tried(replica, block(person.account_id, tenant_id, one, blocked=blocked, actor=USER, now=utc_now()))

    @rule(person=people, tenant_id=tenants, replica=replicas)
    def disconnect(self, person: Person, tenant_id: str, replica: int) -> None:
        self.may_end.add(f"{person.account_id}:{tenant_id}")
        self.tried(replica, self.cores[replica].operations.disconnect(person.account_id, tenant_id, actor=USER))

    @rule(person=people, tenant_id=tenants, replica=replicas)
    def move(self, person: Person, tenant_id: str, replica: int) -> None:
        work = self.cores[replica].operations.move_app(person.account_id, APP, tenant_id, actor=USER)
        self.tried(replica, work)

    @rule(tenant_id=tenants, replica=replicas)
    def transfer(self, tenant_id: str, replica: int) -> None:
        """Whoever was refused for the tenant asks for it, and gets it."""
        core = self.cores[replica]

        async def give() -> None:
            refused = await core.database["attempts"].find_one(
                {"failure": str(Kind.TENANT_TAKEN), "tenant_id": tenant_id}
            )
            if refused is None:
                return
            person = OPERATOR if refused["account_id"] == OPERATOR.account_id else OTHER_OPERATOR
            asked = await core.flow.transfers.request(refused["_id"], person, tell_name=False)
            holder = OTHER_OPERATOR if person is OPERATOR else OPERATOR
            self.may_end.add(f"{holder.account_id}:{tenant_id}")
            await core.flow.transfers.accept(asked.id, holder.account_id, actor=USER)

        self.tried(replica, give())

    @rule(person=people, tenant_id=tenants, replica=replicas)
    def republish(self, person: Person, tenant_id: str, replica: int) -> None:
        async def work(books: Books) -> None:
            turn = await books.open(person.account_id, tenant_id)
            if turn.tenant is not None:
                await books.write(turn, Change(grants=list(turn.grants.values()), cause="snapshot", actor=SYSTEM))

        self.tried(replica, self.cores[replica].operations._ledger.transact(person.account_id, work))

    @invariant()
    def the_books_are_right(self) -> None:
        self.run(self._look())

    async def _look(self) -> None:
        database = self.cores[0].database
        rows = await database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
        grants = await database["grants"].find({}).to_list(None)
        consents = self._look_at_events(rows, grants)
        self._look_at_ends(grants)
        for one in [*grants, *await database["tenants"].find({}).to_list(None)]:
            assert one["revision"] >= self.revisions.get(one["_id"], 0), "a revision went back"
            self.revisions[one["_id"]] = one["revision"]
        for attempt in await database["attempts"].find({}).to_list(None):
            spent = {hashlib.sha256(state.encode()).hexdigest() for state in self.spent}
            assert attempt["leg"] is None or attempt["leg"]["state_hash"] not in spent, "a state is good again"
            assert attempt["_id"] not in self.closed or attempt["phase"] == "closed", "an attempt was opened again"
            if attempt["phase"] == "closed":
                self.closed.add(attempt["_id"])
                wanted = {(attempt["_id"], one) for one in attempt["permission_set_ids"]}
                assert attempt["failure"] is not None or wanted <= consents, "a consent was lost"
        live = [one for one in grants if one["status"] != "revoked"]
        for link in await database["links"].find({}).to_list(None):
            holders = {one["account_id"] for one in live if one["tenant_id"] == link["_id"]}
            assert link["account_ids"] == sorted(holders)
            assert len(holders) <= 1
        for slot in await database["slots"].find({}).to_list(None):
            mine = [one for one in live if one["account_id"] == slot["account_id"]]
            # Who has it without an epoch got it while it wasn't limited, and is still to hear that it is.
            users = {one["tenant_id"] for one in mine if slot["app_id"] in one["app_epochs"]}
            assert users == ({slot["tenant_id"]} if slot["tenant_id"] else set())
            held = {
                (h["tenant_id"], h["epoch"]) for one in mine for h in one["held_apps"] if h["app_id"] == slot["app_id"]
            }
            assert held <= {(slot["tenant_id"], slot["epoch"])}, "an app is said to be held by a tenant that has it not"

    def _look_at_events(self, rows: list[dict[str, Any]], grants: list[dict[str, Any]]) -> set[tuple[str, str]]:
        """Also returns what was accepted: attempts and sets."""
        last: dict[str, int] = {}
        said: dict[str, tuple[str, bool, tuple[str, ...]]] = {}
        accepts: dict[tuple[str, str], Any] = {}
        for row in rows:
            data: Any = decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data
            if getattr(data, "revision", None) is not None:
                assert data.previous_revision == last.get(data.key()), "a gap in a chain"
                last[data.key()] = data.revision
            if hasattr(data, "permission_set_id"):
                said[f"{data.key()}:{data.permission_set_id}"] = (data.status, data.usable, data.apps)
                if data.cause == "consent":
                    accepted_at = accepts.setdefault((data.attempt_id, data.permission_set_id), data.granted_at)
                    assert accepted_at == data.granted_at, "one attempt was good for two consents"
        assert said == {one["_id"]: (one["status"], one["usable"], tuple(one["apps"])) for one in grants}
        return set(accepts)

    def _look_at_ends(self, grants: list[dict[str, Any]]) -> None:
        live = {one["_id"] for one in grants if one["status"] != "revoked"}
        for name in self.live - live:
            assert any(name.startswith(one) for one in self.may_end), "taken away without enough to go by"
        self.live, self.may_end = live, set()
        for one in grants:
            if self.accepted.get(one["_id"]) != one["accepted_at"]:
                self.accepted[one["_id"]], self.negatives[one["_id"]] = one["accepted_at"], 0


@pytest.fixture
def machine(mongo_url: str) -> Iterator[type[Grants]]:
    loop = asyncio.new_event_loop()
    entra, transactions = PlayedEntra(), Transactions()
    wanted = gateway.settings(mongo_url=mongo_url, database="grants_machine", driver="pymongo", wait_seconds=0)
    cores = [entra.replica(wanted), entra.replica(wanted)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "transaction", transactions)
        for name, value in (("settings", wanted), ("loop", loop), ("cores", cores), ("entra", entra)):
            patch.setattr(Grants, name, value, raising=False)
        patch.setattr(Grants, "transactions", transactions, raising=False)
        yield Grants

        async def close() -> None:
            await cores[0].database.client.drop_database("grants_machine")
            for core in cores:
                async with core.open():
                    pass

        loop.run_until_complete(close())
    loop.close()


def test_no_sequence_of_steps_breaks_the_books(machine: type[Grants]) -> None:
    bounded = settings(
        max_examples=9,
        stateful_step_count=40,
        deadline=None,
        # Shrinking over a database takes minutes; what failed is printed as it was.
        phases=(Phase.generate,),
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=bounded)
    assert set(machine.transactions.met) == set(Transactions.TROUBLES), "not every trouble was met"
