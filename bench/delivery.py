"""Webhooks per second from Kafka to a recorded 2xx, on one process and on two, and how soon they arrive.

Ours: the notifier as it is deployed; the clock runs from the first delivery's row to the moment at which the last one
is delivered in MongoDB. At 30 % of its own maximum: from before an event is published to the arrival of its webhook.
Floor: the bare loop of ``bench.raw_delivery``. Both use uvloop, the same settings of the garbage collector, the same
broker, the same mongod (majority, journaled) and the same receiver, in the same run.
"""

import asyncio
import os
import sys
from dataclasses import dataclass, field

from bench.figures import ROUNDS, percentile, spread, table
from bench.webhooks import BODY_BYTES, Process, Stage, cpu_seconds, delivered, notifiers, staged, standing_still
from shared.topics import Topic

WEBHOOKS = int(os.environ.get("BENCH_WEBHOOKS", "12000"))
LOAD = 0.3
LOAD_SECONDS = 8.0
# The first of them find connections and caches cold, on either side.
WARM_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one variant, one value per round."""

    name: str
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def row(self, floor: "Figures") -> list[str]:
        """The line of the table."""
        ratios = [mine / least for mine, least in zip(self.rates, floor.rates, strict=True)]
        delays = (spread(self.p50, digits=1), spread(self.p99, digits=1)) if self.p50 else ("", "")
        return [self.name, spread(self.rates), spread(self.cpu, digits=2), spread(ratios, digits=2), *delays]


def main() -> None:
    """Run the benchmark."""
    asyncio.run(_compare())


async def _compare() -> None:
    raw = Figures(name="raw aiohttp loop, 64 in flight, one batched write")
    one, two = Figures(name="notifier, one process"), Figures(name="notifier, two processes")
    async with staged() as stage:
        ceiling = await _ceiling(stage.port)
        for number in range(ROUNDS):
            await _raw(stage, f"bench_{number}_raw", raw)
            await _ours(stage, f"bench_{number}_one", one, processes=1)
            await _ours(stage, f"bench_{number}_two", two, processes=2)
            rates = ", ".join(f"{each.name} {each.rates[-1]:,.0f}/s" for each in (raw, one, two))
            print(f"round {number + 1}: {rates}; p99 {raw.p99[-1]:.1f} and {one.p99[-1]:.1f} ms", flush=True)
    head = ["20 endpoints", "/s", "CPU ms each", "ratio of /s (aim: >= 0.5)", "p50 ms at 30 %", "p99 ms (aim: <= 15)"]
    rows = [each.row(raw) for each in (raw, one, two)]
    print(table("Delivery: webhooks/s from Kafka to a recorded 2xx", rows, head=head))
    print(f"The receiver answered {ceiling:,.0f} requests/s of a bare socket client: it is not the limit.")


async def _ours(stage: Stage, database: str, figures: Figures, *, processes: int) -> None:
    """A burst; then, on one process, a steady load."""
    await stage.subscribe(database)
    topic = await stage.topic()
    async with notifiers(stage, topic, database, count=processes) as running:
        async with standing_still(running):
            await stage.fill(topic, WEBHOOKS)
            before = cpu_seconds(running)
        rate = WEBHOOKS / await delivered(stage, database, WEBHOOKS)
        figures.rates.append(rate)
        figures.cpu.append((cpu_seconds(running) - before) * 1000 / WEBHOOKS)
        if processes == 1:
            await _steady(stage, topic, rate=rate * LOAD, figures=figures)


async def _raw(stage: Stage, database: str, figures: Figures) -> None:
    topic = await stage.topic()
    arguments = [stage.bootstrap_servers, topic.name, stage.mongo_url, database, str(stage.port), str(WEBHOOKS)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.raw_delivery", *arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert await _line(process) == "ready"
        async with standing_still([process]):
            await stage.fill(topic, WEBHOOKS)
            before = cpu_seconds([process])
        rate = WEBHOOKS / float(await _line(process))
        figures.rates.append(rate)
        figures.cpu.append((cpu_seconds([process]) - before) * 1000 / WEBHOOKS)
        await _steady(stage, topic, rate=rate * LOAD, figures=figures)
    finally:
        process.kill()
        await process.wait()


async def _steady(stage: Stage, topic: Topic, *, rate: float, figures: Figures) -> None:
    await stage.arrivals()
    sent = await stage.pace(topic, rate=rate, seconds=LOAD_SECONDS)
    came = await stage.all_of(sent)
    begun = min(at for _, at in sent.values()) + WARM_SECONDS
    took = [(came[key] - at) * 1000 for key, (_, at) in sent.items() if at >= begun]
    figures.p50.append(percentile(took, 0.5))
    figures.p99.append(percentile(took, 0.99))


async def _line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def _ceiling(port: int) -> float:
    """Requests per second that the receiver answers to 16 connections which do nothing but send."""
    request = b"POST /hook HTTP/1.1\r\nhost: localhost\r\ncontent-length: 690\r\n\r\n" + b"x" * BODY_BYTES
    burst, rounds, connections = 20, 50, 16

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(rounds):
            writer.write(request * burst)
            await reader.readexactly(len(b"HTTP/1.1 204 No Content\r\n\r\n") * burst)
        writer.close()

    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(client() for _ in range(connections)))
    return connections * rounds * burst / (loop.time() - started)


if __name__ == "__main__":
    main()
