"""Checks of grants per second on one process, against a raw loop that does nothing but fetch tokens.

Ours: the gateway's monitor as it is deployed, on a database that knows 100,000 tenants: claims under leases, a fresh
token for each grant, the comparison, the guarded write of what came of it, one line of log each. Once a day a check is
made in full, which also reads the tenant's name from Graph.
Floor: as many coroutines in a bare loop, each posting the form of a token request with httpx and reading the answer. It
writes nothing and compares nothing. It is run on one httpx client as it comes, and on the gateway's own connections,
which cost less.
All run in the same process with the same TLS context, in turns, against the same stub of Entra, which has a process of
its own. Beside it: requests to Entra and operations of MongoDB per check, and what the process holds in memory.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from urllib.parse import urlencode

import httpx
import uvloop
from pymongo import AsyncMongoClient

from bench.figures import ROUNDS, spread, table
from consent_gateway.checks.verification import CHECKS
from consent_gateway.core import Core, utc_now
from consent_gateway.entra.adapters import trusted
from consent_gateway.entra.connections import Connections
from consent_gateway.settings import Settings
from launcher.mongo import EmbeddedMongo
from shared import logs
from shared.background import background
from shared.settings import LogSettings
from support import gateway
from support.eventually import eventually
from support.seeded import granted, seed

KNOWN = int(os.environ.get("BENCH_TENANTS", "100000"))
PROBES = int(os.environ.get("BENCH_PROBES", "4000"))
ACTIVE, MORE = 2_000, 5_000
SET = "read-directory-data"
CLIENT = gateway.CLIENT_IDS[SET]
Figures = dict[str, list[float]]


def tenant(number: int) -> str:
    """The id of a tenant."""
    return f"00000000-0000-4000-8000-{number:012}"


def settings(mongo_url: str, entra: Path) -> Settings:
    """The gateway in front of the stub, without a bound on its rate."""
    origin = f"https://127.0.0.1:{(entra / 'port').read_text()}"
    chosen = gateway.settings(
        mongo_url=mongo_url, database="bench", login_url=origin, graph_url=origin, ca_bundle=str(entra / "ca.pem")
    )
    unbound = {
        "drift": chosen.drift.model_copy(update={"per_second": 1e6}),
        "entra": chosen.entra.model_copy(update={"timeout_seconds": 60.0}),
    }
    return chosen.model_copy(update=unbound)


def checked() -> float:
    """How many checks this process has made."""
    return sum(
        sample.value for metric in CHECKS.collect() for sample in metric.samples if sample.name.endswith("_total")
    )


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Measured:
    """The gateway's core and the raw loop in one process."""

    def __init__(self, core: Core, chosen: Settings, server: Any) -> None:  # noqa: ANN401 - a driver's database
        self._core = core
        self._chosen = chosen
        self._admin = server
        self._next = 0

    async def commands(self) -> float:
        """How many operations the database has been asked for."""
        status = await self._admin.command("serverStatus")
        counted = status["metrics"]["commands"]
        return float(sum(counted[name]["total"] for name in ("find", "update", "getMore", "aggregate", "insert")))

    async def asked(self) -> dict[str, int]:
        """How often Entra was asked for what."""
        async with httpx.AsyncClient(verify=trusted(self._chosen.entra.ca_bundle), trust_env=False) as client:
            found: dict[str, int] = (await client.get(f"{self._chosen.entra.login_url}/count")).json()
            return found

    async def ours(self, count: int, *, full: bool) -> dict[str, float]:
        """Let so many grants become due, and check them all."""
        ids = [tenant(number % KNOWN) for number in range(self._next, self._next + count)]
        self._next += count
        now = utc_now()
        full_at = now - timedelta(days=2) if full else now
        await self._core.database["grants"].update_many(
            {"tenant_id": {"$in": ids}},
            {"$set": {"check.next_at": now - timedelta(seconds=60), "check.full_at": full_at}},
        )
        before, operations, requests = checked(), await self.commands(), await self.asked()
        begun, cpu = perf_counter(), process_time()
        async with background(monitor=self._core.monitor.run()):

            async def done() -> bool:
                return checked() - before >= count

            await eventually(done, within=600, what="checks")
            seconds, cpu = perf_counter() - begun, process_time() - cpu
        after = await self.asked()
        calls = {name: (after[name] - requests.get(name, 0)) / count for name in after}
        left = await self._core.database["grants"].count_documents(
            {"$or": [{"check.next_at": {"$lte": now}}, {"check.failures": {"$gt": 0}}]}
        )
        assert left == 0, f"{left} of {count} checks gave no answer"
        return {
            "rate": count / seconds,
            "cpu": cpu / count * 1e6,
            "entra": sum(calls.values()),
            "mongo": (await self.commands() - operations) / count,
        }

    async def raw(self, count: int, *, pool: bool) -> dict[str, float]:
        """The floor, on one pool of connections or on the gateway's."""
        entra = self._chosen.entra
        authorities = trusted(entra.ca_bundle)
        limits = httpx.Limits(max_connections=entra.concurrency, max_keepalive_connections=entra.concurrency)
        transport: httpx.AsyncBaseTransport = Connections(authorities, most=entra.concurrency)
        if pool:
            transport = httpx.AsyncHTTPTransport(verify=authorities, trust_env=False, limits=limits)
        numbers = iter(range(count))
        scope = "https://graph.microsoft.com/.default"
        form = {"grant_type": "client_credentials", "client_id": CLIENT, "scope": scope, "client_secret": "secret"}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}

        async def fetch(client: httpx.AsyncClient) -> None:
            for number in numbers:
                url = f"{entra.login_url}/{tenant(number)}/oauth2/v2.0/token"
                answer = await client.post(url, content=urlencode(form), headers=headers)
                assert answer.json()["access_token"]

        async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=60.0) as client:
            begun, cpu = perf_counter(), process_time()
            await asyncio.gather(*(fetch(client) for _ in range(entra.concurrency)))
            return {"rate": count / (perf_counter() - begun), "cpu": (process_time() - cpu) / count * 1e6}


@asynccontextmanager
async def measured(mongo_url: str, entra: Path) -> AsyncIterator[Measured]:
    """A core on the database, which it finds filled or fills."""
    chosen = settings(mongo_url, entra)
    core = Core.of(chosen)
    async with core.open(), AsyncMongoClient[dict[str, Any]](mongo_url) as client:
        await core.store.create_indexes()
        if not await core.database["grants"].estimated_document_count():
            far = utc_now() + timedelta(days=30)
            permission_set = core.catalog.sets[SET]
            await seed(core, [granted(permission_set, tenant(n), next_at=far, full_at=utc_now()) for n in range(KNOWN)])
        yield Measured(core, chosen, client.admin)


async def rounds(mongo_url: str, entra: Path) -> dict[str, Figures]:
    """All rounds, interleaved."""
    found: dict[str, Figures] = {"raw": {}, "own": {}, "light": {}, "full": {}}
    async with measured(mongo_url, entra) as both:
        await both.ours(500, full=True)
        await both.raw(500, pool=True)
        for _ in range(ROUNDS):
            for name, figures in (
                ("raw", await both.raw(PROBES, pool=True)),
                ("own", await both.raw(PROBES, pool=False)),
                ("light", await both.ours(PROBES, full=False)),
                ("full", await both.ours(PROBES, full=True)),
            ):
                for figure, value in figures.items():
                    found[name].setdefault(figure, []).append(value)
    return found


async def memory(mongo_url: str, entra: Path) -> dict[str, float]:
    """Megabytes at rest, after 2,000 of the tenants were checked, and after 5,000 others."""
    async with measured(mongo_url, entra) as ours:
        await ours.ours(64, full=True)
        at_rest = resident()
        await ours.ours(ACTIVE, full=False)
        active = resident()
        await ours.ours(MORE, full=False)
        return {"at_rest": at_rest, "active": active, "more": resident()}


async def child(kind: str, folder: Path, mongo_url: str) -> Any:  # noqa: ANN401 - what the child prints
    """Run one of the above in a process of its own, whose log goes nowhere."""
    out = folder / f"{kind}.json"
    arguments = (sys.executable, "-m", "bench.probes", f"--{kind}", str(out), mongo_url, str(folder))
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.DEVNULL)
    try:
        if await process.wait():
            raise SystemExit(f"bench.probes --{kind} failed")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return json.loads(out.read_text())


async def compare() -> str:
    """Run everything, and return the tables."""
    with tempfile.TemporaryDirectory(prefix="bench-probes-") as name:
        folder = Path(name)
        mongo = EmbeddedMongo(data_dir=folder / "mongo", log_file=folder / "mongo.log")
        await mongo.start()
        entra = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.stub_entra", str(folder))
        try:

            async def listens() -> bool:
                return (folder / "port").exists()

            await eventually(listens, within=30, what="the stub")
            sys.stderr.write(f"probes: {KNOWN:,} tenants, {PROBES:,} checks a round ...\n")
            found = await child("rounds", folder, mongo.url)
            held = await child("memory", folder, mongo.url)
        finally:
            entra.terminate()
            await entra.wait()
            await mongo.stop()
    return report(found, held)


def report(found: dict[str, Figures], held: dict[str, float]) -> str:
    """The tables."""
    names = {
        "raw": "raw loop, token POSTs and nothing else: httpx as it comes",
        "own": "raw loop, the same on the gateway's connections",
        "light": "monitor",
        "full": "monitor, in full (once a day)",
    }
    rows = []
    for kind, name in names.items():
        figures = found[kind]
        ratios = [
            spread([mine / floor for mine, floor in zip(figures["rate"], found[one]["rate"], strict=True)], digits=2)
            for one in ("raw", "own")
        ]
        rows.append(
            [
                name,
                spread(figures["rate"]),
                spread(figures["cpu"]),
                spread(figures["entra"], digits=2) if "entra" in figures else "1",
                spread(figures["mongo"], digits=2) if "mongo" in figures else "0",
                *ratios,
            ]
        )
    counted = ["per second", "CPU us each", "Entra requests each", "MongoDB operations each"]
    head = ["", *counted, "ratio to httpx as it comes (aim: >= 0.5)", "ratio to our connections"]
    title = f"Checks of grants, {PROBES:,} a round, {KNOWN:,} tenants known (min / median / max of {ROUNDS} rounds)"
    grown = [
        ["at rest", f"{held['at_rest']:,.0f}"],
        [f"{ACTIVE:,} tenants checked", f"{held['active']:,.0f}"],
        [f"{MORE:,} others checked", f"{held['more']:,.0f}"],
    ]
    return table(title, rows, head=head) + table(f"Memory, {KNOWN:,} tenants known", grown, head=["", "RSS, MB"])


def main() -> None:
    """Measure and print; or do what the parent asks for."""
    match sys.argv[1:]:
        case ["--rounds" | "--memory" as kind, out, mongo_url, entra]:
            logs.configure(LogSettings(), service="consent-gateway")
            work = rounds if kind == "--rounds" else memory
            Path(out).write_text(json.dumps(uvloop.run(work(mongo_url, Path(entra)))))
        case _:
            sys.stdout.write(asyncio.run(compare()))


if __name__ == "__main__":
    main()
