"""A stand-in for issuer and notifier that a test can make fail, and the sample app that it drives over real HTTP."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from sample_app.settings import Settings

CONTOSO = {"id": "8f4c1a52-6d0e-4f2b-9a31-5b7e0c9d2a10", "name": "Contoso Ltd"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@asynccontextmanager
async def serving(app: ASGIApp, port: int) -> AsyncIterator[None]:
    """The application on a real socket of this machine."""
    config = uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())  # serve() would take the test runner's signals
    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@dataclass
class Platform:
    """Issuer and notifier in small: what they remember, and how they are told to fail."""

    url: str
    subscriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    recovered_since: list[str] = field(default_factory=list)
    failing: bool = False
    tokens_refused: int = 0
    page_size: int = 100
    events_kept_since: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def secret_of(self, app_id: str) -> str:
        (secret,) = (item["secret"] for item in self.subscriptions.values() if item["app_id"] == app_id)
        return str(secret)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/token", self._token, methods=["POST"]),
                Route("/v1/subscriptions", self._collection, methods=["GET", "POST"]),
                Route("/v1/subscriptions/{id}", self._delete, methods=["DELETE"]),
                Route("/v1/subscriptions/{id}/{action}", self._act, methods=["POST"]),
            ]
        )

    async def _discovery(self, _request: Request) -> Response:
        return JSONResponse({"token_endpoint": f"{self.url}/token"})

    async def _token(self, request: Request) -> Response:
        self.calls.append("token")
        credentials = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        app_id, _, secret = credentials.partition(":")
        if secret != "app-demo-secret":
            return JSONResponse({"error": "invalid_client", "error_description": "wrong secret"}, 401)
        return JSONResponse({"access_token": f"token-of-{app_id}", "expires_in": 3600})

    async def _collection(self, request: Request) -> Response:
        app_id = request.headers["authorization"].removeprefix("Bearer token-of-")
        self.calls.append(f"{request.method} {app_id}")
        if (trouble := self._trouble()) is not None:
            return trouble
        own = [item for item in self.subscriptions.values() if item["app_id"] == app_id]
        if request.method == "GET":
            start = int(request.query_params.get("cursor", "0"))
            page = own[start : start + self.page_size]
            more = start + len(page) < len(own)
            items = [{name: value for name, value in item.items() if name != "secret"} for item in page]
            return JSONResponse({"items": items, "next_cursor": str(start + len(page)) if more else None})
        made = self.add(app_id, (await request.json())["url"])
        return JSONResponse(made, 201)

    def add(self, app_id: str, url: str, *, enabled: bool = True) -> dict[str, Any]:
        """A subscription as an earlier run of the app would have left it."""
        item = {"id": f"sub-{next(self._numbers)}", "app_id": app_id, "url": url, "enabled": enabled}
        item["secret"] = new_secret()
        self.subscriptions[str(item["id"])] = item
        return item

    async def _delete(self, request: Request) -> Response:
        self.calls.append("delete")
        del self.subscriptions[request.path_params["id"]]
        return Response(status_code=204)

    async def _act(self, request: Request) -> Response:
        item = self.subscriptions[request.path_params["id"]]
        action = request.path_params["action"]
        self.calls.append(action)
        if (trouble := self._trouble()) is not None:
            return trouble
        if action == "rotate-secret":
            item["secret"] = new_secret()
            return JSONResponse(item)
        if action == "recover":
            since = (await request.json())["since"]
            if datetime.fromisoformat(since) < self.events_kept_since:
                return JSONResponse({"title": "Unprocessable Entity", "detail": "too long ago"}, 422)
            self.recovered_since.append(since)
            item["enabled"] = True
        return JSONResponse({}, 202)

    def _trouble(self) -> Response | None:
        if self.failing:
            return JSONResponse({"title": "Service Unavailable", "detail": "no database"}, 503)
        if self.tokens_refused:
            self.tokens_refused -= 1
            return JSONResponse({"title": "Unauthorized", "detail": "unknown key"}, 401)
        return None


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def signed(secret: str, body: bytes, *, webhook_id: str) -> dict[str, str]:
    """The headers of a push, made here and not by the package that the app verifies with."""
    key, now = base64.b64decode(secret.removeprefix("whsec_")), int(time.time())
    digest = hmac.new(key, f"{webhook_id}.{now}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


@dataclass
class Sample:
    """The running sample app, its platform, and what a test does to it."""

    platform: Platform
    settings: Settings
    http: httpx.AsyncClient

    async def push(
        self,
        *,
        webhook_id: str,
        app_id: str = "identity-security",
        secret: str | None = None,
        kind: str = "permission.status_changed",
        **changes: Any,
    ) -> httpx.Response:
        """Send a push as the notifier does."""
        data = {
            "account_id": "northwind",
            "tenant": CONTOSO,
            "app_id": app_id,
            "permission_set_id": "read-directory-data",
            "status": "granted",
            "usable": True,
            "access": "gained",
            "revision": 1,
            **changes,
        }
        body = json.dumps({"type": kind, "timestamp": "2026-11-23T12:00:00Z", "data": data}).encode()
        headers = signed(secret or self.platform.secret_of(app_id), body, webhook_id=webhook_id)
        return await self.http.post("/webhooks", content=body, headers=headers)

    async def ready(self) -> bool:
        return (await self.http.get("/readyz")).status_code == 200

    async def verdicts(self) -> list[str]:
        """Of all arrivals, oldest first."""
        items = (await self.http.get("/api/received")).json()["items"]
        return [item["verdict"] for item in reversed(items)]


StartSample = Callable[..., Awaitable[Sample]]
