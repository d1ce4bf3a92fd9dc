"""An endpoint that receives webhooks and keeps what came, when."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import time
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Arrival:
    """One request: when it came (Unix time), its id, what it said."""

    at: float
    webhook_id: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The body, decoded."""
        return json.loads(self.raw)


class Receiver:
    """Answers every POST with ``status``."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.status = 204
        self.url = ""

    def ids(self) -> set[str]:
        """Of all that came."""
        return {arrival.webhook_id for arrival in self.arrivals}

    async def handle(self, request: web.Request) -> web.Response:
        """Keep the request, then answer."""
        now, raw = time(), await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.arrivals.append(Arrival(at=now, webhook_id=headers.get("webhook-id", ""), headers=headers, raw=raw))
        return web.Response(status=self.status)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine, for as long as the context lasts."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/", receiver.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        receiver.url = f"http://{host}:{port}/"
        yield receiver
    finally:
        await runner.cleanup()
