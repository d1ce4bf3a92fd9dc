"""The gateway as its operator starts it: a process with an environment, and HTTP."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from launcher.ports import free_port
from support.eventually import eventually
from support.gateway import CLIENT_IDS, HOME


def environment(**changes: str) -> dict[str, str]:
    """The least that the gateway must be told; Kafka and, unless changed, MongoDB are never there."""
    least = {
        "HTTP__PORT": "0",
        "PUBLIC_URL": "http://gateway.test",
        "KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "MONGO__URL": "mongodb://127.0.0.1:1/?replicaSet=none",
        "MONGO__DATABASE": "gateway",
        "MONGO__TIMEOUT_MS": "2000",
        "AUTH__ISSUER": "http://idp.test",
        "AUTH__AUDIENCE": "consent-platform",
        "AUTH__JWKS_URL": "http://idp.test/jwks",
        "ENTRA__LOGIN_URL": "https://login.entra.test",
        "ENTRA__HOME_TENANT_ID": HOME,
        "ENTRA__CLIENT_SECRET": "sandbox-secret",
        "CATALOG__CLIENT_IDS": json.dumps(CLIENT_IDS),
        "REGISTRY_URL": "http://registry.test",
        "CONSOLE__ISSUER": "http://idp.test",
        "CONSOLE__CLIENT_SECRET": "secret",
        "CONSOLE__SESSION_SECRET": "a secret that is long enough for it",
    }
    return {name: value for name, value in (least | changes).items() if value}


@asynccontextmanager
async def serving(env: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A running gateway and a client of it."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consent_gateway", env={**env, "HTTP__PORT": str(port)}, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            async def alive() -> bool:
                assert process.returncode is None, "the gateway ended"
                try:
                    return (await client.get("/livez")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(alive, within=40, what="the gateway")
            yield client
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(20):
                # The server ends in an orderly way and then by the signal, for its supervisor to see.
                assert await process.wait() in {0, -signal.SIGTERM}
