"""The only reader of time.

Everything that needs time gets a Clock as a parameter; the simulation passes a virtual one. Data lives by
monotonic time only: wall clocks jump and are never compared (docs/guarantees.md, P6).
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Monotonic time of one process."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """CLOCK_MONOTONIC of the operating system."""

    # Not a method around it: it is asked for each hit of a near cache.
    now = staticmethod(time.monotonic)


def calendar_now() -> datetime:
    """The date, in UTC, for what people write dates for: the end of a token, a line of a report. It decides
    over no data and no lock."""
    return datetime.now(UTC)
