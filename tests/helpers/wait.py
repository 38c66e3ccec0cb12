"""Waiting for conditions with deadlines, instead of sleeping for luck.

REPLCACHE_TEST_TIMEOUT_FACTOR stretches every deadline for slow machines.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

POLL_INTERVAL_S = 0.02


def scaled(timeout_s: float) -> float:
    return timeout_s * float(os.environ.get("REPLCACHE_TEST_TIMEOUT_FACTOR", "1"))


def wait_until(
    predicate: Callable[[], object],
    timeout_s: float = 5.0,
    what: str = "condition",
    describe: Callable[[], object] = lambda: "",
) -> object:
    """Polls until `predicate()` is truthy and returns its value.

    Raises:
        AssertionError: not so within timeout_s (scaled); the message ends with describe().
    """
    end = time.monotonic() + scaled(timeout_s)
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {scaled(timeout_s)} s: {what}; last state: {describe()}")
        time.sleep(POLL_INTERVAL_S)


async def async_wait_until(
    predicate: Callable[[], object | Awaitable[object]],
    timeout_s: float = 5.0,
    what: str = "condition",
    describe: Callable[[], object] = lambda: "",
) -> object:
    """As wait_until, for coroutines and plain predicates on a running loop."""
    end = time.monotonic() + scaled(timeout_s)
    while True:
        value = predicate()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {scaled(timeout_s)} s: {what}; last state: {describe()}")
        await asyncio.sleep(POLL_INTERVAL_S)
