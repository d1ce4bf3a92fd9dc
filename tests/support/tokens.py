"""An issuer of bearer tokens for tests of one service: its own key, its JWKS on a real port."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

AUDIENCE = "consent-platform"


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """Signs tokens that the services of a test accept."""

    url: str
    key: rsa.RSAPrivateKey

    def token(self, *roles: str, seconds: float = 600, **claims: Any) -> str:
        """A token with these roles; ``account_id`` and ``app_id`` are claims."""
        now = datetime.now(UTC)
        times = {"iat": now, "exp": now + timedelta(seconds=seconds)}
        names = {"iss": self.url, "aud": AUDIENCE, "sub": "someone", "roles": list(roles)}
        return jwt.encode({**times, **names, **claims}, self.key, algorithm="RS256", headers={"kid": "test"})

    def headers(self, *roles: str, **claims: Any) -> dict[str, str]:
        """The header of a request by the bearer of such a token."""
        return {"Authorization": f"Bearer {self.token(*roles, **claims)}"}


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """An issuer that answers for as long as the context lasts."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    keys = {"keys": [{**public, "kid": "test", "use": "sig", "alg": "RS256"}]}

    async def jwks(_: web.Request) -> web.Response:
        return web.json_response(keys)

    app = web.Application()
    app.router.add_get("/jwks", jwks)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield Issuer(url=f"http://127.0.0.1:{port}", key=key)
    finally:
        await runner.cleanup()
