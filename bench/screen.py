"""What the first page costs in an account with 10,000 tenants, against one with 100; and what an export holds.

Ours: the gateway and the registry as they are, on one mongod that knows both accounts. The pages are asked for by
people who are signed in, in turns, and the ratio is that of the medians of a round.
Beside it: the resident memory of the process while the registry streams a CSV of 10,000 tenants, and one of 100,000.
"""

import copy
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import uvloop

from bench.figures import ROUNDS, spread, table
from bench.probes import resident, tenant
from consent_gateway.core import utc_now
from launcher.mongo import EmbeddedMongo
from shared import logs
from shared.settings import LogSettings
from support import registry_api
from support.consent_events import grant_event
from support.fleet_site import FleetSite, fleet_site
from support.seeded import granted, seed

SMALL, LARGE = 100, int(os.environ.get("BENCH_FLEET", "10000"))
EXPORTED = int(os.environ.get("BENCH_EXPORT", "100000"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "40"))
ACCOUNTS = {"small": SMALL, "large": LARGE}
SET, OTHER = "read-directory-data", "manage-accounts"
SCREEN = "/integrations/microsoft-entra-id"
PAGES = {
    "Microsoft Entra ID": SCREEN,
    "Microsoft Entra ID, from an app": f"{SCREEN}?app=search",
    "All tenants": f"{SCREEN}/fleet",
    "All tenants, by status": f"{SCREEN}/fleet?status=granted",
    "All tenants, not consented": f"{SCREEN}/fleet?set={OTHER}&status=not_consented",
    "History": f"{SCREEN}/history",
}
AIM = 1.5


async def fill(site: FleetSite) -> None:
    """Put the tenants there, in the gateway and in the registry."""
    later = utc_now().replace(year=2099)
    for account, size in ACCOUNTS.items():
        grants = [granted(site.core.catalog.sets[SET], tenant(number), next_at=later) for number in range(size)]
        await seed(site.core, [replace(grant, account_id=account) for grant in grants])
    for account, size in {**ACCOUNTS, "exported": EXPORTED}.items():
        await registry_api.write(site.registry, grant_event(account_id=account, tenant_id=tenant(0)))
        first = await site.registry.document(account, tenant(0))
        row = await site.registry.history.find_one({"account_id": account})
        assert first is not None
        assert row is not None
        for start in range(1, size, 2_000):
            numbers = range(start, min(start + 2_000, size))
            await site.registry.tenants.insert_many([_copy(first, account, number) for number in numbers])
            if account in ACCOUNTS:
                await site.registry.history.insert_many(
                    [{**row, "_id": f"{account}-{number}", "tenant_id": tenant(number)} for number in numbers]
                )


def _copy(document: Mapping[str, Any], account: str, number: int) -> dict[str, Any]:
    other = copy.deepcopy(dict(document))
    return other | {"_id": f"{account}:{tenant(number)}", "tenant_id": tenant(number)}


async def pages(site: FleetSite) -> dict[str, dict[str, list[float]]]:
    """Milliseconds: the medians of each round, by page and account."""
    visits = {account: await site.visit("operator", account) for account in ACCOUNTS}
    found: dict[str, dict[str, list[float]]] = {page: {account: [] for account in ACCOUNTS} for page in PAGES}
    for number in range(ROUNDS + 1):
        for page, path in PAGES.items():
            taken: dict[str, list[float]] = {account: [] for account in ACCOUNTS}
            for _ in range(REQUESTS):
                for account, visit in visits.items():
                    begun = perf_counter()
                    answer = await visit.http.get(path)
                    taken[account].append((perf_counter() - begun) * 1000)
                    assert answer.status_code == 200, answer.text
                    assert "cannot be read at the moment" not in answer.text
            # The first round warms up.
            for account in ACCOUNTS if number else ():
                found[page][account].append(median(taken[account]))
    return found


async def export(site: FleetSite, account: str, size: int) -> tuple[float, float]:
    """Most megabytes in memory while the account is exported, and the seconds that it took."""
    headers = {"Authorization": f"Bearer {registry_api.token('viewer', account_id=account)}"}
    most, lines, begun = 0.0, 0, perf_counter()
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
        client.stream("GET", f"{site.registry_url}/v1/tenants.csv", headers=headers) as answer,
    ):
        async for part in answer.aiter_bytes():
            lines += part.count(b"\n")
            most = max(most, resident())
    assert lines == size + 1, f"{lines} lines of {size} tenants"
    return most, perf_counter() - begun


async def measure(mongo_url: str) -> str:
    """Run everything, and return the tables."""
    async with fleet_site(mongo_url=mongo_url, database="bench_screen") as site:
        sys.stderr.write(f"screen: {EXPORTED:,} tenants are put there ...\n")
        await fill(site)
        sys.stderr.write("screen: pages ...\n")
        found = await pages(site)
        sys.stderr.write("screen: exports ...\n")
        await export(site, "large", LARGE)
        exports = {size: await export(site, name, size) for name, size in (("large", LARGE), ("exported", EXPORTED))}
    return "".join(report(found, exports))


def report(found: dict[str, dict[str, list[float]]], exports: dict[int, tuple[float, float]]) -> Iterator[str]:
    """The tables, and whether the aims are met."""
    ratios = {page: [b / a for a, b in zip(of["small"], of["large"], strict=True)] for page, of in found.items()}
    rows = [
        [page, spread(of["small"], digits=1), spread(of["large"], digits=1), spread(ratios[page], digits=2)]
        for page, of in found.items()
    ]
    head = ["first page", f"ms with {SMALL:,}", f"ms with {LARGE:,}", f"ratio (aim: <= {AIM})"]
    yield table(f"Pages of an account, {REQUESTS} requests a round (min / median / max of {ROUNDS})", rows, head=head)
    held = [[f"{size:,}", f"{most:,.0f}", f"{size / seconds:,.0f}"] for size, (most, seconds) in exports.items()]
    yield table("CSV of all tenants", held, head=["tenants", "RSS at most, MB", "tenants/s"])
    met = all(median(each) <= AIM for each in ratios.values())
    (few, _), (many, _) = exports[LARGE], exports[EXPORTED]
    flat = many <= few * 1.1
    yield f"\nPages: {'met' if met else 'NOT met'}; memory of the export: {'flat' if flat else 'NOT flat'}.\n"


async def compare() -> str:
    """On a mongod of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-screen-") as name:
        mongo = EmbeddedMongo(data_dir=Path(name) / "mongo", log_file=Path(name) / "mongo.log")
        await mongo.start()
        try:
            return await measure(mongo.url)
        finally:
            await mongo.stop()


def main() -> None:
    """Measure and print."""
    logs.configure(LogSettings(level="error"), service="bench")
    sys.stdout.write(uvloop.run(compare()))


if __name__ == "__main__":
    main()
