"""The registry's read API in this process: real tokens of every role, and events that are projected at once."""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI

from shared import problems
from shared.auth import KeySet, TokenVerifier, bearer
from shared.events import EventData
from support.consent_events import ACCOUNT, event
from tenant_registry import fleet_routes, routes
from tenant_registry.fleet import Fleet
from tenant_registry.projection import fold, project
from tenant_registry.queries import Queries
from tenant_registry.store import Store

if TYPE_CHECKING:
    from shared.mongo import Database

ISSUER, AUDIENCE = "https://issuer.example", "consent-platform"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ADATUM = "adatum"
DIRECTORY, MANAGE = "read-directory-data", "manage-accounts"


def published_keys(_: httpx.Request) -> httpx.Response:
    key = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "k1", "alg": "RS256"}
    return httpx.Response(200, json={"keys": [key]})


def token(role: str, **claims: str) -> str:
    now = int(time.time())
    times = {"iat": now, "exp": now + 300}
    account = {} if role in {"app", "staff"} else {"account_id": ACCOUNT}
    fields = {"iss": ISSUER, "aud": AUDIENCE, "sub": "s", "roles": [role], **times, **account, **claims}
    return jwt.encode(fields, KEY, algorithm="RS256", headers={"kid": "k1"})


class Api:
    """Calls with a token of a role."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(
        self, path: str, role: str = "viewer", *, headers: dict[str, str] | None = None, **claims: str
    ) -> Any:
        authorization = {"authorization": f"Bearer {token(role, **claims)}"}
        return await self._client.get(path, headers=authorization | (headers or {}))

    async def items(self, path: str, role: str = "viewer", **claims: Any) -> list[Any]:
        answer = await self.get(path, role, **claims)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    async def all_pages(self, path: str, role: str = "viewer", **claims: Any) -> list[Any]:
        found: list[Any] = []
        cursor = ""
        while True:
            answer = (await self.get(f"{path}{cursor}", role, **claims)).json()
            found += answer["items"]
            if answer["next_cursor"] is None:
                return found
            cursor = f"&cursor={answer['next_cursor']}"


def registry_app(database: "Database", fleet: Fleet) -> FastAPI:
    """The routes of the read API, composed as ``app.py`` does it."""
    app = FastAPI()
    keys = KeySet(f"{ISSUER}/keys", httpx.AsyncClient(transport=httpx.MockTransport(published_keys)))
    caller = bearer(TokenVerifier(issuer=ISSUER, audience=AUDIENCE, keys=keys))
    app.include_router(routes.router(Queries(database), caller))
    app.include_router(fleet_routes.router(Queries(database), fleet, caller))
    problems.install(app)
    return app


async def write(store: Store, *events: EventData) -> list[str]:
    """Project the events, and return their ids."""
    happened = [event(data) for data in events]
    outcomes = [project(item) for item in happened]
    changes = fold(outcome.change for outcome in outcomes if outcome.change is not None)
    await store.write(changes, [outcome.history for outcome in outcomes if outcome.history is not None])
    return [item.id for item in happened]


def numbered(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def ids(items: Sequence[Any]) -> list[str]:
    return [item["tenant_id"] for item in items]
