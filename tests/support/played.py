"""A gateway that a test plays: an Entra that says what was chosen, and transactions that end as was chosen."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from pymongo.errors import AutoReconnect

from consent_gateway.catalog.file import CatalogContent, read_catalog
from consent_gateway.checks.checks import Finding
from consent_gateway.checks.registrations import Home
from consent_gateway.consent.neighbours import SignIn
from consent_gateway.consent.proof import GLOBAL_ADMINISTRATOR, SigningKey
from consent_gateway.core import Core
from consent_gateway.grants.grants import Reason
from consent_gateway.settings import Settings
from shared.mongo import transaction

if TYPE_CHECKING:
    from shared.mongo import Database, Session

Result = TypeVar("Result")
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ADMINISTRATOR = "6a7e2f0c-1d7b-4b55-9a4e-0b6f7f0a1c22"
ADDED = "Added.Read.All"
APP = "mobile-security"


class PlayedEntra:
    """Every sign-in is an administrator's, and checks find what was chosen."""

    def __init__(self) -> None:
        self.finding = "all"
        self.works_at_home = True
        self.known = frozenset({ADDED})

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

    def replica(self, settings: Settings) -> Core:
        """A new process in front of this Entra: it remembers nothing."""
        core = Core.of(settings)
        for name in ("authorization_origin", "begin_sign_in", "redeem", "signing_key"):
            setattr(core.entra.tokens, name, getattr(self, name))
        registrations: Any = core.registrations
        registrations._prober = self
        verification: Any = core.verification
        verification._prober = self
        reevaluation: Any = core.reevaluation
        reevaluation._pause = 0
        self.known |= {p.value for one in core.catalog.sets.values() for p in one.required}
        return core


class Killed(BaseException):
    """The process is gone. No handler of an error sees it."""


@dataclass(kw_only=True)
class Transactions:
    """In place of ``shared.mongo.transaction``: the next one ends as ``trouble`` says, all others as they should."""

    trouble: str | None = None
    met: list[str] = field(default_factory=list)

    TROUBLES = ("killed inside", "fails inside", "conflicts", "killed after", "outcome lost")

    async def __call__(self, database: "Database", work: "Callable[[Session], Awaitable[Result]]") -> Result:
        trouble, self.trouble = self.trouble, None
        if trouble is None:
            return await transaction(database, work)
        self.met.append(trouble)
        ends: dict[str, BaseException] = {
            "killed inside": Killed(),
            "fails inside": AutoReconnect("lost the primary"),
            "conflicts": _Conflict(),
        }
        if trouble in ends:

            async def broken(session: "Session") -> Result:
                await work(session)
                raise ends[trouble]

            with suppress(_Conflict):
                await transaction(database, broken)
        result = await transaction(database, work)
        if trouble == "killed after":
            raise Killed
        if trouble == "outcome lost":
            raise AutoReconnect("the commit's answer was lost")
        return result


class _Conflict(Exception):
    """What was done is undone, and done again."""


def next_catalog(before: CatalogContent, change: str, set_id: str) -> CatalogContent:
    """The next version of a catalogue, where one thing is the other way round than before.

    ``asks`` for one permission more, no longer ``needs`` another one, ``gives`` the limited app to the set or takes it
    away, ``limits`` that app to one tenant or frees it.
    """
    content = json.loads(before.text)
    content["version"] += 1
    (wanted,) = [one for one in content["permission_sets"] if one["id"] == set_id]
    (app,) = [one for one in content["apps"] if one["id"] == APP]
    app.pop("functions", None)
    if change in {"asks", "needs"}:
        wanted["version"] += 1
        value = ADDED if change == "asks" else "Directory.Read.All"
        without = [one for one in wanted["permissions"] if one["value"] != value]
        added = {"resource": "graph", "value": value, "reason": "another one"}
        wanted["permissions"] = without if len(without) < len(wanted["permissions"]) else [*without, added]
    elif change == "gives":
        others = [one for one in app["permission_sets"] if one != set_id]
        app["permission_sets"] = [*others, set_id] if len(others) == len(app["permission_sets"]) else others or [set_id]
    elif app.pop("tenant_limit", None) is None:
        app["tenant_limit"] = 1
    return CatalogContent(version=content["version"], text=json.dumps(content, sort_keys=True))


def first_catalog() -> CatalogContent:
    """The packaged one."""
    return read_catalog(None)
