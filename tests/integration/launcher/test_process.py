"""Child processes: how they end, and that none outlives the launcher."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import StartError
from launcher.process import ChildProcess
from support.eventually import eventually

ENV = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
PARENT = """
import asyncio, sys
from pathlib import Path
from launcher.process import ChildProcess
async def main():
    child = ChildProcess("child", argv=[sys.executable, "-c", sys.argv[2]], env={}, log_file=Path(sys.argv[1]))
    child.spawn()
    print(child.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def child(tmp_path: Path, *argv: str) -> ChildProcess:
    return ChildProcess("child", argv=argv, env=ENV, log_file=tmp_path / "logs" / "child.log")


def has_ended(pid: int) -> bool:
    """Whether the process is gone, or only waits for its new parent to take note (proc_pid_stat(5))."""
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


async def ready(process: ChildProcess) -> None:
    async def is_up() -> bool:
        return "up" in process.log_file.read_text()

    await process.wait_until_ready(is_up, timeout=10)


async def test_a_child_ends_on_sigterm(tmp_path: Path) -> None:
    process = child(tmp_path, sys.executable, "-c", SLEEPER)
    process.spawn()
    await ready(process)
    await process.stop(grace=10)
    assert process.exit_status == -signal.SIGTERM


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = child(tmp_path, sys.executable, "-c", STUBBORN)
    process.spawn()
    await ready(process)
    await process.stop(grace=0.2)
    assert process.exit_status == -signal.SIGKILL


async def test_a_child_gets_no_variable_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    process = child(tmp_path, "/usr/bin/env")
    process.spawn()
    assert await process.wait(10) == 0
    assert process.log_file.read_text().splitlines() == [f"{name}={value}" for name, value in ENV.items()]


async def test_a_child_that_ends_before_it_is_ready_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = child(tmp_path, sys.executable, "-c", "print('PORT: is not set'); raise SystemExit(2)")
    process.spawn()

    async def never() -> bool:
        return False

    with pytest.raises(StartError, match=r"child ended with status 2\n.*child.log:\n +PORT: is not set"):
        await process.wait_until_ready(never, timeout=10)


async def test_a_child_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    process = child(tmp_path, sys.executable, "-c", SLEEPER)
    process.spawn()

    async def never() -> bool:
        return False

    with pytest.raises(StartError, match="child was not ready after 0 s"):
        await process.wait_until_ready(never, timeout=0.1)
    await process.kill()


async def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    process = child(tmp_path, "/no/such/program")
    process.spawn()
    assert await process.wait(10) != 0
    assert "cannot run /no/such/program: No such file or directory" in process.log_tail()


async def test_no_child_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    parent = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", PARENT, str(log), STUBBORN], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))

    async def is_up() -> bool:
        return "up" in log.read_text()

    await eventually(is_up, what="the child to run")
    parent.kill()
    parent.wait()

    async def is_gone() -> bool:
        return has_ended(pid)

    await eventually(is_gone, what="the child to go with its parent")
