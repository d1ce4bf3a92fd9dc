"""Tasks that live as long as the service."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

log = structlog.get_logger(__name__)

# Longer than a task may take to end in order: a consumer gives its batch in hand thirty seconds.
CANCEL_AGAIN_SECONDS = 35.0


@asynccontextmanager
async def background(**tasks: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the coroutines beside the body; on leaving, cancel them and wait for each.

    They are meant never to end. One that does has met a defect: it is logged, and the process is asked to stop, so that
    its supervisor starts it anew instead of leaving half a service running.
    """
    running = [asyncio.create_task(task, name=name) for name, task in tasks.items()]
    for task in running:
        task.add_done_callback(_ended)
    try:
        yield
    finally:
        for task in running:
            task.remove_done_callback(_ended)
        await end(*running)


async def end(*tasks: asyncio.Task[Any], again_after: float = CANCEL_AGAIN_SECONDS) -> None:
    """Cancel the tasks and wait until all of them have ended, however they do.

    One that goes on is cancelled again: PyMongo's asynchronous client (4.20) can lose a cancellation that meets it in
    the middle of an operation, which then returns as if nothing had been.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=again_after)
    await asyncio.gather(*tasks, return_exceptions=True)


def _ended(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    log.error("background.task_ended", task=task.get_name(), exc_info=error)
    os.kill(os.getpid(), signal.SIGTERM)
