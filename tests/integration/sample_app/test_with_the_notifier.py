"""The sample app beside the real notifier and the real issuer: broker, database, tokens and signatures included."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

import notifier.app
import notifier.settings
import platform_idp.app
import platform_idp.settings
import sample_app.app
import sample_app.settings
from shared.settings import KafkaSettings
from shared.topics import PERMISSION_STATUS, Topic, dead_letter_topic
from support.eventually import eventually
from support.sample_app_platform import free_port, serving
from support.status_events import publish, status_event
from support.topics import Topics

FABRIKAM = "1b0d7e63-2c94-4a8f-8e55-0f6a7b3c4d21"
SECRETS_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@dataclass
class Suite:
    """A running sample app, and what puts events before it."""

    http: httpx.AsyncClient
    kafka: KafkaSettings
    topic: Topic

    async def happened(self, **changes: Any) -> str:
        """A status event for the app on Kafka; returns its id."""
        event = status_event(**{"apps": ("identity-security",), "previous_apps": (), **changes})
        await publish(self.kafka, self.topic, event)
        return event.id

    async def verdicts(self, webhook_id: str | None = None) -> list[str]:
        """Of all arrivals, or of those under one id, oldest first."""
        query = {"webhook_id": webhook_id} if webhook_id else {}
        items = (await self.http.get("/api/received", params=query)).json()["items"]
        return [item["verdict"] for item in reversed(items)]

    async def arrived(self, *verdicts: str, webhook_id: str | None = None) -> None:
        await eventually(lambda: self.verdicts(webhook_id), lambda seen: seen == list(verdicts))

    async def grants(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.http.get("/api/grants")).json()["items"]
        return items

    async def status(self) -> str:
        return str((await self.http.get("/readyz")).json()["checks"]["identity-security"])

    async def act(self, action: str) -> None:
        form = {"app_id": "identity-security", "action": action}
        assert (await self.http.post("/subscription", data=form)).status_code == 303

    async def misbehave(self, mode: str, **options: str) -> None:
        assert (await self.http.post("/faults", data={"mode": mode, **options})).status_code == 303


StartApp = Callable[..., Awaitable[Suite]]


@pytest_asyncio.fixture
async def issuer_url(tmp_path: Path) -> AsyncIterator[str]:
    """The issuer."""
    url = f"http://127.0.0.1:{free_port()}"
    settings = platform_idp.settings.Settings(issuer=url, data_dir=tmp_path / "issuer")
    async with serving(platform_idp.app.create_app(settings), _port(url)):
        yield url


@pytest.fixture
def notifier_settings(
    mongo_url: str, mongo_database: str, kafka_bootstrap: str, issuer_url: str
) -> notifier.settings.Settings:
    return notifier.settings.Settings.model_validate(
        {
            "public_url": f"http://127.0.0.1:{free_port()}",
            "kafka": {"bootstrap_servers": kafka_bootstrap},
            "mongo": {"url": mongo_url, "database": mongo_database},
            "auth": {
                "issuer": issuer_url,
                "audience": "consent-platform",
                "jwks_url": f"{issuer_url}/.well-known/jwks.json",
            },
            "delivery": {
                "secrets_key": SECRETS_KEY,
                "allow_private_networks": True,
                "retry_schedule": (0.05, 0.1, 0.2, 0.4),
                "response_timeout_seconds": 0.5,
                "total_timeout_seconds": 1,
                "lease_seconds": 8,
            },
        }
    )


@pytest_asyncio.fixture
async def status_topic(
    notifier_settings: notifier.settings.Settings, topics: Topics, kafka_group: str
) -> AsyncIterator[Topic]:
    """What the notifier, which runs meanwhile, reads."""
    topic = replace(PERMISSION_STATUS, name=await topics.create("status", partitions=4), partitions=4)
    await topics.create(name=dead_letter_topic(topic, kafka_group).name, partitions=1)
    service = notifier.app.create_app(notifier_settings, topic=topic, group=kafka_group)
    async with serving(service, _port(notifier_settings.public_url)):
        yield topic


@pytest_asyncio.fixture
async def start_app(
    notifier_settings: notifier.settings.Settings, status_topic: Topic, issuer_url: str, tmp_path: Path
) -> AsyncIterator[StartApp]:
    """A function that starts the app; called again, it restarts it."""
    app_url = f"http://127.0.0.1:{free_port()}"
    async with contextlib.AsyncExitStack() as stack:
        running: list[contextlib.AsyncExitStack] = []

        async def start(**changes: Any) -> Suite:
            for earlier in running:
                await earlier.aclose()
            values = {
                "public_url": app_url,
                "issuer": issuer_url,
                "notifier_url": notifier_settings.public_url,
                "data_dir": tmp_path / "app",
                "check_seconds": 0.1,
                **changes,
            }
            own = await stack.enter_async_context(contextlib.AsyncExitStack())
            running.append(own)
            app = sample_app.app.create_app(sample_app.settings.Settings.model_validate(values))
            await own.enter_async_context(serving(app, _port(app_url)))
            http = await own.enter_async_context(httpx.AsyncClient(base_url=app_url))
            suite = Suite(http, notifier_settings.kafka, status_topic)
            await eventually(suite.status, lambda status: status == "subscribed", within=30)
            return suite

        yield start


async def test_an_event_arrives_verified_and_is_known(start_app: StartApp) -> None:
    suite = await start_app()
    first = await suite.happened(revision=7, missing=())
    await suite.arrived("applied", webhook_id=first)
    await suite.happened(revision=6, status="revoked", usable=False)
    await suite.arrived("applied", "stale_revision")

    (grant,) = await suite.grants()
    assert (grant["account_id"], grant["tenant_name"], grant["status"], grant["usable"], grant["revision"]) == (
        "northwind",
        "Contoso Ltd",
        "granted",
        True,
        7,
    )


async def test_a_moved_app_reads_from_its_new_tenant_only(start_app: StartApp) -> None:
    suite = await start_app()
    app, held = "identity-security", {"app_id": "identity-security", "tenant_id": FABRIKAM, "epoch": 2}
    await suite.happened(revision=1, app_epochs={app: 1})
    await suite.arrived("applied")
    await suite.happened(tenant_id=FABRIKAM, tenant_name="Fabrikam Inc", revision=1, app_epochs={app: 2})
    await suite.arrived("applied", "applied")
    assert {grant["tenant_name"]: grant["usable"] for grant in await suite.grants()} == {
        "Contoso Ltd": False,
        "Fabrikam Inc": True,
    }

    await suite.happened(revision=2, apps=(), previous_apps=(app,), held_apps=(held,))
    await suite.arrived("applied", "applied", "applied")
    assert [grant["epoch"] for grant in await suite.grants()] == [2, 2]
    assert [grant["usable"] for grant in await suite.grants()] == [False, True]


@pytest.mark.parametrize(("mode", "first"), [("error", "fault"), ("reject", "rejected")])
async def test_what_was_refused_comes_again_under_the_same_id(start_app: StartApp, mode: str, first: str) -> None:
    suite = await start_app()
    await suite.misbehave(mode, times="1")
    event_id = await suite.happened()

    await suite.arrived(first, "applied", webhook_id=event_id)


async def test_what_was_answered_too_late_is_dropped_as_a_duplicate(start_app: StartApp) -> None:
    suite = await start_app()
    await suite.misbehave("hang", seconds="3", times="1")
    event_id = await suite.happened()

    await suite.arrived("applied", "duplicate", webhook_id=event_id)


async def test_pushes_verify_before_and_after_a_rotation(start_app: StartApp) -> None:
    suite = await start_app()
    await suite.happened(revision=1)
    await suite.arrived("applied")
    await suite.act("rotate")
    await suite.happened(revision=2)

    await suite.arrived("applied", "applied")


async def test_an_app_that_lost_its_disk_verifies_again(start_app: StartApp, tmp_path: Path) -> None:
    await start_app()
    suite = await start_app(data_dir=tmp_path / "a new disk")
    await suite.happened()

    await suite.arrived("applied")


async def test_a_disabled_endpoint_gets_what_it_missed_when_it_is_enabled(start_app: StartApp) -> None:
    suite = await start_app()
    await suite.misbehave("gone")
    event_id = await suite.happened()
    await eventually(suite.status, lambda status: status == "disabled by the notifier")
    missed = await suite.happened(permission_set_id="manage-accounts", revision=2)

    await suite.misbehave("none")
    await suite.act("resume")
    await suite.arrived("fault", "applied", webhook_id=event_id)
    await suite.arrived("applied", webhook_id=missed)
    await eventually(suite.status, lambda status: status == "subscribed")


async def test_a_test_ping_arrives(start_app: StartApp) -> None:
    suite = await start_app()
    await suite.act("ping")

    await suite.arrived("noted")


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
