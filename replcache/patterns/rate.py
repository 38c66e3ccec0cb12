"""Rates as people write them ("2k/s"), and keeping to them."""

import asyncio
import re
from collections.abc import Callable

from replcache.errors import InvalidRequest

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kM]?)\s*(?:/\s*(s|m|h))?")
_FACTOR = {"": 1.0, "k": 1e3, "M": 1e6}
_PERIOD_S = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_rate(value: str | float | int | None) -> float:
    """A number a second of "2k/s", "500", "90/m" or a number; None: no limit.

    Raises:
        InvalidRequest: not a rate, or not above 0.
    """
    if value is None:
        return float("inf")
    if isinstance(value, int | float) and not isinstance(value, bool):
        rate = float(value)
    elif isinstance(value, str) and (match := _RATE.fullmatch(value.strip())):
        rate = float(match[1]) * _FACTOR[match[2]] / _PERIOD_S[match[3]]
    else:
        raise InvalidRequest(f'rate={value!r} is no rate: write for example "500/s" or "2k/s"', field="rate")
    if not rate > 0:
        raise InvalidRequest(f"rate={value!r} must be above 0", field="rate")
    return rate


class Pace:
    """Lets `rate` things happen in a second, without bursts after a pause."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate = rate
        self._now = now
        self._free_at = now()

    async def take(self, count: int) -> None:
        """Waits until `count` more may happen."""
        wait_s = self._free_at - self._now()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._free_at = max(self._free_at, self._now()) + count / self._rate
