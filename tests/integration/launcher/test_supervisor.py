"""Order, restarts and the end of a stack, with stand-in programs."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from launcher.errors import LauncherError
from launcher.parts import HttpService, Job
from launcher.ports import free_port
from launcher.supervisor import Member, State, Supervisor
from support.eventually import eventually

# Takes a moment to end, as services do.
SERVICE = """
import http.server, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.2), sys.exit()))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Record:
    """Remembers what the supervisor told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, State]] = []
        self.notes: list[str] = []

    def changed(self, name: str, state: State, note: str = "") -> None:
        self.told.append((name, state))
        self.notes.append(note)

    def position(self, name: str, state: State) -> int:
        return self.told.index((name, state))


@pytest.fixture
def service(tmp_path: Path) -> Callable[..., HttpService]:
    def make(name: str, program: str = SERVICE) -> HttpService:
        port = free_port()
        return HttpService(
            name,
            argv=[sys.executable, "-c", program, str(port)],
            env={},
            port=port,
            log_file=tmp_path / f"{name}.log",
        )

    return make


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    def make(name: str, program: str) -> Job:
        return Job(name, argv=[sys.executable, "-c", program], env={}, log_file=tmp_path / f"{name}.log")

    return make


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[None]:
    await supervisor.start()
    keeping = asyncio.create_task(supervisor.keep_running())
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await supervisor.stop()


async def test_parts_start_after_what_they_need_and_stop_before_it(
    service: Callable[..., HttpService], job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record()
    broker, topics, app = service("broker"), job("topics", "pass"), service("app")
    app_ran_when_the_broker_was_stopped = []

    async def stop_broker() -> None:
        app_ran_when_the_broker_was_stopped.append(app.process.running)
        await broker.process.stop()

    monkeypatch.setattr(broker, "stop", stop_broker)
    members = [
        Member(name="app", part=app, needs=["topics"], uses=["broker"]),
        Member(name="topics", part=topics, once=True),
        Member(name="broker", part=broker),
    ]
    async with running(Supervisor(members, record)):
        assert [part.process.running for part in (broker, topics, app)] == [True, False, True]
    assert record.position("topics", State.READY) < record.position("app", State.STARTING)
    assert app_ran_when_the_broker_was_stopped == [False]
    assert not any(part.process.running for part in (broker, app))


async def test_a_part_that_was_killed_is_named_and_runs_again(service: Callable[..., HttpService]) -> None:
    record = Record()
    app = service("app")
    async with running(Supervisor([Member(name="app", part=app)], record)):
        first = app.process.pid
        app.process.send_signal(signal.SIGKILL)

        async def runs_again() -> bool:
            return record.told.count(("app", State.READY)) == 2

        await eventually(runs_again, what="the part to be ready again")
        assert app.process.pid != first
    note = record.notes[record.position("app", State.ENDED)]
    assert "ended with status -9, starts again in 0.5 s" in note
    assert "app.log" in note


async def test_a_failed_job_fails_the_start_with_its_last_words(
    service: Callable[..., HttpService], job: Callable[..., Job]
) -> None:
    broker = service("broker")
    members = [
        Member(name="broker", part=broker),
        Member(name="topics", part=job("topics", "print('no such broker'); raise SystemExit(1)"), needs=["broker"]),
        Member(name="app", part=service("app"), needs=["topics"]),
    ]
    record = Record()
    supervisor = Supervisor(members, record)
    with pytest.raises(LauncherError, match=r"topics failed with status 1\n.*topics.log:\n +no such broker"):
        await supervisor.start()
    await supervisor.stop()
    assert not broker.process.running
    assert ("app", State.STARTING) not in record.told
