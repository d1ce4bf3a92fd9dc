"""The three listeners in one process: sockets first, so that free ports are known before anything needs them."""

import asyncio
import contextlib
import json
import logging
import signal
import socket
from collections.abc import Iterator
from dataclasses import asdict

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from entra_sandbox import certificates, seed
from entra_sandbox.app import browser_app, graph_app, login_app
from entra_sandbox.certificates import TlsFiles
from entra_sandbox.files import write_atomically
from entra_sandbox.sandbox import Sandbox, Urls, assemble
from entra_sandbox.settings import Listener, Settings
from entra_sandbox.store import Store

logger = logging.getLogger("entra_sandbox")


class CannotStart(Exception):
    """The sandbox cannot start; the message is one line that says what to change."""


class _Protocol(HttpToolsProtocol):
    """Lets a request reach its own connection, so that it can be cut on demand."""

    def on_message_begin(self) -> None:
        """Notes the connection in the request's state."""
        super().on_message_begin()
        self.scope["state"]["transport"] = self.transport


class _Server(uvicorn.Server):
    """One listener of several: signals are for the whole process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone."""
        yield


class SandboxServer:
    """A sandbox that listens. `urls` are known once it is made; `serve` returns after `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sockets = {
            name: _bind(name, listener)
            for name, listener in (("HTTP", settings.http), ("LOGIN", settings.login), ("GRAPH", settings.graph))
        }
        self.urls = Urls(
            browser=settings.public_url or f"http://localhost:{self._port('HTTP')}",
            login=settings.login.public_url or f"https://localhost:{self._port('LOGIN')}",
            graph=settings.graph.public_url or f"https://localhost:{self._port('GRAPH')}",
        )
        try:
            directory = seed.load(settings.seed_path)
        except seed.SeedError as error:
            raise CannotStart(f"SEED_PATH: {settings.seed_path or 'the packaged seed'}: {error}") from error
        try:
            self.tls = certificates.prepare(settings.data_dir, settings.tls.hosts)
            self._store = Store(settings.data_dir / "state.sqlite3")
        except OSError as error:
            raise CannotStart(f"DATA_DIR: {settings.data_dir} cannot be used: {error.strerror}") from error
        self.sandbox: Sandbox = assemble(self._store, directory, self.urls, redirect_uris=_redirect_uris(settings))
        self._servers: list[_Server] = []

    def _port(self, name: str) -> int:
        return int(self._sockets[name][0].getsockname()[1])

    async def serve(self) -> None:
        """Answers until it is stopped, then closes everything."""
        apps = {"HTTP": browser_app(self.sandbox), "LOGIN": login_app(self.sandbox), "GRAPH": graph_app(self.sandbox)}
        self._servers = [_server(app, None if name == "HTTP" else self.tls) for name, app in apps.items()]
        running = [
            asyncio.create_task(server.serve(sockets=self._sockets[name]))
            for name, server in zip(apps, self._servers, strict=True)
        ]
        try:
            await self._announce()
            await asyncio.gather(*running)
        finally:
            self.stop()
            await asyncio.gather(*running, return_exceptions=True)
            self._store.close()

    def stop(self) -> None:
        """Ends `serve`."""
        self.sandbox.closing.set()
        for server in self._servers:
            server.should_exit = True

    async def _announce(self) -> None:
        while not all(server.started for server in self._servers):
            if any(server.should_exit for server in self._servers):
                return
            await asyncio.sleep(0.005)
        addresses = {**asdict(self.urls), "ca": str(self.tls.ca.resolve())}
        # For whoever started the sandbox with free ports.
        write_atomically(self._settings.data_dir / "endpoints.json", json.dumps(addresses, indent=2).encode())
        logger.info("started", extra={"fields": addresses})


async def run(settings: Settings) -> None:
    """Runs a sandbox until SIGINT or SIGTERM."""
    server = SandboxServer(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    await server.serve()


def _server(app: FastAPI, tls: TlsFiles | None) -> _Server:
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        timeout_graceful_shutdown=1,
        # Longer than clients keep idle connections, so that it is they who close them.
        timeout_keep_alive=75,
    )
    return _Server(config)


def _bind(name: str, listener: Listener) -> list[socket.socket]:
    """Sockets for every address of a host; with port 0 all take the port that the first one got."""
    port = listener.port
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(listener.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotStart(f"{name}__HOST: {listener.host} cannot be resolved: {error.strerror}") from error
    for family, kind, protocol, _, address in dict.fromkeys(sorted(found, key=lambda item: item[0])):
        attempt = socket.socket(family, kind, protocol)
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            attempt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            attempt.bind((address[0], port, *address[2:]))
        except OSError as error:
            attempt.close()
            # A machine without IPv6 still has "localhost" in both families.
            if bound and family == socket.AF_INET6:
                continue
            raise CannotStart(
                f"{name}__PORT: port {port} on {listener.host} cannot be used: {error.strerror}"
            ) from error
        attempt.setblocking(False)
        port = port or int(attempt.getsockname()[1])
        bound.append(attempt)
    return bound


def _redirect_uris(settings: Settings) -> tuple[str, ...]:
    gateway = settings.gateway
    return tuple(f"{url}{path}" for url in gateway.public_urls for path in gateway.redirect_paths)
