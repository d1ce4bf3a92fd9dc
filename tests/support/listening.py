"""A client of the notifier's stream of server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.eventually import eventually


@dataclass
class Listener:
    """What a client of the stream has seen."""

    status: int = 0
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    last_event_id: str = ""
    ended: bool = False

    async def follow(self, response: httpx.Response) -> None:
        """Parse as the HTML standard says (server-sent events, 9.2.6)."""
        kind, data = "message", ""
        async for line in response.aiter_lines():
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line.startswith(":"):
                self.comments.append(value)
            elif name == "id":
                self.last_event_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data += value
            elif not line:
                if data:
                    self.events.append((kind, json.loads(data)))
                kind, data = "message", ""
        self.ended = True

    def revisions(self) -> list[int]:
        return [event["data"]["revision"] for kind, event in self.events if kind != "reset"]


@asynccontextmanager
async def listening(url: str, headers: dict[str, str], last_event_id: str = "") -> AsyncIterator[Listener]:
    listener = Listener()
    sent = headers | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream("GET", f"{url}/v1/stream", headers=sent) as answer,
    ):
        listener.status, listener.headers = answer.status_code, answer.headers
        task = asyncio.create_task(listener.follow(answer))
        await eventually(lambda: _position(listener), what="the first position")
        try:
            yield listener
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _position(listener: Listener) -> str:
    return listener.last_event_id
