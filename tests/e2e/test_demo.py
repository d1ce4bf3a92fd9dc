"""What a person at a terminal relies on: `launcher up` starts everything, and nothing of it stays behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from support.eventually import eventually
from support.ports import free_ports

START_SECONDS = 180


class Terminal:
    """A started command and what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.printed = ""
        self._read_to = 0

    async def says(self, text: str, *, within: float = 30) -> None:
        """Read on until the text is printed, after what was waited for before."""
        assert self.process.stdout is not None
        async with asyncio.timeout(within):
            while (found := self.printed.find(text, self._read_to)) < 0:
                line = await self.process.stdout.readline()
                assert line, f"ended without saying {text!r}:\n{self.printed}"
                self.printed += line.decode()
        self._read_to = found + len(text)

    async def ends(self, *, within: float = 30) -> int:
        """The exit status, once everything was read."""
        assert self.process.stdout is not None
        async with asyncio.timeout(within):
            self.printed += (await self.process.stdout.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def launcher(*words: str) -> AsyncIterator[Terminal]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "launcher", *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        yield Terminal(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def children(parent: int) -> dict[int, str]:
    """Living children of a process: command lines by process id (proc_pid_stat(5))."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_the_demo_starts_survives_a_crash_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ports = free_ports()
    words = [word for name, port in ports.items() for word in ("--port", f"{name}={port}")]
    up = ["up", "--data", str(tmp_path), *words]

    async with launcher(*up) as demo:
        await demo.says("Ctrl-C stops everything.", within=START_SECONDS)
        assert f"Console      http://localhost:{ports['gateway']}/integrations/microsoft-entra-id" in demo.printed

        async with launcher(*up) as second:
            assert await second.ends() == 1
        assert f"a stack on {tmp_path} runs already (process {demo.process.pid}," in second.printed

        async with launcher("up", "--data", str(tmp_path / "other"), *words) as third:
            assert await third.ends() == 1
        taken = re.findall(r"port (\d+) \(([a-z-]+)\) is taken", third.printed)
        assert {name: int(port) for port, name in taken} == ports

        async with launcher("token", "--data", str(tmp_path), "--role", "operator") as token:
            assert await token.ends() == 0
        async with httpx.AsyncClient(trust_env=False) as client:
            bearer = {"authorization": f"Bearer {token.printed.strip()}"}
            answer = await client.get(f"http://localhost:{ports['registry']}/v1/tenants", headers=bearer)
        assert (answer.status_code, answer.json()["items"]) == (200, [])

        (registry,) = (pid for pid, command in children(demo.process.pid).items() if "tenant_registry" in command)
        os.kill(registry, signal.SIGKILL)
        await demo.says("tenant-registry: ended")
        await demo.says("tenant-registry: ready", within=60)

        parts = children(demo.process.pid)
        assert len(parts) == 8, parts
        demo.process.send_signal(signal.SIGINT)
        assert await demo.ends() == 0
        assert [pid for pid in parts if alive(pid)] == []

    async with launcher(*up) as demo:
        await demo.says("Ctrl-C stops everything.", within=START_SECONDS)
        parts = children(demo.process.pid)
        demo.process.kill()

        async def nothing_is_left() -> bool:
            return not any(alive(pid) for pid in parts)

        await eventually(nothing_is_left, what="the parts to end with the launcher that was killed")
