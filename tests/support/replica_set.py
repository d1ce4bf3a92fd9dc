"""A MongoDB replica set of three nodes, whose primary can be killed: another node then takes over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from typing_extensions import override

from launcher.mongo import REPLICA_SET, EmbeddedMongo
from launcher.ports import LOOPBACK
from support.eventually import eventually

# A second without a primary is enough to see; ten, MongoDB's default, would only be waited for.
ELECTION_MS = 1000


class _Joining(EmbeddedMongo):
    """A node that waits to be taken into somebody else's set."""

    @override
    async def _is_primary(self, client: AsyncMongoClient[dict[str, Any]]) -> bool:
        try:
            return bool(await client.admin.command("ping"))
        except (PyMongoError, OSError):
            return False


@dataclass(frozen=True, kw_only=True)
class ReplicaSet:
    """The nodes."""

    nodes: list[EmbeddedMongo]

    @property
    def url(self) -> str:
        """Connection string for clients."""
        hosts = ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)
        return f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"

    async def kill_primary(self) -> None:
        """End the primary as a crash would, and return when another node has taken over."""
        before = await self.primary()
        for node in self.nodes:
            if node.port == before:
                await node.kill()

        async def another() -> bool:
            return await self.primary() not in {None, before}

        await eventually(another, within=60, what="another primary")

    async def primary(self) -> int | None:
        """The port of the node that takes writes."""
        for node in self.nodes:
            if node.process.running and await _hello(node):
                return node.port
        return None


async def _hello(node: EmbeddedMongo) -> bool:
    async with AsyncMongoClient[dict[str, Any]](
        LOOPBACK, node.port, directConnection=True, serverSelectionTimeoutMS=700
    ) as client:
        try:
            return bool((await client.admin.command("hello"))["isWritablePrimary"])
        except (PyMongoError, OSError):
            return False


@asynccontextmanager
async def replica_set(folder: Path) -> AsyncIterator[ReplicaSet]:
    """Three nodes for as long as the context lasts."""
    kinds = (EmbeddedMongo, _Joining, _Joining)
    nodes = [
        kind(data_dir=folder / f"node{number}", log_file=folder / f"node{number}.log")
        for number, kind in enumerate(kinds)
    ]
    async with AsyncExitStack() as stack:
        for node in nodes:
            stack.push_async_callback(node.kill)
        await asyncio.gather(*(node.start() for node in nodes))
        await _join(nodes[0], nodes[1:])
        yield ReplicaSet(nodes=nodes)


async def _join(first: EmbeddedMongo, others: list[EmbeddedMongo]) -> None:
    async with AsyncMongoClient[dict[str, Any]](LOOPBACK, first.port, directConnection=True) as client:
        for number, node in enumerate(others, start=1):

            async def take_in(number: int = number, node: EmbeddedMongo = node) -> bool:
                config = (await client.admin.command("replSetGetConfig"))["config"]
                config["version"] += 1
                config["settings"]["electionTimeoutMillis"] = ELECTION_MS
                config["settings"]["heartbeatIntervalMillis"] = ELECTION_MS // 4
                config["members"].append({"_id": number, "host": f"{LOOPBACK}:{node.port}"})
                try:
                    await client.admin.command("replSetReconfig", config)
                except PyMongoError:
                    return False  # the change before is not everywhere yet
                return True

            await eventually(take_in, within=60, what=f"node {number} in the set")

        async def all_up() -> list[int]:
            status = await client.admin.command("replSetGetStatus")
            return sorted(member["state"] for member in status["members"])

        primary, secondary = 1, 2
        await eventually(all_up, lambda states: states == [primary, secondary, secondary], within=60, what="all nodes")
