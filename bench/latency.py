"""From an accepted consent to the webhook, on a quiet system, against the sum of its unavoidable parts.

Ours: an administrator accepts in a real flow over HTTP; the clock runs from the moment at which the gateway decides
(`occurred_at` in the event, taken inside its transaction) to the arrival of the request at a receiver.
Floor: one MongoDB transaction with as many writes, two Kafka hops and one POST to the same receiver, in sequence.
"""

import asyncio
import secrets
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from bson.codec_options import CodecOptions
from pymongo.write_concern import WriteConcern

from bench.figures import ROUNDS, percentile, spread, table
from support import platform as platforms
from support.browsing import Browser
from support.eventually import eventually
from support.platform import CONTOSO, Platform, consent, sign_in
from support.receiver import Arrival, Receiver, receiving
from support.topics import topics_of_a_test

SAMPLES = 60
SET = "read-directory-data"
APP = "user-accounts"


async def ours(platform: Platform, browser: Browser, receiver: Receiver) -> list[float]:
    """Milliseconds of each accepted consent."""
    took: list[float] = []
    receiver.arrivals.clear()
    for _ in range(SAMPLES):
        screen = await browser.get(platform.url("gateway", platforms.SCREEN))
        # A grant that is in order can be consented again; the API starts what the screen has no button for.
        end = await consent_again(platform, browser) if took or "Granted" in screen.text else await first(screen)
        assert "Granted" in end, end
        arrival = await push(receiver, number=len(took))
        took.append((arrival.at - datetime.fromisoformat(arrival.body["timestamp"]).timestamp()) * 1000)
    return took


async def push(receiver: Receiver, *, number: int) -> Arrival:
    """The push of a granted set with this number, once it is there."""

    async def granted() -> list[Arrival]:
        return [arrival for arrival in receiver.arrivals if is_granted(arrival)]

    return (await eventually(granted, lambda found: len(found) > number))[number]


def is_granted(arrival: Arrival) -> bool:
    """Whether the push says that a set is granted."""
    return bool(arrival.body["type"] == "permission.status_changed" and arrival.body["data"]["status"] == "granted")


async def first(screen: Any) -> str:  # noqa: ANN401 - a page
    """The first consent, by the screen's own button."""
    end = await consent(screen, permission_set_id=SET, administrator="admin@contoso.com")
    return end.text


async def consent_again(platform: Platform, browser: Browser) -> str:
    """A further consent of the same set on the same tenant, by a link that the API makes."""
    body = {"permission_set_ids": [SET], "tenant_id": CONTOSO}
    made = await platform.api("gateway", "/v1/consents", role="operator", method="POST", json=body)
    page = await browser.get(made.json()["consent_url"])
    page = await page.submit("Continue")
    return (await page.submit("Accept")).text


async def floor(platform: Platform, receiver: Receiver, topic: str) -> list[float]:
    """Milliseconds of the unavoidable parts, one after the other."""
    took: list[float] = []
    producer = AIOKafkaProducer(bootstrap_servers=platform.bootstrap_servers, acks="all", enable_idempotence=True)
    consumer = AIOKafkaConsumer(bootstrap_servers=platform.bootstrap_servers)
    partition = TopicPartition(topic, 0)
    await producer.start()
    await consumer.start()
    consumer.assign([partition])
    await consumer.seek_to_end(partition)
    session = aiohttp.ClientSession()
    try:
        async with platform.mongo() as client:
            database = client.get_database(
                "bench_latency", CodecOptions(tz_aware=True), write_concern=WriteConcern(w="majority", j=True)
            )
            for _ in range(SAMPLES):
                begun = time()
                await transaction(client, database)
                for _ in range(2):
                    await producer.send_and_wait(topic, secrets.token_bytes(700), key=b"bench", partition=0)
                    await consumer.getone()
                async with session.post(receiver.url, data=b'{"type": "bench"}') as answer:
                    await answer.read()
                took.append((time() - begun) * 1000)
    finally:
        await session.close()
        await consumer.stop()
        await producer.stop()
    return took


async def transaction(client: Any, database: Any) -> None:  # noqa: ANN401 - drivers differ in their types
    """As many writes as the commit of a grant has."""
    async with client.start_session() as session, await session.start_transaction():
        for name in ("grants", "links", "tenants", "attempts"):
            await database[name].update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True, session=session)
        row = {"value": secrets.token_bytes(700), "at": datetime.now(UTC)}
        await database["outbox"].insert_one(row, session=session)


async def measure() -> str:
    """Run everything, and return the table."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            platforms.running(Path(folder)) as platform,
            topics_of_a_test(platform.bootstrap_servers) as topics,
            receiving() as receiver,
            Browser() as browser,
        ):
            hops = await topics.create("bench.hops", partitions=1)
            await sign_in(browser, platform)
            wanted = {"url": receiver.url, "description": "bench"}
            made = await platform.api("notifier", "/v1/subscriptions", role="app", app=APP, method="POST", json=wanted)
            made.raise_for_status()
            mine, least = [], []
            for number in range(ROUNDS):
                sys.stderr.write(f"latency: round {number + 1} of {ROUNDS} ...\n")
                mine.append(await ours(platform, browser, receiver))
                least.append(await floor(platform, receiver, hops))
    return report(mine, least)


def report(mine: list[list[float]], least: list[list[float]]) -> str:
    """The table of all rounds."""
    rows = []
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        a = [percentile(values, share) for values in mine]
        b = [percentile(values, share) for values in least]
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        rows.append([name, spread(a, digits=1), spread(b, digits=1), spread(ratios, digits=2)])
    title = f"Latency: accepted consent to webhook, {SAMPLES} consents a round (min / median / max of {ROUNDS} rounds)"
    return table(title, rows, head=["", "ours, ms", "transaction + 2 hops + POST, ms", "ratio (aim: p99 <= 3)"])


def main() -> None:
    """Measure and print."""
    sys.stdout.write(asyncio.run(measure()))


if __name__ == "__main__":
    main()
