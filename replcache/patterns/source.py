"""Calling the functions that stand for the database: loaders and writers.

They may be plain functions or coroutine functions. Patterns are written as generators of steps, so that the
same order of steps serves both clients: a Cache step is a coroutine of the AsyncClient, a Source step is a
call into the database. The blocking client runs Source steps in the calling thread (a database session bound
to the thread, or a transaction, works as usual); the asyncio client awaits coroutine functions and gives
plain functions to a worker thread.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from replcache.client.blocking import Client
from replcache.errors import InvalidRequest

_LOGGER = logging.getLogger("replcache.patterns")


class Deleted:
    """Type of DELETED."""

    def __repr__(self) -> str:
        return "DELETED"


# The value of a row that is to be deleted.
DELETED: Final = Deleted()


class Row(NamedTuple):
    """One change that a writer brings to the database.

    key: as given to the view, without its prefix.
    value: as given to set(); DELETED: delete the row.
    revision: of the cluster's history; of two changes of a key the one with the higher revision is newer. A
        writer that lets only newer ones win may get the same change twice, or an old one late, without harm:
        see patterns/sql.py.
    """

    key: str
    value: Any
    revision: int


Loader = Callable[[str], Any]
Writer = Callable[[Sequence[Row]], Any]


@dataclass(frozen=True, slots=True)
class CacheStep:
    """`make()` runs on the client's loop. extra_s: beyond the timeouts of its calls, how long it may wait."""

    make: Callable[[], Coroutine[Any, Any, Any]]
    extra_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceStep:
    """`function(*args)` may block, and raise anything. to_end: see call_source."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    to_end: bool = False


Step = CacheStep | SourceStep
Steps = Generator[Step, Any, Any]


async def call_source(function: Callable[..., Any], *args: Any, to_end: bool = False) -> Any:
    """Awaits a coroutine function; runs a plain one in a worker thread.

    A thread can't be stopped. Whoever is cancelled while it runs leaves it to itself; or, with to_end, first
    waits for its end, so that what the caller tidies up is not followed by a commit.
    """
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is a coroutine function
    ):
        return await function(*args)
    if to_end:
        answer = await _in_thread_to_the_end(function, args)
    else:
        answer = await asyncio.to_thread(function, *args)
    return await answer if isinstance(answer, Awaitable) else answer


async def _in_thread_to_the_end(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    run = partial(contextvars.copy_context().run, function, *args)
    future = asyncio.get_running_loop().run_in_executor(None, run)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as err:
            cancelled = err
    if cancelled is None:
        return future.result()
    if (error := future.exception()) is not None:
        # The caller is told that it was cancelled.
        _LOGGER.info("%r failed after its caller was cancelled: %s", function, error)
    raise cancelled


async def run_async(steps: Steps) -> Any:
    """Runs the steps on the loop; returns what the generator returns."""

    async def do(step: Step) -> Any:
        if isinstance(step, CacheStep):
            return await step.make()
        return await call_source(step.function, *step.args, to_end=step.to_end)

    try:
        step = next(steps)
        while True:
            try:
                answer = await do(step)
            except BaseException as err:  # noqa: BLE001  # given to the generator, which decides
                step = steps.throw(err)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value


def run_blocking(client: Client, steps: Steps) -> Any:
    """Runs the steps for a thread."""

    def do(step: Step) -> Any:
        if isinstance(step, CacheStep):
            return client._run(step.make, None, step.extra_s)
        answer = step.function(*step.args)
        if inspect.iscoroutine(answer):
            answer.close()
            raise InvalidRequest(
                "the blocking client takes plain functions; use AsyncClient with coroutine functions",
                field="loader",
            )
        return answer

    try:
        step = next(steps)
        while True:
            try:
                answer = do(step)
            except BaseException as err:  # noqa: BLE001  # given to the generator, which decides
                step = steps.throw(err)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value


class SourceOutcome(NamedTuple):
    """What a call that must not end its caller came to; error None: it worked."""

    value: Any
    error: Exception | None


async def try_source(function: Callable[..., Any], *args: Any) -> SourceOutcome:
    """call_source for loops that go on: whatever the function raises is the outcome."""
    try:
        return SourceOutcome(await call_source(function, *args), None)
    except Exception as err:  # noqa: BLE001  # the boundary to code that we do not know
        return SourceOutcome(None, err)


def attempt(function: Callable[..., Any], *args: Any) -> SourceOutcome:
    """try_source for what neither blocks nor is awaited: the codec, which may be somebody's own."""
    try:
        return SourceOutcome(function(*args), None)
    except Exception as err:  # noqa: BLE001  # the boundary to code that we do not know
        return SourceOutcome(None, err)
