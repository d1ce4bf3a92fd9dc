"""Thousands of open streams on one process: what they take of memory, and how fast an event reaches all of them.

Ours: the notifier as it is deployed, every stream of the same app; the clock runs from before the first event is
published to Kafka to its last arrival. Then at 30 % of its own maximum: from before an event is published to its
arrival on the last of the streams.
Floor: ``bench.raw_streams``, which writes what it reads from Kafka to all connections and nothing else: it stores
nothing, checks no token, resumes nobody. Both are read by the same client, in a process of its own, in the same run.
"""

import asyncio
import json
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from uuid import uuid4

from bench.figures import ROUNDS, percentile, spread, table
from bench.webhooks import Process, Stage, notifiers, staged
from launcher.ports import free_port
from shared.events import Event
from shared.kafka import Publisher, record_of
from shared.settings import KafkaSettings
from shared.topics import Topic
from support.status_events import status_event
from support.tokens import Issuer, issuing

STREAMS = int(os.environ.get("BENCH_STREAMS", "2000"))
EVENTS = int(os.environ.get("BENCH_STREAM_EVENTS", "20"))
LOAD, LOAD_SECONDS = 0.3, 6.0
LINE_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one variant, one value per round."""

    name: str
    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    kilobytes: list[float] = field(default_factory=list)

    def row(self, floor: "Figures") -> list[str]:
        """The line of the table."""
        ratios = [mine / least for mine, least in zip(self.rates, floor.rates, strict=True)]
        return [
            self.name,
            spread(self.rates),
            spread(ratios, digits=2),
            spread(self.p50, digits=1),
            spread(self.p99, digits=1),
            spread(self.kilobytes, digits=1),
        ]


@dataclass(frozen=True, kw_only=True)
class Server:
    """What is measured, and how to ask it for a stream."""

    process: Process
    port: int
    token: str = "-"


def main() -> None:
    """Run the benchmark."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < STREAMS + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, STREAMS + 200), hard))
    asyncio.run(_compare())


async def _compare() -> None:
    raw, ours = Figures(name="raw loop that writes to all"), Figures(name="notifier, one process")
    async with staged() as stage, issuing() as issuer:
        for number in range(ROUNDS):
            await _raw(stage, raw)
            await _ours(stage, f"bench_{number}_streams", issuer, ours)
            rates = ", ".join(f"{each.name} {each.rates[-1]:,.0f}/s" for each in (raw, ours))
            print(f"round {number + 1}: {rates}; p99 {raw.p99[-1]:.1f} and {ours.p99[-1]:.1f} ms", flush=True)
    head = [f"{STREAMS:,} streams", "events/s over all", "ratio", "p50 ms at 30 %", "p99 ms", "kB of memory each"]
    print(table("Streams: from Kafka to every reader", [each.row(raw) for each in (raw, ours)], head=head))


async def _ours(stage: Stage, database: str, issuer: Issuer, figures: Figures) -> None:
    topic, port = await stage.topic(), free_port()
    settings = {
        "HTTP__PORT": str(port),
        "AUTH__ISSUER": issuer.url,
        "AUTH__JWKS_URL": f"{issuer.url}/jwks",
        "STREAM__CONNECTIONS_PER_OWNER": str(STREAMS),
    }
    token = issuer.token("app", app_id="app-0")
    async with notifiers(stage, topic, database, settings=settings) as (process,):
        # A first stream opens the change stream and warms what all of them use.
        async with listening(port, 1, token) as first:
            await _burst(stage, topic, first, streams=1)
        await _measure(stage, topic, Server(process=process, port=port, token=token), figures)


async def _raw(stage: Stage, figures: Figures) -> None:
    topic = await stage.topic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.raw_streams", stage.bootstrap_servers, topic.name),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        async with listening(port, 1, "-") as first:
            await _burst(stage, topic, first, streams=1)
        await _measure(stage, topic, Server(process=process, port=port), figures)
    finally:
        process.kill()
        await process.wait()


async def _measure(stage: Stage, topic: Topic, server: Server, figures: Figures) -> None:
    before = resident(server.process)
    async with listening(server.port, STREAMS, server.token) as client:
        figures.kilobytes.append((resident(server.process) - before) / STREAMS)
        await _burst(stage, topic, client, streams=STREAMS)
        rate = await _burst(stage, topic, client, streams=STREAMS)
        figures.rates.append(rate)
        took = await _steady(stage, topic, client, rate=rate * LOAD / STREAMS)
        figures.p50.append(percentile(took, 0.5))
        figures.p99.append(percentile(took, 0.99))


async def _burst(stage: Stage, topic: Topic, client: Process, *, streams: int) -> float:
    """Events per second over all streams."""
    events = [event_of(number) for number in range(EVENTS)]
    publisher = Publisher(KafkaSettings(bootstrap_servers=stage.bootstrap_servers), client_id="bench")
    try:
        begun = time()
        await publisher.publish([record_of(topic, event) for event in events])
    finally:
        await publisher.close()
    last = await _arrived(client, EVENTS)
    return EVENTS * streams / (max(last.values()) - begun)


async def _steady(stage: Stage, topic: Topic, client: Process, *, rate: float) -> list[float]:
    """Milliseconds from before each event was published to its arrival on the last stream."""
    count, sent = max(10, int(rate * LOAD_SECONDS)), {}
    publisher = Publisher(KafkaSettings(bootstrap_servers=stage.bootstrap_servers), client_id="bench")
    try:
        begun = asyncio.get_running_loop().time()
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number / rate - asyncio.get_running_loop().time()))
            sent[number + 1] = time()
            await publisher.publish([record_of(topic, event_of(number))])
    finally:
        await publisher.close()
    last = await _arrived(client, count)
    return [(last[revision] - at) * 1000 for revision, at in sent.items()]


async def _arrived(client: Process, count: int) -> dict[int, float]:
    """When each event came on the last of the streams, once all have come on all."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(f"{count}\n".encode())
    async with asyncio.timeout(120):
        found = json.loads(await client.stdout.readline())
    return {int(revision): at for revision, at in found.items()}


@asynccontextmanager
async def listening(port: int, streams: int, token: str) -> AsyncIterator[Process]:
    """A client with so many open streams."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.listening", str(port), str(streams), token),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    try:
        assert client.stdout is not None
        async with asyncio.timeout(120):
            assert (await client.stdout.readline()).strip() == b"ready"
        yield client
    finally:
        client.kill()
        await client.wait()


def event_of(number: int) -> Event:
    """An event for the app of all streams; its revision is its number, from 1."""
    return status_event(tenant_id=str(uuid4()), apps=("app-0",), previous_apps=(), revision=number + 1)


def resident(process: Process) -> float:
    """Kilobytes that the process holds in memory."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1000


if __name__ == "__main__":
    main()
