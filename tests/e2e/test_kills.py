"""kill -9 of every process, at rest and under load: nothing acknowledged is lost, nothing comes out of order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
from aiokafka.errors import KafkaError

from support import platform as platforms
from support.balance import Balance
from support.browsing import Browser
from support.eventually import eventually
from support.platform import CONTOSO, FABRIKAM, SCREEN, Platform, consent, sign_in
from support.receiver import Receiver, receiving

APP = "user-accounts"
SETS = ("read-directory-data", "manage-accounts")
VICTIMS = ("consent-gateway", "tenant-registry", "notifier", "kafka", "mongod")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def subscribe(platform: Platform, receiver: Receiver) -> None:
    answer = await platform.api(
        "notifier", "/v1/subscriptions", role="app", app=APP, method="POST", json={"url": receiver.url}
    )
    assert answer.status_code == 201, answer.text


class Administrator:
    """Somebody who grants sets on a tenant again and again, and notes which attempts were acknowledged."""

    def __init__(self, platform: Platform, tenant_id: str, name: str) -> None:
        self._platform = platform
        self._tenant_id = tenant_id
        self._name = name
        self.acknowledged: list[str] = []

    async def work(self) -> None:
        """Grant until cancelled. What fails is begun anew, as a person would."""
        async with Browser() as browser:
            turn = 0
            while True:
                turn += 1
                try:
                    await self._grant(browser, SETS[turn % len(SETS)])
                except (httpx.HTTPError, AssertionError, KeyError):
                    await asyncio.sleep(0.1)

    async def _grant(self, browser: Browser, permission_set_id: str) -> None:
        await sign_in(browser, self._platform)
        body = {"permission_set_ids": [permission_set_id], "tenant_id": self._tenant_id}
        made = await self._platform.api("gateway", "/v1/consents", role="operator", method="POST", json=body)
        page = await (await browser.get(made.json()["consent_url"])).submit("Continue")
        if any(form.says("Sign in") for form in page.forms):
            page = await page.submit("Sign in", username=self._name, password=platforms.PASSWORD)
        end = await page.submit("Accept")
        if end.status == 200 and "/consent/attempts/" in end.url:
            self.acknowledged.append(end.url.rsplit("/", 1)[1])


@asynccontextmanager
async def working(platform: Platform) -> AsyncIterator[list[Administrator]]:
    people = [
        Administrator(platform, CONTOSO, "admin@contoso.com"),
        Administrator(platform, FABRIKAM, "admin@fabrikam.com"),
    ]
    tasks = [asyncio.create_task(person.work()) for person in people]
    try:
        yield people
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def more_work(people: Sequence[Administrator], count: int, *, what: str) -> None:
    """Wait until so many more consents were acknowledged."""

    async def done() -> int:
        return sum(len(person.acknowledged) for person in people)

    target = await done() + count
    await eventually(done, lambda now: now >= target, within=120, what=what)


async def test_killed_under_load_nothing_acknowledged_is_lost(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> None:
    async with platforms.running(tmp_path_factory.mktemp("load"), keep_running=True) as platform:
        await subscribe(platform, receiver)
        async with working(platform) as people:
            await more_work(people, 2, what="work at the start")
            for victim in VICTIMS:
                await platform.kill(victim)
                await more_work(people, 3, what=f"work after {victim} was killed")
        acknowledged = {attempt for person in people for attempt in person.acknowledged}
        await settled(platform, receiver, acknowledged)


async def test_after_a_power_cut_everything_is_there_and_work_goes_on(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> None:
    async with platforms.running(tmp_path_factory.mktemp("rest")) as platform:
        await subscribe(platform, receiver)
        async with Browser() as browser:
            screen = await sign_in(browser, platform)
            await consent(screen, permission_set_id=SETS[0], administrator="admin@contoso.com")
            await asyncio.gather(*(platform.kill(name) for name in VICTIMS))
            for name in reversed(VICTIMS):
                await platform.start_again(name)
            screen = await browser.get(platform.url("gateway", SCREEN))
            assert "Contoso Ltd" in screen.text
            end = await consent(
                screen, permission_set_id=SETS[1], administrator="admin@contoso.com", where={"tenant_id": CONTOSO}
            )
            assert "Granted" in end.text
            await settled(platform, receiver, {end.url.rsplit("/", 1)[1]})


async def test_with_kafka_down_a_person_is_granted_and_the_event_follows(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> None:
    async with platforms.running(tmp_path_factory.mktemp("no-kafka")) as platform, Browser() as browser:
        await subscribe(platform, receiver)
        await platform.kill("kafka")
        end = await consent(
            await sign_in(browser, platform), permission_set_id=SETS[0], administrator="admin@contoso.com"
        )
        assert "Granted" in end.text
        screen = await browser.get(platform.url("gateway", SCREEN))
        assert "Contoso Ltd" in screen.text
        assert CONTOSO in screen.text

        async def relay_is_red() -> bool:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(platform.url("gateway", "/readyz"))
            return answer.status_code == 503 and answer.json()["checks"]["relay"] != "ok"

        await eventually(relay_is_red, within=60)
        await platform.start_again("kafka")
        await settled(platform, receiver, {end.url.rsplit("/", 1)[1]})


async def settled(platform: Platform, receiver: Receiver, acknowledged: set[str]) -> None:
    """Wait until all accounts balance; the last imbalance is the failure's message."""

    async def balance() -> bool:
        try:
            books = await Balance.read(platform)
        except KafkaError as error:
            raise AssertionError("the broker is still starting") from error
        assert acknowledged <= books.attempts(), f"lost: {acknowledged - books.attempts()}"
        books.assert_in_order()
        books.assert_each_change_has_one_status_event()
        books.assert_pushed(receiver, app=APP)
        await books.assert_registry_is_current(platform)
        return True

    await eventually(balance, within=120)
