"""The app as a process: crash, stop, wrong settings, logs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sample_app.settings import Settings
from support.eventually import eventually
from support.sample_app_platform import Platform, Sample, free_port


class Process:
    """One ``sample-app`` on a free port."""

    def __init__(self, platform: Platform, directory: Path) -> None:
        self.port = free_port()
        self.log = directory / "log"
        self.environment = {
            **os.environ,
            "HTTP__PORT": str(self.port),
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "ISSUER": platform.url,
            "NOTIFIER_URL": platform.url,
            "DATA_DIR": str(directory / "data"),
        }
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(self._command(), env=self.environment, stdout=log, stderr=log)

    def stop(self, how: signal.Signals) -> int | None:
        if self._running is None:
            return None
        self._running.send_signal(how)
        status, self._running = self._running.wait(10), None
        return status

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sample_app", *arguments]


@pytest.fixture
def process(platform: Platform, tmp_path: Path) -> Iterator[Process]:
    process = Process(platform, tmp_path)
    yield process
    process.stop(signal.SIGKILL)


async def started(process: Process, platform: Platform, http: httpx.AsyncClient) -> Sample:
    process.start()
    sample = Sample(platform, Settings(), http)

    async def ready() -> bool:
        try:
            return await sample.ready()
        except httpx.TransportError:
            return False

    await eventually(ready, within=20)
    return sample


async def test_what_was_answered_survives_a_kill(process: Process, platform: Platform) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as http:
        sample = await started(process, platform, http)
        assert (await sample.push(webhook_id="a", revision=7)).status_code == 204
        process.stop(signal.SIGKILL)
        sample = await started(process, platform, http)

        assert (await sample.push(webhook_id="a", revision=7)).status_code == 204
        assert (await sample.push(webhook_id="b", revision=6)).status_code == 204
        assert await sample.verdicts() == ["applied", "duplicate", "stale_revision"]
        assert len(platform.subscriptions) == 1
        assert "rotate-secret" not in platform.calls


async def test_an_open_page_does_not_hold_it_back_from_stopping(process: Process, platform: Platform) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as http:
        await started(process, platform, http)
        async with http.stream("GET", "/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: changed"
            process.stop(signal.SIGTERM)
            assert "event: changed" not in [line async for line in lines]
    assert "timeout" not in process.log.read_text()


async def test_logs_hold_ids_and_no_secrets(process: Process, platform: Platform) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as http:
        sample = await started(process, platform, http)
        await sample.push(webhook_id="the-push")
        await http.get("/?SECRET-QUERY")
    process.stop(signal.SIGTERM)
    log = process.log.read_text()

    assert '"webhook_id": "the-push"' in log
    assert platform.secret_of("identity-security") not in log
    for secret in ("app-demo-secret", "token-of", "SECRET-QUERY", "Contoso"):
        assert secret not in log


@pytest.mark.parametrize(("name", "value"), [("APP_ID", "Sesame"), ("DATA_DIR", "/proc/sesame"), ("HTTP", "sesame")])
def test_a_wrong_setting_is_one_readable_line(process: Process, name: str, value: str) -> None:
    stopped = process.run(**{name: value})

    assert stopped.returncode == 2
    assert len(stopped.stderr.splitlines()) == 1
    assert name in stopped.stderr


def test_help_explains_the_settings(process: Process) -> None:
    assert "NOTIFIER_URL" in process.run("--help").stdout
