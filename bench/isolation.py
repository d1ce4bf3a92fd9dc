"""What one hanging endpoint of twenty costs the other nineteen.

Twice the same run, with all endpoints answering at once and with one that takes ten seconds for each answer (5 % of
the events): a burst, in which everything is there at the beginning, and a steady load at 30 % of what the burst
reached. The throughput and the delays of the nineteen are compared; an aim is met when the median of the rounds is.
"""

import asyncio
import os
from dataclasses import dataclass, field
from statistics import median
from time import time

from bench.figures import ROUNDS, percentile, spread, table
from bench.webhooks import ENDPOINTS, Stage, notifiers, staged, standing_still

WEBHOOKS = int(os.environ.get("BENCH_WEBHOOKS", "12000"))
LOAD = 0.3
LOAD_SECONDS = 15.0
WARM_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of the nineteen, one value per round."""

    rates: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def add(self, sent: dict[str, float], came: dict[str, float]) -> None:
        """A run: when each was there to be delivered, and when it arrived."""
        took = max(came[key] for key in sent) - min(sent.values())
        self.rates.append(len(sent) / took)
        self.p99.append(percentile([(came[key] - at) * 1000 for key, at in sent.items()], 0.99))


def main() -> None:
    """Run the benchmark."""
    asyncio.run(_compare())


async def _compare() -> None:
    kinds = ("burst", "steady")
    calm, beside = ({kind: Figures() for kind in kinds} for _ in range(2))
    async with staged() as stage:
        for number in range(ROUNDS):
            rate = await _run(stage, f"isolation_{number}_calm", calm, slow=0, rate=None)
            await _run(stage, f"isolation_{number}_beside", beside, slow=1, rate=rate)
            print(f"round {number + 1}: {rate:,.0f}/s is 30 % of a burst", flush=True)
    rows = [_row(kind, calm[kind], beside[kind]) for kind in kinds]
    head = ["", "/s alone", "/s beside it", "kept (aim: >= 0.95)", "p99 ms alone", "p99 ms beside it", "(aim: <= 1.5)"]
    print(table(f"Isolation: {ENDPOINTS - 1} endpoints beside one that hangs for 10 s", rows, head=head))
    kept = all(median(_ratios(calm[kind].rates, beside[kind].rates)) >= 0.95 for kind in kinds)
    prompt = all(median(_ratios(calm[kind].p99, beside[kind].p99)) <= 1.5 for kind in kinds)
    print(f"Throughput: {'met' if kept else 'NOT met'}; delays: {'met' if prompt else 'NOT met'}.")


async def _run(stage: Stage, database: str, figures: dict[str, Figures], *, slow: int, rate: float | None) -> float:
    """A burst and a steady load; the rate of the load, which is what was given if anything was."""
    await stage.subscribe(database, slow=slow)
    topic = await stage.topic()
    async with notifiers(stage, topic, database) as running:
        await stage.arrivals()
        async with standing_still(running):
            ids = await stage.fill(topic, WEBHOOKS)
            begun = time()
        good = [each for number, each in enumerate(ids) if number % ENDPOINTS]
        figures["burst"].add(dict.fromkeys(good, begun), await stage.all_of(good))
        rate = rate or figures["burst"].rates[-1] * ENDPOINTS / (ENDPOINTS - 1) * LOAD
        sent = await stage.pace(topic, rate=rate, seconds=LOAD_SECONDS)
        warm = min(at for _, at in sent.values()) + WARM_SECONDS
        good_ones = {key: at for key, (number, at) in sent.items() if number % ENDPOINTS and at >= warm}
        figures["steady"].add(good_ones, await stage.all_of(good_ones))
    return rate


def _row(kind: str, calm: Figures, beside: Figures) -> list[str]:
    return [
        kind,
        spread(calm.rates),
        spread(beside.rates),
        spread(_ratios(calm.rates, beside.rates), digits=2),
        spread(calm.p99, digits=1),
        spread(beside.p99, digits=1),
        spread(_ratios(calm.p99, beside.p99), digits=2),
    ]


def _ratios(calm: list[float], beside: list[float]) -> list[float]:
    return [b / a for a, b in zip(calm, beside, strict=True)]


if __name__ == "__main__":
    main()
