"""Supervised background tasks: every task has an owner, and none ends unnoticed.

The only module (besides asyncio.TaskGroup users) that creates tasks. A background task is expected to run
until its owner closes; one that raises or returns earlier is reported to `on_failure`, which normally stops
the node: a node without one of its loops would look alive and do nothing. A short task may end by itself,
but an exception in it counts as a failure as well.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from replcache.observability.logs import get_logger

_log = get_logger(__name__)
T = TypeVar("T")


class UnexpectedEnd(Exception):
    """A background task returned although its owner was not closing."""


class Supervisor:
    """Owns tasks. Nothing happens in the constructor; close() may be called twice."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        """on_failure: called on the loop with the task's name and its exception; must not raise."""
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._short: set[asyncio.Task[Any]] = set()
        # Background tasks whose owner ended them early, with cancel().
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._closing = False

    def background(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task that is to run until close()."""
        return self._start(name, work, ends=False)

    def short(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task that ends by itself."""
        return self._start(name, work, ends=True)

    def owned(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts a task whose result or error its caller awaits (normally behind asyncio.shield), so an
        exception is the caller's business and no failure of the node."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        self._short.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._short.discard(task)
        if not task.cancelled():
            # Marks the exception as seen: when the caller was cancelled, nobody else will look at it.
            task.exception()

    def _start(self, name: str, work: Coroutine[Any, Any, None], ends: bool) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        if ends:
            self._short.add(task)
        task.add_done_callback(lambda done: self._ended(done, ends))
        return task

    def _ended(self, task: asyncio.Task[None], ends: bool) -> None:
        self._tasks.discard(task)
        self._short.discard(task)
        expected = ends or self._closing or task in self._cancelled
        self._cancelled.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None and not expected:
            error = UnexpectedEnd(f"background task {task.get_name()} ended")
        if error is not None:
            _log.error("task_failed", task=task.get_name(), exc_info=error)
            self._on_failure(task.get_name(), error)

    def cancel(self, task: asyncio.Task[None]) -> None:
        """Ends one task before the others; that is not an unexpected end."""
        if task in self._tasks:
            self._cancelled.add(task)
            task.cancel()

    def guard(self, name: str, function: Callable[..., object], *args: object) -> bool:
        """Calls `function`, a callback that must not raise; an exception counts as the failure of a task.

        Returns:
            False when it raised and `on_failure` has been told.
        """
        try:
            function(*args)
        except Exception as err:  # noqa: BLE001  # the boundary: reported, and the node stops
            _log.error("callback_failed", callback=name, exc_info=err)
            self._on_failure(name, err)
            return False
        return True

    async def close(self, short_timeout_s: float = 0.0) -> None:
        """Lets short tasks finish for a while, cancels what is left and waits until all are gone."""
        self._closing = True
        if short_timeout_s > 0 and self._short:
            await asyncio.wait(set(self._short), timeout=short_timeout_s)
        while self._tasks:
            tasks = set(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
