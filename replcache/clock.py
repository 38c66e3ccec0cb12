"""The only reader of time.

Everything that needs time gets a Clock as a parameter; the simulation passes a virtual one. Only monotonic
time exists here: wall clocks jump and are never compared (docs/guarantees.md, P6).
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time of one process."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """CLOCK_MONOTONIC of the operating system."""

    def now(self) -> float:
        return time.monotonic()
