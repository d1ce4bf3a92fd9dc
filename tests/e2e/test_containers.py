"""The same system in containers: docker-compose.yml, started, stopped and started again for real."""

import asyncio
import os
import shlex
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from support.browsing import Browser
from support.deployment import ROOT
from support.eventually import eventually
from support.platform import CONTOSO, Platform, consent, sign_in

COMMAND = shlex.split(os.environ.get("TEST_COMPOSE", ""))
PORTS = {
    "GATEWAY_PORT": "gateway",
    "REGISTRY_PORT": "registry",
    "NOTIFIER_PORT": "notifier",
    "SANDBOX_PORT": "sandbox",
    "IDP_PORT": "idp",
    "SAMPLE_APP_PORT": "app",
    "KAFKA_PORT": "kafka",
    "MONGO_PORT": "mongod",
}
# Images are built, and eight containers started, on machines that may do something else as well.
PATIENCE = 600

pytestmark = pytest.mark.skipif(
    not COMMAND, reason='optional: set TEST_COMPOSE="docker compose" where a Docker engine and its images are at hand'
)


class Containers(Platform):
    """The system as compose runs it, on ports and volumes of its own."""

    async def compose(self, *arguments: str) -> None:
        """Run a command of compose to its end."""
        ports = {variable: str(self.addresses.ports[name]) for variable, name in PORTS.items()}
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("--project-name", f"consent-platform-test-{os.getpid()}"),
            *arguments,
            cwd=ROOT,
            env={**os.environ, **ports},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()[-3000:]

    async def up(self) -> None:
        """Start what does not run, and wait until all of it is ready."""
        await self.compose("up", "--detach")
        for name in ("gateway", "registry", "notifier", "app"):
            await eventually(partial(self.answers, name), within=120, what=f"{name} is ready")

    async def answers(self, name: str, query: str = "") -> bool:
        """Whether a part says that it is ready."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            try:
                return (await client.get(self.url(name, f"/readyz{query}"))).status_code == 200
            except httpx.HTTPError:
                return False

    async def grant(self, permission_set_id: str) -> None:
        """Grant a set on Contoso, from the screen and back to it."""
        async with Browser() as browser:
            screen = await sign_in(browser, self)
            end = await consent(screen, permission_set_id=permission_set_id, administrator="admin@contoso.com")
            assert "Granted" in end.text
            screen = await browser.get(screen.url)
            assert "Contoso Ltd" in screen.text
            assert CONTOSO in screen.text

    async def granted(self) -> set[str]:
        """The sets that the registry shows as granted on Contoso."""
        tenant = (await self.api("registry", f"/v1/tenants/{CONTOSO}")).json()
        return {grant["permission_set_id"] for grant in tenant["grants"] if grant["status"] == "granted"}


@pytest_asyncio.fixture
async def containers(tmp_path: Path) -> AsyncIterator[Containers]:
    containers = Containers(tmp_path)
    try:
        await containers.compose("build")
        await containers.up()
        yield containers
    finally:
        await containers.compose("down", "--volumes")


async def test_containers_grant_survive_the_loss_of_kafka_and_find_everything_again(containers: Containers) -> None:
    await containers.grant("read-directory-data")
    await containers.pushed(CONTOSO, permission_set_id="read-directory-data", within=60)

    await containers.compose("stop", "kafka")
    await containers.grant("read-activity-data")
    # What a load balancer asks does not turn red with Kafka.
    assert await containers.answers("gateway", "?exclude=relay")
    await containers.compose("start", "kafka")
    await containers.pushed(CONTOSO, permission_set_id="read-activity-data", within=180)

    await containers.compose("down")
    await containers.up()
    assert await containers.granted() == {"read-directory-data", "read-activity-data"}
    await containers.grant("manage-accounts")
    await containers.pushed(CONTOSO, permission_set_id="manage-accounts", within=60)
