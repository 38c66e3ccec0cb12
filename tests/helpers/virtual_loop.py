"""An asyncio loop whose time passes only when everybody waits: minutes of sleeping take milliseconds.

For code that sleeps and takes its time from a Clock. No real I/O may be waited for.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, moves the time forward."""

    def __init__(self) -> None:
        super().__init__()
        self.time_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            # Only another thread can wake the loop now (asyncio.to_thread).
            return super().select(0.001)
        if not ready and timeout is not None:
            self.time_s += max(0.0, timeout)
        return ready


class VirtualClock:
    """The time of the loop, as a Clock."""

    def __init__(self, selector: _JumpingSelector) -> None:
        self._selector = selector

    def now(self) -> float:
        return self._selector.time_s

    async def sleep(self, seconds: float) -> None:
        """Costs no real time."""
        await asyncio.sleep(seconds)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _JumpingSelector) -> None:
        super().__init__(selector)
        self._virtual = selector

    def time(self) -> float:
        return self._virtual.time_s


def run_virtually(work: Callable[[VirtualClock], Coroutine[Any, Any, T]]) -> T:
    """Runs work(clock) to its end on a loop of its own."""
    selector = _JumpingSelector()
    with asyncio.Runner(loop_factory=lambda: _VirtualLoop(selector)) as runner:
        return runner.run(work(VirtualClock(selector)))
