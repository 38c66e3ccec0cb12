"""Supervised tasks: every background task has an owner, and none ends unnoticed.

A Supervisor owns the tasks of one component. A task that raises, a task that should run for ever and returns,
and a callback that raises are reported to one `on_fatal` function, which stops the node: a component without
one of its tasks is broken in ways nobody tested. Here is one of the few places where any exception is caught.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

# Cancelled tasks only clean up; one that takes longer hangs, and waiting longer would not end it.
CLOSE_TIMEOUT_S = 5.0

FatalCallback = Callable[[BaseException], None]


class TaskEndedError(Exception):
    """A task that should run for ever ended, was cancelled by a stranger, or did not stop when told to."""


class Supervisor:
    """Owner of tasks; start() them, close() once or more often.

    Args:
        name: prefix of the task names, for debuggers.
        on_fatal: called on the loop with each unexpected end; must not raise.
    """

    def __init__(self, name: str, on_fatal: FatalCallback) -> None:
        self._name = name
        self._on_fatal = on_fatal
        self._tasks: set[asyncio.Task[Any]] = set()
        # Tasks whose cancellation was asked for through cancel() or close().
        self._expected: set[asyncio.Task[Any]] = set()
        self._closing = False

    def start(
        self, coroutine: Coroutine[Any, Any, Any], name: str, *, forever: bool = False
    ) -> asyncio.Task[Any]:
        """Starts a task; with `forever` its return is as unexpected as an exception.

        Raises:
            RuntimeError: after close().
        """
        if self._closing:
            coroutine.close()
            raise RuntimeError(f"{self._name} is closed, {name} can't be started")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._name}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._forever_done if forever else self._done)
        return task

    def cancel(self, task: asyncio.Task[Any]) -> None:
        """Ends one task early; that is not an unexpected end."""
        if not task.done():
            self._expected.add(task)
            task.cancel()

    def guard(self, function: Callable[..., object], *args: object) -> bool:
        """Calls `function`; False, and on_fatal has been told, when it raised."""
        try:
            function(*args)
        except Exception as err:  # noqa: BLE001  # the boundary: reported, and the node stops
            self._on_fatal(err)
            return False
        return True

    async def close(self) -> None:
        """Cancels all tasks and waits for their end, CLOSE_TIMEOUT_S at most. May be called twice."""
        self._closing = True
        current = asyncio.current_task()
        waited = {task for task in self._tasks if task is not current}
        for task in waited:
            self.cancel(task)
        if not waited:
            return
        _, hanging = await asyncio.wait(waited, timeout=CLOSE_TIMEOUT_S)
        for task in hanging:
            self._on_fatal(TaskEndedError(f"{task.get_name()} did not stop within {CLOSE_TIMEOUT_S} s"))

    def _done(self, task: asyncio.Task[Any]) -> bool:
        """Forgets the task; True when it ended without an error and without being told to."""
        self._tasks.discard(task)
        expected = task in self._expected
        self._expected.discard(task)
        if task.cancelled():
            if not expected:
                self._on_fatal(TaskEndedError(f"{task.get_name()} was cancelled by somebody else"))
            return False
        error = task.exception()
        if error is not None:
            self._on_fatal(error)
            return False
        return not expected

    def _forever_done(self, task: asyncio.Task[Any]) -> None:
        if self._done(task):
            self._on_fatal(TaskEndedError(f"{task.get_name()} ended"))
