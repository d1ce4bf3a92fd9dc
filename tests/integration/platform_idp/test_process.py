"""The issuer as a process: start, crash, rotation, wrong settings, logs."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.eventually import eventually

APP = ("search", "app-demo-secret")


class Process:
    """One ``platform-idp`` on a free port."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.environment = {**os.environ, "HTTP__PORT": str(self.port), "DATA_DIR": str(directory / "data")}
        self.log = directory / "log"
        self._running: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._spawn()
        await eventually(self._ready, within=20)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        if self._running is None:
            return None
        self._running.send_signal(how)
        status, self._running = self._running.wait(10), None
        return status

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url) as client:
            return await client.get(path)

    async def post(self, path: str, form: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url) as client:
            return await client.post(path, data=form, auth=APP)

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(self._command(), env=self.environment, stdout=log, stderr=log)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "platform_idp", *arguments]

    async def _ready(self) -> bool:
        try:
            return (await self.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    yield process
    process.stop(signal.SIGKILL)


async def kids(process: Process) -> list[str]:
    return [key["kid"] for key in (await process.get("/.well-known/jwks.json")).json()["keys"]]


async def test_a_killed_issuer_comes_back_with_the_same_key(process: Process) -> None:
    await process.start()
    before = await kids(process)
    process.stop(signal.SIGKILL)
    await process.start()

    assert await kids(process) == before


async def test_a_running_issuer_signs_with_a_rotated_key_at_once(process: Process) -> None:
    await process.start()
    (first,) = await kids(process)
    rotated = process.run("rotate-keys")

    assert rotated.returncode == 0
    second, old = await kids(process)
    assert (old, second in rotated.stdout) == (first, True)


async def test_the_command_line_prints_a_token(process: Process) -> None:
    await process.start()
    printed = process.run("token", "--role", "operator", "--account", "adatum")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", printed.stdout)

    refused = process.run("token", "--role", "app", "--app", "nonesuch")
    assert refused.returncode == 1
    assert "app_id must be one of the suite's apps" in refused.stderr

    process.stop()
    unreachable = process.run("token", "--role", "operator")
    assert unreachable.returncode == 1
    assert "is it running?" in unreachable.stderr


async def test_it_stops_in_order_when_asked(process: Process) -> None:
    await process.start()

    assert process.stop(signal.SIGTERM) in (0, -signal.SIGTERM)


async def test_it_is_not_ready_without_its_keys(process: Process, tmp_path: Path) -> None:
    await process.start()
    (tmp_path / "data" / "signing-keys.json").unlink()

    assert (await process.get("/readyz")).status_code == 503
    assert (await process.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"), [("HTTP__PORT", "sesame"), ("APPS__IDS", "sesame"), ("DATA_DIR", "/proc/sesame")]
)
def test_a_wrong_setting_is_one_readable_line(process: Process, name: str, value: str) -> None:
    stopped = process.run(**{name: value})

    assert stopped.returncode == 2
    assert len(stopped.stderr.splitlines()) == 1
    assert name in stopped.stderr


def test_help_explains_commands_and_settings(process: Process) -> None:
    text = process.run("--help").stdout

    for expected in ("rotate-keys", "token", "BACKCHANNEL_URL", "CONSOLE__REDIRECT_URIS", "TOKENS__ACCESS_SECONDS"):
        assert expected in text


async def test_logs_hold_route_templates_and_no_secrets(process: Process) -> None:
    await process.start()
    issued = await process.post("/token", {"grant_type": "client_credentials"})
    await process.get("/authorize?client_id=consent-console&state=SECRET-STATE")
    await process.get("/SECRET-PATH")
    await process.post("/token", {"grant_type": "authorization_code", "code": "SECRET-CODE"})
    process.stop()
    log = process.log.read_text()

    assert '"route": "/token", "status": 200' in log
    assert '"route": "/authorize", "status": 400' in log
    assert '"route": "(none)", "status": 404' in log
    assert "SECRET" not in log
    assert APP[1] not in log
    assert issued.json()["access_token"] not in log
