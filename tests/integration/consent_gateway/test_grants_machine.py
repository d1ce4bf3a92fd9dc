"""No sequence of consents, answers of Entra, operations, replays and crashes, over two replicas, breaks the ledger.

Hypothesis chooses the steps; the database is a real one. After every step the same is looked for: revisions that only
grow in whole chains, one holder of a tenant, one tenant of a limited app, states that were good once, events that say
what is stored, and nothing taken away by a fault of ours.
"""

import asyncio
import hashlib
from collections.abc import Coroutine, Iterator
from time import time
from typing import Any, ClassVar, TypeVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
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

from consent_gateway.checks.checks import Finding
from consent_gateway.checks.registrations import Home
from consent_gateway.checks.verification import SYSTEM
from consent_gateway.consent.attempts import Person
from consent_gateway.consent.neighbours import SignIn
from consent_gateway.consent.proof import GLOBAL_ADMINISTRATOR, SigningKey
from consent_gateway.core import Core, utc_now
from consent_gateway.errors import Kind, Refused
from consent_gateway.grants.grants import Reason
from consent_gateway.grants.ledger import Books, Change
from shared.events import Actor, decode
from support import gateway
from support.gateway import CONTOSO, FABRIKAM, OPERATOR, OTHER_OPERATOR

Result = TypeVar("Result")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ADMINISTRATOR = "6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22"
SETS = ("read-directory-data", "manage-accounts")
TENANTS = (CONTOSO, FABRIKAM, "0d2c1f5e-8a47-4c1b-9f36-7be2d1a4c905")
USER = Actor(kind="user", id="operator-1")
COLLECTIONS = ("attempts", "grants", "links", "slots", "tenants", "outbox", "transfers", "invitations", "registrations")
NEGATIVES = 2

# One account more often: what two of its tenants do to each other is the harder part.
people = st.sampled_from([OPERATOR, OPERATOR, OPERATOR, OTHER_OPERATOR])
tenants = st.sampled_from(TENANTS)
sets = st.sampled_from(SETS)
replicas = st.integers(0, 1)


class PlayedEntra:
    """Entra as the machine wants it: every sign-in is an administrator's, and checks find what was chosen."""

    def __init__(self) -> None:
        self.finding = "all"
        self.works_at_home = True

    async def authorization_origin(self) -> str:
        return "https://login.entra.test"

    async def begin_sign_in(self, *, tenant_id: str, state: str, **_: object) -> SignIn:
        return SignIn(url=f"https://login.entra.test/{tenant_id}?state={state}", nonce="n", verifier="v", scope=())

    async def redeem(self, leg: Any, **_: object) -> str:
        now = int(time())
        claims = {
            "aud": leg.client_id,
            "iss": f"https://login.entra.test/{leg.tenant_id}/v2.0",
            "tid": leg.tenant_id,
            "exp": now + 600,
            "iat": now,
            "nonce": hashlib.sha256(b"n").hexdigest(),
            "oid": ADMINISTRATOR,
            "wids": [GLOBAL_ADMINISTRATOR],
        }
        return jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "k"})

    async def signing_key(self, *, tenant_id: str, **_: object) -> tuple[SigningKey, str]:
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k", "alg": "RS256"}
        return SigningKey(key=jwt.PyJWK(jwk), issuer=None), f"https://login.entra.test/{tenant_id}/v2.0"

    async def find(self, *, resources: Any, **_: object) -> Finding:
        nothing: dict[str, frozenset[str]] = {one.app_id: frozenset() for one in resources}
        found: dict[str, Finding] = {
            "all": Finding(roles={one.app_id: self.known for one in resources}),
            "some": Finding(roles=nothing | {resources[0].app_id: frozenset({"Directory.Read.All"})}),
            "none": Finding(roles=nothing),
            "gone": Finding(roles={}, gone=Reason.REMOVED),
            "ours": Finding(roles={}, unanswered="AADSTS7000222", ours=True),
            "silent": Finding(roles={}, unanswered="timeout", throttled=True),
        }
        return found[self.finding]

    async def home(self, *_: object) -> Home:
        return Home.WORKS if self.works_at_home else Home.OURS

    known: frozenset[str] = frozenset()


class Grants(RuleBasedStateMachine):
    """The gateway on two replicas."""

    url: ClassVar[str]
    database: ClassVar[str]
    loop: ClassVar[asyncio.AbstractEventLoop]
    cores: ClassVar[list[Core]]
    entra: ClassVar[PlayedEntra]

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Person, str, str]] = []
        self.proving: list[tuple[Person, str]] = []
        self.spent: set[str] = set()
        self.negatives: dict[tuple[str, str], int] = {}

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    def tried(self, work: Coroutine[Any, Any, Any]) -> Any:
        """A step that may be refused; a refusal is an answer."""
        try:
            return self.run(work)
        except Refused as refused:
            return refused

    @initialize()
    def empty(self) -> None:
        async def clear() -> None:
            for name in COLLECTIONS:
                await self.cores[0].database[name].delete_many({})

        self.run(clear())
        self.entra.finding, self.entra.works_at_home = "all", True
        for core in self.cores:
            core.verification._registrations._known.clear()
            core.verification._registrations._open.clear()

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
        self.run(consent.prove([("code", "c"), ("state", step.url.rpartition("state=")[2])], **who))  # type: ignore[arg-type]
        self.negatives.clear()

    @rule(tenant_id=tenants, replica=replicas)
    def grant_what_has_a_limited_app(self, tenant_id: str, replica: int) -> None:
        self.grant(OPERATOR, tenant_id, SETS[0], replica)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), replica=replicas)
    def callback(self, data: Any, replica: int) -> None:
        """Also again, and by the other person: what was taken once is never taken again."""
        person, tenant_id, state = data.draw(st.sampled_from(self.waiting))
        params = [("admin_consent", "True"), ("tenant", tenant_id), ("state", state)]
        step = self.tried(self.cores[replica].consent.callback(params, person=person, session_hash=person.session_hash))
        if not isinstance(step, Refused):
            assert state not in self.spent
            self.spent.add(state)
            self.proving.append((person, step.url.rpartition("state=")[2]))

    @precondition(lambda self: self.proving)
    @rule(data=st.data(), replica=replicas, finding=st.sampled_from(["all", "none", "silent"]))
    def prove(self, data: Any, replica: int, finding: str) -> None:
        person, state = data.draw(st.sampled_from(self.proving))
        self.entra.finding = finding
        step = self.tried(
            self.cores[replica].consent.prove(
                [("code", "c"), ("state", state)], person=person, session_hash=person.session_hash
            )
        )
        if not isinstance(step, Refused):
            assert state not in self.spent
            self.spent.add(state)
            self.negatives.clear()

    @precondition(lambda self: self.proving)
    @rule(data=st.data())
    def crash(self, data: Any) -> None:
        """A process took a state and died; its attempt is swept in the end."""
        person, state = data.draw(st.sampled_from(self.proving))

        async def die() -> None:
            hashed = hashlib.sha256(state.encode()).hexdigest()
            attempts = self.cores[0].database["attempts"]
            taken = await attempts.find_one_and_update(
                {"leg.state_hash": hashed, "phase": "proof"},
                {"$set": {"phase": "taken", "leg": None, "run": "dead", "expires_at": utc_now().replace(year=2020)}},
            )
            if taken is not None:
                self.spent.add(state)
            await asyncio.gather(*(core.sweeper.sweep() for core in self.cores))

        assert person is not None
        self.run(die())

    @rule(
        person=people,
        tenant_id=tenants,
        finding=st.sampled_from(["all", "some", "none", "gone", "ours", "silent"]),
        at_home=st.booleans(),
        replica=replicas,
    )
    def check(self, person: Person, tenant_id: str, finding: str, at_home: bool, replica: int) -> None:
        core, key = self.cores[replica], (person.account_id, tenant_id)
        self.entra.finding, self.entra.works_at_home = finding, at_home
        for one in self.cores:
            one.verification._registrations._known.clear()
        before = self.run(core.store.grants.grants_on(*key))
        self.tried(core.verification.check(*key, set(SETS)))
        definite = finding in {"some", "none"} or (finding == "gone" and at_home)
        if definite:
            self.negatives[key] = self.negatives.get(key, 0) + 1
        elif finding == "all":
            self.negatives[key] = 0
        lost = {g.permission_set_id for g in self.run(core.store.grants.grants_on(*key)) if not g.live}
        taken = [g for g in before if g.live and g.permission_set_id in lost]
        assert not taken or (definite and self.negatives[key] >= NEGATIVES), "taken away without enough to go by"

    @rule(person=people, tenant_id=tenants, one=sets, blocked=st.booleans(), replica=replicas)
    def block(self, person: Person, tenant_id: str, one: str, blocked: bool, replica: int) -> None:
        operations = self.cores[replica].operations
        self.tried(operations.block(person.account_id, tenant_id, one, blocked=blocked, actor=USER, now=utc_now()))

    @rule(person=people, tenant_id=tenants, replica=replicas)
    def disconnect(self, person: Person, tenant_id: str, replica: int) -> None:
        self.tried(self.cores[replica].operations.disconnect(person.account_id, tenant_id, actor=USER))

    @rule(person=people, tenant_id=tenants, replica=replicas)
    def move(self, person: Person, tenant_id: str, replica: int) -> None:
        work = self.cores[replica].operations.move_app(person.account_id, "mobile-security", tenant_id, actor=USER)
        self.tried(work)

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
            await core.flow.transfers.accept(asked.id, holder.account_id, actor=USER)

        self.tried(give())

    @rule(person=people, tenant_id=tenants)
    def republish(self, person: Person, tenant_id: str) -> None:
        async def work(books: Books) -> None:
            turn = await books.open(person.account_id, tenant_id)
            if turn.tenant is not None:
                await books.write(turn, Change(grants=list(turn.grants.values()), cause="snapshot", actor=SYSTEM))

        self.run(self.cores[0].operations._ledger.transact(person.account_id, work))

    @invariant()
    def the_books_are_right(self) -> None:
        self.run(self._look())

    async def _look(self) -> None:
        database = self.cores[0].database
        rows = await database["outbox"].find({}).sort([("revision", 1), ("_id", 1)]).to_list(None)
        grants = await database["grants"].find({}).to_list(None)
        last: dict[str, int] = {}
        said: dict[str, tuple[str, bool, tuple[str, ...]]] = {}
        for row in rows:
            data: Any = decode([(name, bytes(value)) for name, value in row["headers"]], row["value"]).data
            if getattr(data, "revision", None) is not None:
                assert data.previous_revision == last.get(data.key()), "a gap in a chain"
                last[data.key()] = data.revision
            if hasattr(data, "permission_set_id"):
                said[f"{data.key()}:{data.permission_set_id}"] = (data.status, data.usable, data.apps)
        assert said == {one["_id"]: (one["status"], one["usable"], tuple(one["apps"])) for one in grants}
        live = [one for one in grants if one["status"] != "revoked"]
        for link in await database["links"].find({}).to_list(None):
            holders = {one["account_id"] for one in live if one["tenant_id"] == link["_id"]}
            assert link["account_ids"] == sorted(holders)
            assert len(holders) <= 1
        for slot in await database["slots"].find({}).to_list(None):
            mine = [one for one in live if one["account_id"] == slot["account_id"]]
            users = {one["tenant_id"] for one in mine if slot["app_id"] in one["apps"]}
            assert users == ({slot["tenant_id"]} if slot["tenant_id"] else set())
            held = {
                (h["tenant_id"], h["epoch"]) for one in mine for h in one["held_apps"] if h["app_id"] == slot["app_id"]
            }
            assert held <= {(slot["tenant_id"], slot["epoch"])}, "an app is said to be held by a tenant that has it not"


@pytest.fixture
def machine(mongo_url: str) -> Iterator[type[Grants]]:
    loop = asyncio.new_event_loop()
    entra = PlayedEntra()
    wanted = gateway.settings(mongo_url=mongo_url, database="grants_machine", driver="pymongo", wait_seconds=0)
    cores = [Core.of(wanted), Core.of(wanted)]
    with pytest.MonkeyPatch.context() as patch:
        for core in cores:
            for name in ("authorization_origin", "begin_sign_in", "redeem", "signing_key"):
                patch.setattr(core.entra.tokens, name, getattr(entra, name))
            patch.setattr(core.verification, "_prober", entra)
            patch.setattr(core.verification._registrations, "_prober", entra)
        values = frozenset(p.value for one in cores[0].catalog.sets.values() for p in one.required)
        patch.setattr(entra, "known", values)
        patch.setattr(Grants, "loop", loop, raising=False)
        patch.setattr(Grants, "cores", cores, raising=False)
        patch.setattr(Grants, "entra", entra, raising=False)
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
        stateful_step_count=35,
        deadline=None,
        # Shrinking over a database takes minutes; what failed is printed as it was.
        phases=(Phase.generate,),
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=bounded)
