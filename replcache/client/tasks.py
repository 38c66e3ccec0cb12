"""Background tasks with an owner: none outlives it, none fails in silence."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_LOGGER = logging.getLogger("replcache.client")


class TaskOwner:
    """Holds the tasks of one client; the only place in replcache/client that creates tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.error("client task %s failed", task.get_name(), exc_info=error)

    async def close(self, grace_s: float = 0.0) -> None:
        """Cancels what still runs after grace_s, and waits for it."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks and grace_s:
            _, left = await asyncio.wait(tasks, timeout=grace_s)
            tasks = list(left)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def is_task_cancelled() -> bool:
    """Whether a CancelledError means this task, not a call of grpc.aio that was ended under it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
