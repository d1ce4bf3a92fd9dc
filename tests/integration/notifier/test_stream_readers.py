"""Readers of the stream among each other: how many there may be, the slow beside the quick, and a restart between."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from pymongo.errors import AutoReconnect

from notifier.settings import StreamSettings
from notifier.store import EventStore
from notifier.subscribers import Intake, Told
from support.eventually import eventually
from support.listening import Listener, listening
from support.status_events import status_event
from support.tokens import Issuer

# What the buffers between the two ends of a slow connection hold is far less than what is sent.
BUFFER_BYTES = 4096
EVENTS = 600


def tenant(number: int) -> str:
    return f"8f4c1a52-6d0e-4f2b-9a31-{number:012d}"


async def revisions(listener: Listener) -> list[int]:
    return sorted(listener.revisions())


async def open_streams() -> float:
    return REGISTRY.get_sample_value("notifier_streams_open") or 0.0


async def test_who_asks_at_the_same_moment_gets_no_more_streams_than_one_may_have(serve: Any, issuer: Issuer) -> None:
    most, asked = 3, 12
    headers = issuer.headers("app", app_id="search")
    async with (
        serve(stream=StreamSettings(connections_per_owner=most)) as served,
        httpx.AsyncClient(base_url=served.url, timeout=30) as client,
    ):
        before = await open_streams()
        for _ in range(2):
            # No change stream is open the first time: all of them wait for it together.
            async with AsyncExitStack() as stack:
                statuses = await asyncio.gather(*(status(client, headers, stack) for _ in range(asked)))
                assert sorted(statuses) == [200] * most + [429] * (asked - most)
            await eventually(open_streams, before.__eq__, what="all places given back")


async def status(client: httpx.AsyncClient, headers: dict[str, str], stack: AsyncExitStack) -> int:
    """Of a stream that stays open until the stack ends."""
    return (await stack.enter_async_context(client.stream("GET", "/v1/stream", headers=headers))).status_code


async def test_it_goes_on_exactly_where_it_was_after_a_restart(serve: Any, stage: Any, issuer: Issuer) -> None:
    headers = issuer.headers("app", app_id="search")
    async with serve() as served, listening(served.url, headers) as first:
        await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(1, 11)])
        await eventually(partial(revisions, first), lambda seen: seen == list(range(1, 11)))
    # Nobody reads Kafka either.
    await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(11, 21)])
    async with serve() as served, listening(served.url, headers, first.last_event_id) as second:
        await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(21, 31)])
        await eventually(partial(revisions, second), lambda seen: len(seen) == 20, within=40)
    assert await revisions(second) == list(range(11, 31))


@dataclass
class Failing:
    """Writes of events that fail while several batches are under way: none, some or all of their rows are there."""

    failures: list[str] = field(default_factory=lambda: ["none", "some", "all"])
    under_way: int = 0
    writes: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        add, deliver = EventStore.add, Intake.deliver

        async def delivering(intake: Intake, told: Sequence[Told]) -> None:
            self.under_way += 1
            try:
                await deliver(intake, told)
            finally:
                self.under_way -= 1

        async def adding(store: EventStore, notices: Sequence[Any]) -> None:
            self.writes += 1
            if self.writes % 3 or not self.failures:
                await add(store, notices)
                return
            await eventually(self._others, lambda count: count > 1, what="batches behind the one that fails")
            kind = self.failures.pop(0)
            if kind != "none":
                await add(store, notices if kind == "all" else notices[: len(notices) // 2])
            raise AutoReconnect("no answer")

        monkeypatch.setattr(EventStore, "add", adding)
        monkeypatch.setattr(Intake, "deliver", delivering)

    async def _others(self) -> int:
        return self.under_way


async def test_across_batches_that_fail_everything_comes_once_and_in_its_order(
    serve: Any, stage: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for who comes back in the middle of it: what is behind a failed batch never becomes visible before it."""
    monkeypatch.setattr("notifier.app.BATCH", 5)
    failing = Failing()
    failing.install(monkeypatch)
    headers = issuer.headers("app", app_id="search")
    sent = [(tenant(n % 4), n) for n in range(1, 161)]
    async with serve() as served, AsyncExitStack() as stack:
        through = await stack.enter_async_context(listening(served.url, headers))
        async with listening(served.url, headers) as leaving:
            await stage.publish(*[status_event(revision=n, tenant_id=tenant_id) for tenant_id, n in sent])
            # One of the writes has failed by now.
            await eventually(partial(revisions, leaving), lambda seen: len(seen) > 10, within=40)
        back = await stack.enter_async_context(listening(served.url, headers, leaving.last_event_id))
        await eventually(partial(revisions, through), lambda seen: len(seen) >= len(sent), within=60)
        await eventually(partial(revisions, back), lambda seen: len(seen) >= len(sent) - len(leaving.events), within=60)
        # Whatever came twice would have come before this.
        await stage.publish(*[status_event(revision=1000 + n, tenant_id=tenant(n)) for n in range(4)])
        for listener in (through, back):
            await eventually(partial(revisions, listener), lambda seen: seen[-4:] == list(range(1000, 1004)))
    assert failing.failures == []
    marked = sent + [(tenant(n), 1000 + n) for n in range(4)]
    assert by_tenant(through.events) == by_tenant_of(marked)
    assert by_tenant(leaving.events + back.events) == by_tenant_of(marked)


def by_tenant_of(revisions: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for tenant_id, revision in revisions:
        found.setdefault(tenant_id, []).append(revision)
    return found


def by_tenant(events: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, list[int]]:
    """The revisions of each tenant as they came."""
    return by_tenant_of((event["data"]["tenant"]["id"], event["data"]["revision"]) for _, event in events)


async def test_who_does_not_read_delays_nobody_and_misses_nothing(
    serve: Any, stage: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.stream.SEND_SECONDS", 300.0)  # it shall be slow, not given up
    headers = issuer.headers("app", app_id="search")
    async with serve(stream=StreamSettings(queue=16)) as served:
        for listener in served.server.servers[0].sockets:
            # What is accepted from now on has no more room than that.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        async with unread(served.url, headers) as slow, listening(served.url, headers) as quick:
            for start in range(0, EVENTS, 100):
                numbers = range(start + 1, start + 101)
                await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in numbers])
            everything = list(range(1, EVENTS + 1))
            await eventually(partial(revisions, quick), everything.__eq__, within=40, what="all, at the one who reads")
            # Only now does the other one begin.
            assert await slow.numbers(EVENTS) == everything


async def test_who_takes_nothing_for_too_long_is_let_go(
    serve: Any, stage: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.stream.SEND_SECONDS", 0.2)
    headers = issuer.headers("app", app_id="search")
    async with serve() as served:
        for listener in served.server.servers[0].sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        before = await open_streams()
        async with unread(served.url, headers):
            await stage.publish(*[status_event(revision=n, tenant_id=tenant(n)) for n in range(1, 201)])
            await eventually(open_streams, before.__eq__, within=30, what="its place given back")


class Unread:
    """A connection on which a stream was asked for and nothing is read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def numbers(self, count: int) -> list[int]:
        """Read at last, until so many events have come: their revisions."""
        reader, writer = await asyncio.open_connection(sock=self._connection, limit=2**20)
        found: list[int] = []
        try:
            async with asyncio.timeout(60):
                while len(found) < count:
                    line = await reader.readline()
                    if line.startswith(b"data: "):
                        found.append(json.loads(line.removeprefix(b"data: "))["data"]["revision"])
        finally:
            writer.close()
        return sorted(found)


@asynccontextmanager
async def unread(url: str, headers: dict[str, str]) -> AsyncIterator[Unread]:
    loop, target = asyncio.get_running_loop(), httpx.URL(url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        connection.setblocking(False)
        await loop.sock_connect(connection, (target.host, target.port))
        before = await open_streams()
        lines = ["GET /v1/stream HTTP/1.1", f"Host: {target.host}", *(f"{k}: {v}" for k, v in headers.items())]
        await loop.sock_sendall(connection, ("\r\n".join(lines) + "\r\n\r\n").encode())
        await eventually(open_streams, lambda found: found > before, what="the stream")
        # Its first bytes say where it begins.
        received = b""
        while b"retry:" not in received:
            received += await loop.sock_recv(connection, 512)
        yield Unread(connection)
