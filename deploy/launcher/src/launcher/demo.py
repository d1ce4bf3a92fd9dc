"""One run of the whole stack at a terminal: start, say where everything is, keep it running, stop it."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

from launcher.addresses import Addresses
from launcher.display import Display
from launcher.folder import StackFolder
from launcher.ports import LOOPBACK
from launcher.stack import issuer, members
from launcher.supervisor import Supervisor

# make and timeout pass on a signal that the terminal or the process group has already delivered.
SAME_SIGNAL_SECONDS = 1.0

READY = """
The consent platform runs; it was ready after {seconds:.1f} s.

  Console      {console}/integrations/microsoft-entra-id
               Sign in as "Northwind admin" and click Grant permissions. At Microsoft Entra ID (the sandbox) sign in
               as admin@contoso.com with the password Passw0rd!, review the permissions and accept.
  Sample app   {app}  shows what is pushed to it, live

  Registry     {registry}/openapi.json
  Notifier     {notifier}/openapi.json
  Sandbox      {sandbox}  tenants, users and faults of the stand-in for Entra ID
  Issuer       {idp}
  Kafka        {loopback}:{kafka}
  MongoDB      mongodb://{loopback}:{mongod}/?replicaSet=rs0

Logs are in {logs}. A token for the APIs: make token ROLE=operator. Ctrl-C stops everything.
"""


async def run(folder: StackFolder, addresses: Addresses) -> None:
    """Run the stack until Ctrl-C, SIGTERM or the end of the terminal; nothing of it is left then.

    Raises:
        LauncherError: a port is taken, the folder is in use, or a part did not start.
    """
    display = Display()
    with folder.locked({"console": addresses.url("gateway"), "issuer": issuer(addresses)}):
        addresses.check_free()
        supervisor = Supervisor(members(folder, addresses, progress=display.download), display)
        stopping = _on_signals(supervisor)
        try:
            with display:
                await _until(stopping, supervisor.start())
            if not stopping.is_set():
                display.say(_ready_text(folder, addresses, seconds=display.seconds))
                await _until(stopping, supervisor.keep_running())
        finally:
            display.say("\nStopping (Ctrl-C again: at once) ...")
            await supervisor.stop()
    display.say("Stopped. The next start finds everything as it is now.")


def _on_signals(supervisor: Supervisor) -> asyncio.Event:
    """An event that the first signal sets; the second ends all parts at once, which loses nothing either."""
    stopping = asyncio.Event()
    kills: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    first = 0.0

    def on_signal() -> None:
        nonlocal first
        if not stopping.is_set():
            first = loop.time()
            stopping.set()
        elif loop.time() - first > SAME_SIGNAL_SECONDS:
            kills.add(loop.create_task(_end_at_once(supervisor)))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    return stopping


async def _end_at_once(supervisor: Supervisor) -> None:
    """End all parts and this process, whatever it still waits for (a download cannot be interrupted)."""
    await supervisor.kill()
    os._exit(1)


async def _until(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Await the work, or cancel it when it is time to stop."""
    tasks = [asyncio.create_task(work), asyncio.create_task(stopping.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]


def _ready_text(folder: StackFolder, addresses: Addresses, *, seconds: float) -> str:
    return READY.format(
        seconds=seconds,
        console=addresses.url("gateway"),
        loopback=LOOPBACK,
        kafka=addresses.ports["kafka"],
        mongod=addresses.ports["mongod"],
        logs=folder.logs,
        **{name: addresses.url(name) for name in ("app", "registry", "notifier", "sandbox", "idp")},
    )
