"""Makes a failing schedule small: leaves out faults as long as it fails in the same way.

Delta debugging (Zeller and Hildebrandt, IEEE TSE 2002) over the explicit list of faults; each try is a run of
some tens of milliseconds.
"""

from collections.abc import Callable

from tests.simulation.schedule import Schedule
from tests.simulation.world import play


def fails_as(schedule: Schedule) -> str:
    """Kind of the violation, or ""."""
    violation = play(schedule).violation
    return violation.kind if violation is not None else ""


def shrink(schedule: Schedule, kind_of: Callable[[Schedule], str] = fails_as) -> Schedule:
    """The smallest schedule found that breaks the same promise."""
    wanted = kind_of(schedule)
    assert wanted, "only a failing schedule can be shrunk"
    size = max(1, len(schedule.faults) // 2)
    while size >= 1:
        at = 0
        while at < len(schedule.faults):
            candidate = schedule.without(range(at, min(at + size, len(schedule.faults))))
            if kind_of(candidate) == wanted:
                schedule = candidate
            else:
                at += size
        size //= 2
    return schedule
