"""Runs a notifier, in a process of its own, that is killed at a named moment (``support.notifier_that_crashes``)."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from launcher.ports import free_port
from notifier.settings import Settings
from shared.topics import Topic
from support import notifier_that_crashes
from support.eventually import eventually

START_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Doomed:
    """The process, and where its API answers until it dies."""

    process: asyncio.subprocess.Process
    url: str

    async def ready(self) -> None:
        """Return when it serves."""
        async with httpx.AsyncClient() as client:

            async def status() -> int:
                try:
                    return (await client.get(f"{self.url}/readyz")).status_code
                except httpx.TransportError:
                    return 0

            await eventually(status, lambda found: found == 200, within=START_SECONDS, what="readiness")

    async def call(self, method: str, path: str, *, headers: dict[str, str], json: object = None) -> None:
        """Ask it something; it may well die before it answers."""
        async with httpx.AsyncClient(timeout=START_SECONDS) as client:
            try:
                answer = await client.request(method, self.url + path, headers=headers, json=json)
            except httpx.TransportError:
                return
        assert answer.is_success, answer.text

    async def died(self) -> None:
        """Return when it has been killed in its window, and by nothing else."""
        async with asyncio.timeout(START_SECONDS):
            assert await self.process.wait() == -signal.SIGKILL


@asynccontextmanager
async def doomed(
    window: str, *, settings: Settings, topic: Topic, group: str, **environment: str
) -> AsyncIterator[Doomed]:
    """A notifier that dies in the window; ``environment`` changes its settings."""
    port = free_port()
    command = [sys.executable, "-m", notifier_that_crashes.__name__, window]
    command += [topic.name, str(topic.partitions), group]
    env = {**_environment(settings), "HTTP__PORT": str(port), **environment}
    process = await asyncio.create_subprocess_exec(*command, env=env)
    try:
        yield Doomed(process=process, url=f"http://127.0.0.1:{port}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    delivery = settings.delivery
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PUBLIC_URL": settings.public_url,
        "KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "MONGO__URL": settings.mongo.url.get_secret_value(),
        "MONGO__DATABASE": settings.mongo.database,
        "AUTH__ISSUER": settings.auth.issuer,
        "AUTH__AUDIENCE": settings.auth.audience,
        "AUTH__JWKS_URL": settings.auth.jwks_url,
        "DELIVERY__SECRETS_KEY": delivery.secrets_key.get_secret_value(),
        "DELIVERY__ALLOW_PRIVATE_NETWORKS": "true",
        "DELIVERY__RETRY_SCHEDULE": json.dumps(delivery.retry_schedule),
        "DELIVERY__TOTAL_TIMEOUT_SECONDS": str(delivery.total_timeout_seconds),
        "DELIVERY__LEASE_SECONDS": str(delivery.lease_seconds),
    }
