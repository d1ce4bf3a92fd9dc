"""Tasks that live as long as the service end with it."""

import asyncio

from shared.background import end


async def test_a_task_whose_cancellation_was_lost_is_cancelled_again() -> None:
    """As a driver can lose it; a service that waits for such a task would never stop."""
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    async def fails() -> None:
        raise RuntimeError("whatever")

    tasks = [asyncio.create_task(work()), asyncio.create_task(fails())]
    await asyncio.sleep(0)
    await end(*tasks, again_after=0.01)
    assert lost == 2
    assert all(task.done() for task in tasks)
