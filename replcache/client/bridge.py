"""From threads to the client's event loop and back, cheaply.

Threads put calls into a deque; the loop is woken once for all that are there. Each thread waits on a raw
lock of its own, which is released when the answer is there: measured, an order of magnitude less work than
concurrent.futures with its conditions. Threads that are answered together are let go one after the other
(turnstile.py). Waiting can be interrupted by Ctrl-C.
"""

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from replcache.client.tasks import TaskOwner
from replcache.client.turnstile import Turnstile
from replcache.errors import ClientClosed

# A call ends by itself at its deadline; the wait ends a little later even if the loop is dead.
_GRACE_S = 5.0
# Calls that close() ends from within know whether they may have been executed: they say so within this.
_END_GRACE_S = 0.05
# Turns of the loop without a new call after which no more are expected: some tens of microseconds.
_QUIET_TURNS_MAX = 4


class ThreadWaiter:
    """One blocked call. Has the methods of asyncio.Future that batches use; reused by its thread."""

    __slots__ = ("_error", "_is_done", "_lock", "_result")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._is_done = False
        self._result: Any = None
        self._error: BaseException | None = None

    # --- on the loop ---

    def done(self) -> bool:
        return self._is_done

    def set_result(self, result: Any) -> None:
        self._result = result
        self._is_done = True
        self.let_go()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._is_done = True
        self.let_go()

    def let_go(self) -> None:
        """Wakes the thread."""
        self._lock.release()

    # --- in the thread ---

    def wait(self, timeout_s: float | None) -> bool:
        """False: nothing came in time; the waiter must not be used again."""
        if timeout_s is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))

    def take(self) -> tuple[Any, BaseException | None]:
        """What came, a result or an error; makes the waiter ready for the next call."""
        outcome = self._result, self._error
        self._is_done = False
        self._result = self._error = None
        return outcome

    def take_or_raise(self) -> Any:
        result, error = self.take()
        if error is not None:
            raise error
        return result


class BridgeWaiter(ThreadWaiter):
    """The waiter of a thread's plain calls: tells the bridge that the thread may soon be back."""

    __slots__ = ("_bridge", "_place", "_turnstile")

    def __init__(self, bridge: "Bridge") -> None:
        super().__init__()
        self._bridge = bridge
        self._turnstile: Turnstile | None = None
        self._place = 0

    def set_result(self, result: Any) -> None:
        self._result = result
        self._is_done = True
        self._bridge.answered(self)

    def stand_in(self, turnstile: Turnstile, place: int) -> None:
        self._place = place
        self._turnstile = turnstile

    def waits_in(self, turnstile: Turnstile) -> bool:
        return self._turnstile is turnstile

    def let_go(self) -> None:
        """Harmless when it was done before: wait() knows whether there is an answer."""
        with suppress(RuntimeError):
            self._lock.release()

    def wait(self, timeout_s: float | None) -> bool:
        while super().wait(timeout_s):
            turnstile = self._turnstile
            if turnstile is not None:
                self._turnstile = None
                turnstile.pass_on(self._place)
            if self._is_done:
                return True
        return False


_bridges: "weakref.WeakSet[Bridge]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for bridge in _bridges:
        bridge.is_forked = True


os.register_at_fork(after_in_child=_after_fork_in_child)


class Bridge:
    """A thread with an event loop, shared by all threads that use one Client."""

    def __init__(self) -> None:
        self.is_forked = False
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...], ThreadWaiter]] = deque()
        self._is_waking = False
        # Answers given to threads that have not come back yet with another call; a guess, since a thread
        # may do something else, which is why looking for them is bounded by _QUIET_TURNS_MAX.
        self.expected = 0
        self._quiet_turns = 0
        # Answered in this turn of the loop.
        self._answered: list[BridgeWaiter] = []
        # Threads are passing through these; until then their new calls wait, to go together.
        self._turnstiles: set[Turnstile] = set()
        self._is_gathering = False
        # Told on the loop when messages should wait (True) and when they should go (False).
        self.on_gathering: Callable[[bool], None] | None = None
        self._local = threading.local()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._thread_id = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: TaskOwner | None = None
        self.is_closed = False

    # --- life ---

    def start(self, on_loop: Callable[[], None]) -> None:
        """Starts the thread unless it runs; `on_loop` is called there first, and its error raised here."""
        with self._guard:
            if self.is_closed:
                raise ClientClosed("the client is closed")
            if self._thread is not None:
                return
            self._loop = _new_loop()
            self._tasks = TaskOwner()
            # First in the queue, so that no call of another thread is run before it.
            waiter = ThreadWaiter()
            self._put(_call_in_loop, (on_loop, waiter), waiter)
            thread = threading.Thread(target=self._run, args=(self._loop,), name="replcache", daemon=True)
            thread.start()
            self._thread = thread
            _bridges.add(self)
        try:
            if not waiter.wait(_GRACE_S):
                raise ClientClosed("the client's event loop did not start")
            waiter.take_or_raise()
        except BaseException:
            self.close(None)
            raise

    @property
    def is_running(self) -> bool:
        return self._thread is not None and not self.is_closed and not self.is_forked

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._thread_id = threading.get_ident()
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()
            for turnstile in self._turnstiles:
                turnstile.let_all_go()
            for answered in self._answered:
                answered.let_go()
            # From here on no call gets in: waking the loop fails. Those that just did are never run.
            self._is_waking = False
            while self._calls:
                self._calls.popleft()[2].set_exception(ClientClosed("the client is closed"))

    def close(self, cleanup: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        """Runs `cleanup` on the loop, ends the loop and its thread. May be called twice."""
        with self._guard:
            if self.is_closed:
                return
            was_running = self.is_running
            self.is_closed = True
        if not was_running:
            return
        assert self._loop is not None
        assert self._thread is not None
        waiter = ThreadWaiter()
        self._put(self._spawn, (lambda: self._end(cleanup), waiter, []), waiter)
        waiter.wait(_GRACE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(_GRACE_S)

    async def _end(self, cleanup: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        try:
            if cleanup is not None:
                await cleanup()
        finally:
            # Calls that sleep before another try, or wait for a worker thread: nobody else would end them.
            assert self._tasks is not None
            await self._tasks.close(_END_GRACE_S)

    # --- calls ---

    def call(self, function: Callable[..., None], args: tuple[Any, ...], timeout_s: float) -> Any:
        """Runs function(*args, waiter) on the loop and waits for the waiter.

        KeyboardInterrupt: stops the waiting; the call may still be executed.
        """
        self._check()
        local = self._local
        waiter: ThreadWaiter | None = getattr(local, "waiter", None)
        if waiter is None:
            waiter = BridgeWaiter(self)
        # Only given back with its answer taken: when this call is interrupted, wherever, an answer that comes
        # later must not be taken for that of the next call.
        local.waiter = None
        self.expected -= 1
        self._put(function, (*args, waiter), waiter)
        if not waiter.wait(timeout_s + _GRACE_S):
            raise ClientClosed("the client's event loop does not run any more")
        result, error = waiter.take()
        local.waiter = waiter
        if error is not None:
            raise error
        return result

    def run(self, coroutine: Callable[[], Coroutine[Any, Any, Any]], timeout_s: float | None) -> Any:
        """Runs a coroutine on the loop and waits for its result; interrupting cancels it.

        Args:
            timeout_s: by when it ends by itself; None: no bound.
        """
        self._check()
        waiter = ThreadWaiter()
        tasks: list[asyncio.Task[Any]] = []
        self._put(self._spawn, (coroutine, waiter, tasks), waiter)
        try:
            answered = waiter.wait(None if timeout_s is None else timeout_s + _GRACE_S)
        except BaseException:
            self._put(_cancel, (tasks,), ThreadWaiter())
            raise
        if not answered:
            raise ClientClosed("the client's event loop does not run any more")
        return waiter.take_or_raise()

    def _check(self) -> None:
        if self.is_forked:
            raise ClientClosed(
                "this client was made before os.fork(): gRPC connections do not survive a fork; make a new "
                "client in the child process"
            )
        if self.is_closed:
            raise ClientClosed("the client is closed")
        if threading.get_ident() == self._thread_id:
            raise ClientClosed("a blocking call inside the client's own event loop would never end")

    def _put(self, function: Callable[..., None], args: tuple[Any, ...], waiter: ThreadWaiter) -> None:
        self._calls.append((function, args, waiter))
        if not self._is_waking:
            try:
                self._is_waking = True
                self._wake_loop()
            except BaseException:
                # Interrupted: whoever comes next wakes it, perhaps once more.
                self._is_waking = False
                raise

    def _wake_loop(self) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError as err:
            raise ClientClosed("the client is closed") from err

    # --- on the loop ---

    def answered(self, waiter: BridgeWaiter) -> None:
        """Its thread goes on in the next turn of the loop, with the others that are answered in this one."""
        if not self._answered:
            assert self._loop is not None
            self._loop.call_soon(self._let_go)
        self._answered.append(waiter)

    def _let_go(self) -> None:
        waiters, self._answered = self._answered, []
        self.expected += len(waiters)
        if len(waiters) == 1:
            waiters[0].let_go()
            return
        assert self._loop is not None
        # No thread needs to wake the loop with its next call: the last one through will.
        self._is_waking = True
        self._set_gathering(True)
        turnstile = Turnstile(self._loop, waiters, self._on_all_passed)
        self._turnstiles.add(turnstile)
        turnstile.open()

    def _on_all_passed(self, turnstile: Turnstile) -> None:
        self._turnstiles.discard(turnstile)
        self._drain()

    def _drain(self) -> None:
        """Takes the calls that are there; while threads that just got their answers keep coming back with
        new ones, looks again in the next turns before anything is sent, so that they share a message.

        Threads run one at a time (the GIL): without this the first of them would leave in a message of its
        own, and all the others would wait for its answer.
        """
        if self._turnstiles:
            return
        calls = self._calls
        came = bool(calls)
        while calls:
            self._take_one(*calls.popleft())
        if came:
            self._quiet_turns = 0
        else:
            self._quiet_turns += 1
        if self.expected > 0 and self._quiet_turns < _QUIET_TURNS_MAX:
            assert self._loop is not None
            self._set_gathering(True)
            self._loop.call_soon(self._drain)
            return
        self.expected = 0
        self._quiet_turns = 0
        # Before the last look: a call that is put after it wakes the loop again.
        self._is_waking = False
        while calls:
            self._take_one(*calls.popleft())
        self._set_gathering(False)

    def _take_one(self, function: Callable[..., None], args: tuple[Any, ...], waiter: ThreadWaiter) -> None:
        try:
            function(*args)
        except Exception as err:  # noqa: BLE001  # the boundary between two threads, as in _answer
            waiter.set_exception(err)

    def _set_gathering(self, is_gathering: bool) -> None:
        if self._is_gathering != is_gathering:
            self._is_gathering = is_gathering
            if self.on_gathering is not None:
                self.on_gathering(is_gathering)

    def _spawn(
        self,
        coroutine: Callable[[], Coroutine[Any, Any, Any]],
        waiter: ThreadWaiter,
        tasks: list[asyncio.Task[Any]],
    ) -> None:
        assert self._tasks is not None
        task = self._tasks.start(_answer(coroutine(), waiter), "replcache blocking call")
        tasks.append(task)
        task.add_done_callback(lambda task: _answer_cancelled(task, waiter))


async def _answer(coroutine: Coroutine[Any, Any, Any], waiter: ThreadWaiter) -> None:
    try:
        result = await coroutine
    except Exception as err:  # noqa: BLE001  # the boundary between two threads: everything is handed over
        waiter.set_exception(err)
    else:
        waiter.set_result(result)


def _answer_cancelled(task: "asyncio.Task[Any]", waiter: ThreadWaiter) -> None:
    # Here because a task that is cancelled before its first step runs nothing of its own.
    if task.cancelled():
        waiter.set_exception(ClientClosed("the client was closed, or the call cancelled"))


def _call_in_loop(function: Callable[[], None], waiter: ThreadWaiter) -> None:
    function()
    waiter.set_result(None)


def _cancel(tasks: list["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it is installed: about half the time for each message."""
    try:
        import uvloop  # optional on some platforms
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
